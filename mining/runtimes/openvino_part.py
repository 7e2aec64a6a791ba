"""Convert parts of a localizer to OpenVINO: its methods that compute tensors from images without gradients.

A part runs in any number of threads at once, each pass in one of them, so that its result depends neither on the number
of threads nor on other passes.
"""

import hashlib
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import mining
from mining.localizers.base import Localizer
from mining.localizers.stage_recorder import StageRecorder
from mining.models.weights_digest import digest_weights
from mining.runtimes.graph_cache import load_or_convert
from mining.runtimes.int8_file import Network, read_network
from mining.runtimes.openvino_core import import_openvino, openvino_core
from mining.runtimes.part import Timer, is_same, run_with_stages

if TYPE_CHECKING:
    from mining.runtimes.stage_features import BackboneAlone

# what is not quantized in an int8 network is computed in float32, which no CPU emulates
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
_EXAMPLE_SIZE = 96, 128
# px: sides that halve evenly, sides that do not, and one that has no exact value in bfloat16
_CHECKED_SIZES = ((96, 128), (117, 75), (64, 299))
# root mean square, of that of torch's float32 result; images in int8 differ by up to 0.3, a wrong graph by 1 or more
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.2, "float16": 0.05, "int8": 0.5}


class ConversionError(Exception):
    """A part cannot be converted, or does not compute the same."""


class CompiledPart:
    """A part of a localizer in OpenVINO: (B, 3, H, W) uint8 images to a tensor.

    Args:
        compiled: OpenVINO's compiled model; its first output is the part's result.
        outputs: Number of the output that has the features of a stage, by the stage's index.
        recorder: Gets these features while it is recording.
        timer: Times each pass.

    Attributes:
        stages: Indices of the stages that are among the outputs.
    """

    def __init__(self, compiled: Any, outputs: Mapping[int, int], recorder: StageRecorder | None, timer: Timer) -> None:
        self.stages = set(outputs)
        self._compiled = compiled
        self._outputs = outputs
        self._recorder = recorder
        self._timer = timer
        self._local = threading.local()

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the result, and record the stages."""
        views = self._infer(images)
        result = _copied(views[0])
        if self._recorder is not None and self._recorder.is_recording:
            for stage, output in self._outputs.items():
                self._recorder.record(stage, _copied(views[output]) if output else result)
        return result

    def stage_features(self, images: Tensor) -> list[Tensor]:
        """Compute the features of the recorder's stages, in their order."""
        assert self._recorder is not None
        views = self._infer(images)
        return [_copied(views[self._outputs[stage]]) for stage in self._recorder.stages]

    def _infer(self, images: Tensor) -> Any:
        """Return views of the outputs by number, which are valid until this thread's next call."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        with self._timer():
            return self._local.request.infer([images.contiguous().numpy()], share_inputs=True, share_outputs=True)


def compile_part(
    localizer: "Localizer | BackboneAlone",
    name: str,
    *,
    recorder: StageRecorder | None,
    precision: str,
    threads: int,
    timer: Timer,
) -> CompiledPart:
    """Convert a part, or read it from the cache, and compile it for this CPU.

    Args:
        localizer: The localizer, prepared for inference.
        name: The name of its method.
        recorder: Records stages that the part runs.
        precision: 'float32', 'bfloat16' or 'float16'; or 'int8', which is read from the localizer's `int8_networks`.
        threads: Number of threads that will call the part.
        timer: Times each pass.

    Raises:
        ConversionError: The part cannot be converted, or does not compute the same.
    """
    if precision == "int8":
        model, numbers = _read_int8(localizer, name)
    else:
        model, numbers = _load_or_convert(_TracedPart(localizer, name, recorder), precision)
    return CompiledPart(_compile(model, precision, threads), stage_outputs(numbers), recorder, timer)


def quantize_part(
    localizer: Localizer,
    name: str,
    *,
    recorder: StageRecorder | None,
    images: Sequence[Tensor],
    quantize: Callable[[Any], Any],
) -> Network:
    """Convert a part to int8.

    Args:
        localizer: The localizer, prepared for inference.
        name: The name of its method.
        recorder: Records stages that the part runs.
        images: (1, 3, H, W) uint8 each, with which the result is checked; noise has other ranges.
        quantize: Quantizes an OpenVINO model.

    Raises:
        ConversionError: The part cannot be converted, or does not compute nearly the same.
    """
    part = _TracedPart(localizer, name, recorder)
    model, numbers = _load_or_convert(part, "float32")
    quantized = quantize(model)
    with torch.no_grad():
        _check(part, _compile(quantized, "int8", 1), _TOLERANCES["int8"], images)
    return quantized, numbers


def stage_outputs(numbers: Sequence[int]) -> dict[int, int]:
    """Return which output has the features of a stage, from the numbers that are kept with a network."""
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _load_or_convert(part: "_TracedPart", precision: str) -> Network:
    try:
        return load_or_convert(_digest_of(part, precision), lambda: _convert(part, precision))
    except (OSError, RuntimeError) as error:  # neither the cache nor the folder of temporary files can be written
        raise ConversionError(f"its converted network cannot be stored: {error}") from error


def _read_int8(localizer: "Localizer | BackboneAlone", name: str) -> Network:
    file = localizer.int8_networks
    if file is None or not file.is_file():
        raise ConversionError(
            "it was not quantized. `boxmine mine --precision int8` does so with its images; the folder `model` of such "
            "a run can then be loaded"
        )
    try:
        return read_network(file, name)
    except (OSError, ValueError) as error:
        raise ConversionError(str(error)) from error


def _compile(model: Any, precision: str, threads: int) -> Any:
    # as many passes at once as threads, each on one core; not pinned to it, because other processes may use it
    options = {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    return openvino_core().compile_model(model, "CPU", {**options, "INFERENCE_PRECISION_HINT": _HINTS[precision]})


class _TracedPart(nn.Module):
    """A part as a module of its own, which also returns the stages that it runs and the recorder wants.

    The names of the attributes are part of the digest.
    """

    def __init__(self, localizer: "Localizer | BackboneAlone", name: str, recorder: StageRecorder | None) -> None:
        super().__init__()
        self.localizer = localizer
        self.name = name
        self.recorder = recorder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the result of the part, and the features of the stages that ran."""
        result, recorded = run_with_stages(getattr(self.localizer, self.name), images, self.recorder)
        return (result, *(features for features in recorded.values() if not is_same(features, result)))

    def outputs_of_stages(self) -> dict[int, int]:
        """Return which output has the features of a stage, for the stages that run: 0 if they are the result."""
        part = getattr(self.localizer, self.name)
        result, recorded = run_with_stages(part, _noise(_EXAMPLE_SIZE), self.recorder)
        further = [stage for stage, features in recorded.items() if not is_same(features, result)]
        return {stage: further.index(stage) + 1 if stage in further else 0 for stage in recorded}


