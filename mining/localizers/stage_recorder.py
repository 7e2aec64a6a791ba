"""Record the features of a backbone's stages while a localizer computes its maps, so that they cost no further pass."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone

T = TypeVar("T")


class StageRecorder:
    """Records what stages of a backbone return; each thread has its own record.

    Args:
        backbone: The backbone.
        stages: Indices of the stages to record.
        whole: Whether to record outputs of stages as they are, with a transformer's class and register tokens.

    Attributes:
        stages: Indices of the stages that are recorded.
        run_stages: Computes the features of all these stages, in their order, from (B, 3, H, W) images; called where
            the localizer did not run them all.
    """

    def __init__(self, backbone: Backbone, stages: Sequence[int], *, whole: bool = False) -> None:
        self.stages = list(stages)
        self._whole = whole
        self.run_stages: Callable[[Tensor], Sequence[Tensor]] = self._run_backbone
        self._backbone = backbone
        self._local = threading.local()
        for stage in self.stages:
            backbone.stages[stage].register_forward_hook(self._hook(stage))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record this thread's passes inside the block; its earlier records are dropped."""
        self._local.records = {stage: [] for stage in self.stages}
        self._local.is_recording = True
        try:
            yield
        finally:
            self._local.is_recording = False

    def record_apart(self, compute: Callable[[], T]) -> tuple[T, dict[int, list[Tensor]]]:
        """Run a function with a record of its own; what this thread has recorded, or is recording, stays as it is.

        Returns:
            The function's result, and the features by stage, one tensor per pass.
        """
        outer = dict(vars(self._local))
        try:
            with self.recording():
                result = compute()
            return result, self.recorded()
        finally:
            vars(self._local).clear()
            vars(self._local).update(outer)

    def record(self, stage: int, features: Tensor) -> None:
        """Add the (B, D, h, w) features of a stage, if this thread is recording."""
        if self.is_recording:
            self._local.records[stage].append(features)

    @property
    def is_recording(self) -> bool:
        """Whether this thread is recording."""
        return bool(getattr(self._local, "is_recording", False))

    def recorded(self) -> dict[int, list[Tensor]]:
        """Return the features that this thread recorded by stage, one tensor per pass, and forget them."""
        records, self._local.records = getattr(self._local, "records", {}), {}
        return records

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the recorded features of a batch, and forget them.

        A localizer that does not run all of these stages (ORNet's maps need the shallow ones only) costs a pass of its
        own here.

        Args:
            images: (B, 3, H, W), the images that went through the network in the block.

        Returns:
            (B, D, h, w) for each of the stages.
        """
        recorded = self.recorded()
        if all(sum(map(len, recorded.get(stage, []))) == len(images) for stage in self.stages):
            return [_join(recorded[stage]) for stage in self.stages]
        return list(self.run_stages(images))

    def _run_backbone(self, images: Tensor) -> list[Tensor]:
        features, every = self._backbone.normalise(images), []
        for stage in self._backbone.stages:
            features = stage(features)
            every.append(features)
        return [self._kept(every[stage]) for stage in self.stages]

    def _kept(self, output: Tensor) -> Tensor:
        return (output if self._whole else self._backbone.cells_of(output)).detach()

    def _hook(self, stage: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.record(stage, self._kept(output))

        return keep


def _join(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
