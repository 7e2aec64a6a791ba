"""Let a runtime other than torch compute the parts of a localizer that need no gradients."""

import logging
from functools import cache

from mining.config import Precision, Runtime
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.stage_recorder import StageRecorder
from mining.runtimes.choice import Compute, choose_compute
from mining.runtimes.cuda_graphs import GraphedPart
from mining.runtimes.openvino_part import CompiledPart, ConversionError, compile_part
from mining.runtimes.part import Timer

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

    runtime, precision = asked
    try:
        parts = {name: compiled(name) for name in localizer.inference_parts}
        if parts and recorder is not None and not _runs_all_stages(localizer, parts, recorder):
            recorder.run_stages = compiled("backbone_features").stage_features
    except ConversionError as error:
        refuse_or_warn(error, runtime)
        return choose_compute(compute.device, "torch", precision)
    for name, part in parts.items():
        setattr(localizer, name, part)
    return compute if parts else choose_compute(compute.device, "torch", precision)


def _use_cuda_graphs(localizer: Localizer, compute: Compute, recorder: StageRecorder | None, timer: Timer) -> None:
    parts = {
        name: GraphedPart(getattr(localizer, name), compute, recorder, timer)
        for name in (*localizer.inference_parts, "backbone_features")
    }
    if recorder is not None:
        recorder.run_stages = parts["backbone_features"].stage_features
    for name in localizer.inference_parts:
        setattr(localizer, name, parts[name])


def _runs_all_stages(localizer: Localizer, parts: dict[str, CompiledPart], recorder: StageRecorder) -> bool:
    """Whether computing maps runs all stages that are recorded; what gradients are needed of runs in torch."""
    return localizer.needs_gradients or any(set(recorder.stages) <= part.stages for part in parts.values())


def refuse_or_warn(error: ConversionError, asked: Runtime) -> None:
    """Say that OpenVINO cannot convert a network, and that torch runs it.

    Raises:
        ModelError: OpenVINO was asked for by name.
    """
    if asked == "openvino":
        raise ModelError(f"OpenVINO cannot run this model: {error}. Use --runtime torch.") from None
    _warn_once(f"OpenVINO cannot run this model: {error}. PyTorch runs it, which is slower on a CPU.")


@cache
def _warn_once(sentence: str) -> None:
    _log.warning(sentence)
