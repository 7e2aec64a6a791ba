"""Let a runtime other than torch compute the parts of a localizer that need no gradients."""

import logging
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from mining.config import Precision, Runtime
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.stage_recorder import StageRecorder
from mining.runtimes.choice import Compute, choose_compute
from mining.runtimes.cuda_graphs import GraphedPart
from mining.runtimes.openvino_part import CompiledPart, ConversionError, compile_part
from mining.runtimes.part import Timer

T = TypeVar("T")
_EVERY_STAGE = "backbone_features"  # method of every localizer
_log = logging.getLogger(__name__)


def use_runtime(
    localizer: Localizer,
    compute: Compute,
    recorder: StageRecorder | None,
    *,
    threads: int,
    timer: Timer,
    asked: tuple[Runtime, Precision] = ("auto", "auto"),
) -> Compute:
    """Replace the parts of a localizer by ones of the runtime: OpenVINO's on a CPU, CUDA graphs on a GPU.

    Args:
        localizer: The localizer, prepared for inference; changed.
        compute: The runtime and the precision.
        recorder: Records stages of its backbone; None if none are recorded.
        threads: Number of threads that will use the localizer.
        timer: Times each pass of a replaced part.
        asked: The settings; with `auto`, torch computes what the runtime cannot convert.

    Returns:
        How passes are computed now.

    Raises:
        ModelError: The runtime was asked for by name and cannot convert the localizer.
    """
    if compute.device.type == "cuda":
        _use_cuda_graphs(localizer, compute, recorder, timer)
    if compute.runtime == "torch":
        return compute

    def compiled(name: str) -> CompiledPart:
        return compile_part(
            localizer, name, recorder=recorder, precision=compute.precision, threads=threads, timer=timer
        )

    try:
        parts = make_parts(localizer, recorder, compiled, lambda part: part.stages)
    except ConversionError as error:
        refuse_or_warn(error, asked)
        return choose_compute(compute.device, "torch", asked[1])
    every_stage = parts.pop(_EVERY_STAGE, None)
    if every_stage is not None and recorder is not None:
        recorder.run_stages = every_stage.stage_features
    for name, part in parts.items():
        setattr(localizer, name, part)
    return compute if parts else choose_compute(compute.device, "torch", asked[1])


def _use_cuda_graphs(localizer: Localizer, compute: Compute, recorder: StageRecorder | None, timer: Timer) -> None:
    parts = {
        name: GraphedPart(getattr(localizer, name), compute, recorder, timer)
        for name in (*localizer.inference_parts, _EVERY_STAGE)
    }
    if recorder is not None:
        recorder.run_stages = parts[_EVERY_STAGE].stage_features
    for name in localizer.inference_parts:
        setattr(localizer, name, parts[name])


def make_parts(
    localizer: Localizer, recorder: StageRecorder | None, make: Callable[[str], T], stages_of: Callable[[T], set[int]]
) -> dict[str, T]:
    """Make the parts of a localizer that a runtime needs, by the name of the method.

    Args:
        localizer: The localizer.
        recorder: Records stages of its backbone; None if none are recorded.
        make: Makes a part.
        stages_of: Returns the recorded stages that a part runs.

    Returns:
        Its inference parts; and the whole backbone, if computing maps does not run all stages that are recorded. (What
        gradients are needed of runs in torch.)
    """
    parts = {name: make(name) for name in localizer.inference_parts}
    if parts and recorder is not None and not localizer.needs_gradients:
        wanted = set(recorder.stages)
        if not any(wanted <= stages_of(part) for part in parts.values()):
            parts[_EVERY_STAGE] = make(_EVERY_STAGE)
    return parts


def refuse_or_warn(error: ConversionError, asked: tuple[Runtime, Precision]) -> None:
    """Say that OpenVINO cannot convert a network, and that torch runs it.

    Raises:
        ModelError: OpenVINO was asked for by name, or its precision int8.
    """
    runtime, precision = asked
    if precision == "int8":
        raise ModelError(f"OpenVINO cannot run this model in int8: {error}.") from None
    if runtime == "openvino":
        raise ModelError(f"OpenVINO cannot run this model: {error}. Use --runtime torch.") from None
    _warn_once(f"OpenVINO cannot run this model: {error}. PyTorch runs it, which is slower on a CPU.")


@cache
def _warn_once(sentence: str) -> None:
    _log.warning(sentence)
