"""Parts of a localizer, which runtimes compute in their own way: methods that compute a tensor from images."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor

from mining.localizers.stage_recorder import StageRecorder

Method = Callable[[Tensor], Tensor]
Timer = Callable[[], AbstractContextManager[None]]


def run_with_stages(method: Method, images: Tensor, recorder: StageRecorder | None) -> tuple[Tensor, dict[int, Tensor]]:
    """Run a method; return its result, and the features by index of the stages that ran and the recorder wants."""
    if recorder is None:
        return method(images), {}
    result, recorded = recorder.record_apart(lambda: method(images))
    return result, {stage: features[0] for stage, features in recorded.items() if features}


def is_same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are the same memory in the same shape."""
    return first.data_ptr() == second.data_ptr() and first.shape == second.shape
