"""Write a detector as one ONNX file, from the image to its boxes, and check that ONNX Runtime finds the same boxes."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mining import __version__
from mining.config.model_export import ModelExportSettings
from mining.detection.folder import load_detector
from mining.detection.network import Detector
from mining.detection.onnx_check import check_boxes, remedy
from mining.detection.onnx_parts import UNNAMED, DetectionPart, PreparationPart
from mining.errors import ModelError
from mining.models.card import ModelCard
from mining.models.class_outputs import class_of_output
from mining.storage.files import atomic_write

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
_PREFIX = "detection_"  # of all names in the part that detects, so that the parts' names differ
MIN_SCORE = f"{_PREFIX}min_score"
_MAX_SIDE = 16_384
_EXAMPLE_SIZE = 200, 300


@dataclass(frozen=True)
class ModelExportSummary:
    """The result of an export.

    Attributes:
        out: The file.
        classes: Names of the classes, in the order of the labels.
        megabytes: Size of the file.
        checked_images: Number of images of random shapes in which ONNX Runtime found the same boxes.
        checked_boxes: Number of these boxes.
    """

    out: Path
    classes: list[str]
    megabytes: float
    checked_images: int
    checked_boxes: int


def export_detector(settings: ModelExportSettings) -> ModelExportSummary:
    """Write a detector as an ONNX file.

    The file takes `image`, (1, 3, H, W) uint8 RGB of any size or of the one size given, and returns `boxes` (n, 4)
    float32 xyxy in px of the image, half-open, `labels` (n,) int64, positions in the list of classes, and `scores`
    (n,) float32, best first. Resizing, normalisation and non-maximum suppression are part of it. Its metadata names
    classes, settings and the SHA-256 of the weights.

    Args:
        settings: The model folder, the file, what is fixed in it.

    Raises:
        ModelError: The folder is no detector, a package is missing, the network cannot be converted, or ONNX Runtime
            finds other boxes with it.
        StorageError: The disk refuses.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ModelError(f"Exporting a model needs {', '.join(missing)}: pip install 'boxmine[onnx]'.")
    import onnx

    detector, card = load_detector(settings.model)
    file = _convert(detector, card, settings)
    onnx.helper.set_model_props(file, _metadata(card, settings))
    file.producer_name, file.producer_version = "boxmine", __version__
    content = file.SerializeToString()
    images, boxes = check_boxes(file, MIN_SCORE, detector, _class_list(card), settings)
    with atomic_write(settings.out) as temporary:
        temporary.write_bytes(content)
    return ModelExportSummary(settings.out, card.class_names, round(len(content) / 1e6, 1), images, boxes)


def _class_list(card: ModelCard) -> list[int]:
    """Index of the class of each output, or UNNAMED."""
    known = class_of_output(card)
    return [known.get(output, UNNAMED) for output in range(card.output_count)]


def _convert(detector: Detector, card: ModelCard, settings: ModelExportSettings) -> Any:
    """Return the network as one ONNX model."""
    import onnx.compose

    preparation = PreparationPart(detector).eval()
    detection = DetectionPart(
        detector, _class_list(card), min_score=settings.min_score, merge_iou=settings.merge_iou, most=settings.max_boxes
    ).eval()
    image = torch.zeros(1, 3, *(settings.image_size or _EXAMPLE_SIZE), dtype=torch.uint8)
    prepared, sizes = preparation(image)
    free: tuple[Any, Any] = (None, None)
    if settings.image_size is None:
        cells = _MAX_SIDE // preparation.cell
        height, width = (torch.export.Dim(name, min=1, max=_MAX_SIDE) for name in ("height", "width"))
        rows, columns = (torch.export.Dim(name, min=1, max=cells) for name in ("rows", "columns"))
        # torch.export takes a side of 1 for a constant: each level of the example has several cells
        coarsest = max(detector.pyramid.strides)
        prepared = torch.zeros(1, 3, 3 * coarsest, 4 * coarsest)
        free = {2: height, 3: width}, {2: preparation.cell * rows, 3: preparation.cell * columns}
    first = _to_onnx(preparation, (image,), (free[0],), ["image"], ["prepared", "sizes"], settings)
    second = _to_onnx(
        detection, (prepared, sizes), (free[1], None), ["prepared", "sizes"], ["boxes", "labels", "scores"], settings
    )
    second = onnx.compose.add_prefix(second, _PREFIX, rename_inputs=False, rename_outputs=False)
    joined = onnx.compose.merge_models(first, second, io_map=[("prepared", "prepared"), ("sizes", "sizes")])
    del joined.graph.value_info[:]  # shapes of inner tensors: ONNX Runtime computes better ones
    onnx.checker.check_model(joined)
    return joined


def _to_onnx(
    part: nn.Module, arguments: tuple[Tensor, ...], shapes: Any, inputs: list[str], outputs: list[str],
    settings: ModelExportSettings,
) -> Any:  # fmt: skip
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                part, arguments, dynamo=True, opset_version=OPSET, verbose=False,
                input_names=inputs, output_names=outputs,
                dynamic_shapes=None if settings.image_size else shapes,
            )  # fmt: skip
    except Exception as error:  # torch.export, its decompositions and onnxscript have no common class of errors
        raise ModelError(
            f"{settings.model} cannot be converted to ONNX: {_reason(error)}.{remedy(settings)}"
        ) from error
    assert program is not None
    return program.model_proto


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines[0] if lines else type(cause).__name__)[:200].rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the converter's remarks on its own internals, and the layers that it prints where it fails."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _metadata(card: ModelCard, settings: ModelExportSettings) -> dict[str, str]:
    return {
        "classes": json.dumps([{"id": entry["id"], "name": entry["name"]} for entry in card.classes]),
        "detector": card.localizer,
        "backbone": card.backbone,
        "model_sha256": card.weights_sha256,
        "input": "image: (1, 3, height, width) uint8 RGB",
        "preprocessing": f"in the file: longer side resized to {card.input_size} px, antialiased; normalised; padded",
        "outputs": "boxes: (n, 4) xyxy in px of the image; labels: positions in classes; scores: 0-1, best first",
        "min_score": f"{settings.min_score:g}",
        "merge_iou": f"{settings.merge_iou:g}",
        "max_boxes": str(settings.max_boxes),
        "boxmine": __version__,
    }
