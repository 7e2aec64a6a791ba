"""Check that an ONNX file finds the same boxes as the detector that it was made from."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mining.arrays import Float32s, Ints
from mining.boxes.iou import iou_matrix
from mining.config.model_export import ModelExportSettings
from mining.detection.network import Detector
from mining.detection.onnx_parts import UNNAMED
from mining.errors import ModelError

# px: sides that round up and down, and elongated images, which have one cell across at coarse levels
_SIZES = ((200, 300), (97, 131), (427, 640), (640, 50), (40, 640))
_IOU, _SCORE = 0.99, 1e-3
# Share of the boxes that have a counterpart. Of two boxes whose scores are the same but for rounding, either one can be
# kept; a network that computes something else has next to none.
_LEAST_SHARE = 0.9
Boxes = tuple[Float32s, Ints, Float32s]


def check_boxes(
    file: Any, min_score_name: str, detector: Detector, class_of_output: list[int], settings: ModelExportSettings
) -> tuple[int, int]:
    """Compare the boxes of both in images of noise, whatever their scores.

    Args:
        file: The ONNX model; its minimum score is set to 0.
        min_score_name: Name of the tensor that has the minimum score.
        detector: The detector.
        class_of_output: Index of the class of each output, or UNNAMED.
        settings: Sizes, IoU and number of boxes.

    Returns:
        The number of images, and that of the boxes.

    Raises:
        ModelError: ONNX Runtime cannot run the file, or the boxes differ.
    """
    import onnxruntime

    (least,) = (one for one in file.graph.initializer if one.name == min_score_name)
    least.raw_data = np.float32(0).tobytes()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    wanted = [output for output, index in enumerate(class_of_output) if index != UNNAMED]
    count, shares = 0, []
    sizes = _SIZES if settings.image_size is None else (settings.image_size,) * 2
    try:
        session = onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for seed, size in enumerate(sizes):
            image = _noise(seed, size)
            found = session.run(["boxes", "labels", "scores"], {"image": image.numpy()})
            (own,) = detector.detect(
                [image[0].float()], [wanted], min_score=0.0, merge_iou=settings.merge_iou, most=settings.max_boxes
            )
            labels = np.array(class_of_output)[own.classes.numpy()]
            shares.append(_shared((own.boxes.numpy(), labels, own.scores.numpy()), found))
            count += len(found[0])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ModelError(
            f"ONNX Runtime cannot run {settings.model} as ONNX: {' '.join(str(error).split())[:200]}.{remedy(settings)}"
        ) from error
    if not count or min(shares) < _LEAST_SHARE:
        raise ModelError(
            f"ONNX Runtime finds other boxes than PyTorch with {settings.model}: in images of noise, {min(shares):.0%} "
            f"of the boxes are the same. The file is not written.{remedy(settings)}"
        )
    return len(sizes), count


def remedy(settings: ModelExportSettings) -> str:
    """Return what may help where a network cannot be exported, with a space before it; empty if there is nothing."""
    if settings.image_size is not None:
        return ""
    return " Layers that depend on the size of the image may need a fixed one: give --size, e.g. 480x640."


def _noise(seed: int, size: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) uint8: coarse and fine noise, the same for a seed."""
    random = torch.Generator().manual_seed(seed)
    coarse = functional.interpolate(torch.rand(1, 3, 6, 8, generator=random), size, mode="bilinear")
    fine = torch.rand(1, 3, *size, generator=random)
    return (255 * (0.8 * coarse + 0.2 * fine)).to(torch.uint8)


def _shared(own: Boxes, found: Boxes) -> float:
    """Return the share of boxes that have a counterpart of the same class and score, in the larger set."""
    most = max(len(own[0]), len(found[0]))
    if not most:
        return 1.0
    same = iou_matrix(own[0], found[0]) >= _IOU
    same &= own[1][:, None] == found[1]
    same &= np.abs(own[2][:, None] - found[2]) <= _SCORE
    return float(min(same.any(axis=1).sum(), same.any(axis=0).sum()) / most)
