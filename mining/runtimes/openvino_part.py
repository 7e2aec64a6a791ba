"""Convert parts of a localizer to OpenVINO: its methods that compute tensors from images without gradients.

A part runs in any number of threads at once, each pass in one of them, so that its result depends neither on the number
of threads nor on other passes.
"""

import hashlib
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import mining
from mining.localizers.base import Localizer
from mining.localizers.stage_recorder import StageRecorder
from mining.runtimes.graph_cache import load_or_convert
from mining.runtimes.openvino_core import import_openvino, openvino_core

Part = Callable[[Tensor], Tensor]
Timer = Callable[[], AbstractContextManager[None]]
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_EXAMPLE_SIZE = 96, 128
_CHECKED_SIZES = ((96, 128), (117, 75))  # px; sides that halve evenly, and sides that do not
_TOLERANCE = 1e-3  # of the largest value


class ConversionError(Exception):
    """A part cannot be converted, or does not compute the same."""


class CompiledPart:
    """A part of a localizer in OpenVINO: (B, 3, H, W) uint8 images to a tensor.

    Args:
        compiled: OpenVINO's compiled model; its outputs are the part's result and the recorded stages.
        stages: Indices of the stages that are among the outputs.
        recorder: Gets their features while it is recording.
        timer: Times each pass.

    Attributes:
        stages: Indices of these stages.
    """

    def __init__(self, compiled: Any, stages: Sequence[int], recorder: StageRecorder | None, timer: Timer) -> None:
        self._compiled = compiled
        self.stages = list(stages)
        self._recorder = recorder
        self._timer = timer
        self._local = threading.local()

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the result, and record the stages."""
        results = self._infer(images)
        if self._recorder is not None and self._recorder.is_recording:
            for stage, features in zip(self.stages, results[1:], strict=True):
                self._recorder.record(stage, _copied(features))
        return _copied(results[0])

    def stage_features(self, images: Tensor) -> list[Tensor]:
        """Compute the features of the stages, in their order."""
        return [_copied(features) for features in self._infer(images)[1:]]

    def _infer(self, images: Tensor) -> list[np.ndarray[Any, Any]]:
        """Return views of the outputs, which are valid until this thread's next call."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        with self._timer():
            results = self._local.request.infer([images.contiguous().numpy()], share_inputs=True, share_outputs=True)
        return [results[number] for number in range(1 + len(self.stages))]


def compile_part(
    localizer: Localizer, name: str, *, recorder: StageRecorder | None, precision: str, threads: int, timer: Timer
) -> CompiledPart:
    """Convert a part, or read it from the cache, and compile it for this CPU.

    Args:
        localizer: The localizer, prepared for inference.
        name: The name of its method.
        recorder: Records stages that the part runs.
        precision: 'float32', 'bfloat16' or 'float16'.
        threads: Number of threads that will call the part.
        timer: Times each pass.

    Raises:
        ConversionError: The part cannot be converted, or does not compute the same.
    """
    traced = _TracedPart(localizer, name, recorder)
    model, stages = load_or_convert(_digest_of(traced), lambda: _convert(traced))
    return CompiledPart(_compile(model, precision, threads), stages, recorder, timer)


def _compile(model: Any, precision: str, threads: int) -> Any:
    # as many passes at once as threads, each on one core; not pinned to it, because other processes may use it
    options = {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    return openvino_core().compile_model(model, "CPU", {**options, "INFERENCE_PRECISION_HINT": _HINTS[precision]})


class _TracedPart(nn.Module):
    """A part as a module of its own, which also returns the stages that it runs and the recorder wants.

    The names of the attributes are part of the digest.
    """

    def __init__(self, localizer: Localizer, name: str, recorder: StageRecorder | None) -> None:
        super().__init__()
        self.localizer = localizer
        self.name = name
        self.recorder = recorder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the result of the part, and the features of the stages that ran."""
        part = getattr(self.localizer, self.name)
        if self.recorder is None:
            return (part(images),)
        with self.recorder.recording():
            result = part(images)
        recorded = self.recorder.recorded()
        return (result, *(recorded[stage][0] for stage in self.recorder.stages if recorded[stage]))

    def stages_run(self) -> list[int]:
        """Return the indices of the stages that are among the outputs."""
        if self.recorder is None:
            return []
        with self.recorder.recording():
            getattr(self.localizer, self.name)(_noise(_EXAMPLE_SIZE))
        recorded = self.recorder.recorded()
        return [stage for stage in self.recorder.stages if recorded[stage]]


def _convert(part: _TracedPart) -> tuple[Any, list[int]]:
    openvino = import_openvino()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer: about shapes, which are checked below
            stages = part.stages_run()
            model = openvino.convert_model(
                part, example_input=_noise(_EXAMPLE_SIZE), input=[([-1, 3, -1, -1], np.uint8)]
            )
            _check(part, _compile(model, "float32", 1))
    except ConversionError:
        raise
    except Exception as error:  # torch's tracer and OpenVINO's front end have no common class of errors
        raise ConversionError(str(error).strip().splitlines()[0] if str(error).strip() else repr(error)) from error
    return model, stages


def _check(part: _TracedPart, compiled: Any) -> None:
    request = compiled.create_infer_request()
    for size in _CHECKED_SIZES:
        images = _noise(size)
        found = request.infer([images.numpy()])
        for number, expected in enumerate(part(images)):
            own = torch.from_numpy(found[number])
            if own.shape != expected.shape or _difference(own, expected) > _TOLERANCE:
                raise ConversionError(f"its result for an image of {size[1]} x {size[0]} px differs from torch's")


def _difference(own: Tensor, expected: Tensor) -> float:
    return float((own - expected.float()).abs().max() / expected.abs().max().clamp_min(1e-12))


def _noise(size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)


def _copied(view: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(view, dtype=np.float32))


# --- what decides a converted part -----------------------------------------------------------------------------------


def _digest_of(part: _TracedPart) -> str:
    """Return the SHA-256 of all that decides a converted part."""
    localizer, recorder = part.localizer, part.recorder
    options = getattr(localizer, "config", None)
    stages = None if recorder is None else recorder.stages
    versions = import_openvino().__version__, torch.__version__, _digest_of_code()
    said = type(localizer).__qualname__, localizer.backbone.name, options, part.name, stages, versions, localizer
    digest = hashlib.sha256(repr(said).encode())
    for name, tensor in (*localizer.named_parameters(), *localizer.named_buffers()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@cache
def _digest_of_code() -> str:
    """Return a digest of the code that builds networks, which changes without a new version while it is developed."""
    root = Path(mining.__file__).parent
    digest = hashlib.sha256()
    for folder in ("backbones", "localizers", "models", "runtimes"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