def _convert(part: _TracedPart, precision: str) -> tuple[Any, list[int]]:
    openvino = import_openvino()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer: about shapes, which are checked below
            outputs = part.outputs_of_stages()
            model = openvino.convert_model(
                part, example_input=_noise(_EXAMPLE_SIZE), input=[([-1, 3, -1, -1], np.uint8)]
            )
            _pad_within_convolutions(model)
            for checked in {"float32", precision}:
                _check(part, _compile(model, checked, 1), _TOLERANCES[checked], map(_noise, _CHECKED_SIZES))
    except ConversionError:
        raise
    except Exception as error:  # torch's tracer and OpenVINO's front end have no common class of errors
        raise ConversionError(str(error).strip().splitlines()[0] if str(error).strip() else repr(error)) from error
    return model, [number for pair in outputs.items() for number in pair]


def _pad_within_convolutions(model: Any) -> None:
    """Replace padding that depends on the size of the image, before strided convolutions, by padding "same".

    So is TensorFlow's padding imported (EfficientNet-Lite): as computations with the size, which are slow and, in
    bfloat16, wrong for sides above 256 px. That both pad alike is checked with the rest of the part.
    """
    opset = import_openvino().opset13
    make = {"Convolution": opset.convolution, "GroupConvolution": opset.group_convolution}
    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() not in make:
            continue
        pad = convolution.input_value(0).get_node()
        if pad.get_type_name() != "Pad" or pad.input_value(1).get_node().get_type_name() == "Constant":
            continue
        attributes = convolution.get_attributes()
        replacement = make[convolution.get_type_name()](
            pad.input_value(0), convolution.input_value(1), attributes["strides"], [0, 0], [0, 0],
            attributes["dilations"], auto_pad="same_upper",
        )  # fmt: skip
        convolution.output(0).replace(replacement.output(0))


def _check(part: _TracedPart, compiled: Any, tolerance: float, images: Iterable[Tensor]) -> None:
    """Compare the compiled part with torch's; a wrong graph differs far more than any precision."""
    request = compiled.create_infer_request()
    for image in images:
        found = request.infer([image.numpy()], share_inputs=True)
        for number, expected in enumerate(part(image)):
            own = torch.from_numpy(found[number])
            if own.shape != expected.shape or _difference(own, expected) > tolerance:
                height, width = image.shape[2:]
                raise ConversionError(f"its result for an image of {width} x {height} px differs from torch's")


def _difference(own: Tensor, expected: Tensor) -> float:
    return float((own - expected.float()).square().mean().sqrt() / expected.square().mean().sqrt().clamp_min(1e-12))


def _noise(size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)


def _copied(view: np.ndarray[Any, Any]) -> Tensor:
    # into memory that torch aligns: the last bits of a matrix product depend on the alignment
    return torch.from_numpy(view).clone()


# --- what decides a converted part -----------------------------------------------------------------------------------


def _digest_of(part: _TracedPart, precision: str) -> str:
    """Return the SHA-256 of all that decides a converted part, and of the precision it was checked with."""
    localizer, recorder = part.localizer, part.recorder
    options = getattr(localizer, "config", None)
    stages = None if recorder is None else recorder.stages
    versions = import_openvino().__version__, torch.__version__, _digest_of_code()
    said = (
        type(localizer).__qualname__,
        localizer.backbone.name,
        options,
        part.name,
        stages,
        precision,
        versions,
        localizer,
        digest_weights(localizer),
    )
    return hashlib.sha256(repr(said).encode()).hexdigest()


@cache
def _digest_of_code() -> str:
    """Return a digest of the code that builds networks, which changes without a new version while it is developed."""
    root = Path(mining.__file__).parent
    digest = hashlib.sha256()
    for folder in ("backbones", "localizers", "models", "runtimes"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
