"""Sentences about a run whose boxes do not depend on the images: nearly all are the whole image, or alike."""

import math
from pathlib import Path

import numpy as np

from mining.arrays import Floats
from mining.storage.parquet import open_parquet

# Of the true boxes of five sets of photos, at most 2 % cover so much of their image, and at most 21 % have such an IoU
# with the middle shape (docs/benchmarks.md).
WHOLE_IMAGE = 0.95  # share of the image's area
ALIKE = 0.9  # IoU with the median box, as shares of width and height
NEARLY_ALL = 0.8  # lower end of the share's 95 % interval; 11 boxes are the fewest that can reach it
_ONE_SIDED_95 = 1.645  # standard deviations
_SAMPLE = 100_000  # boxes that are looked at, evenly spaced
_COLUMNS = ["x", "y", "w", "h", "width", "height"]

REMEDY = (
    "Look at some with `boxmine report`. If the objects are not like that, the model does not localize: train it "
    "longer or with --localizer cam, or mine at a higher --threshold."
)


def warn_of_boxes(annotations: Path, remedy: str = REMEDY) -> list[str]:
    """Return a sentence, with the remedy, if the boxes of a run hardly depend on the images.

    Args:
        annotations: annotations.parquet of the run.
        remedy: What to do about it.
    """
    boxes = _relative_boxes(annotations)
    count = len(boxes)
    if not count:
        return []
    areas = boxes[:, 2] * boxes[:, 3]
    for found, sentence in (
        (areas >= WHOLE_IMAGE, f"{{}} boxes cover {WHOLE_IMAGE:.0%} of their image or more."),
        (_iou_with(boxes, np.median(boxes, axis=0)) >= ALIKE, "{} boxes are at the same place of their image."),
        (_iou_of_shapes(boxes) >= ALIKE, "{} boxes have the same shape, as shares of their image."),
    ):
        share = float(found.mean())
        if lower_bound(share, count) >= NEARLY_ALL:
            return [f"{sentence.format(_of_all(share))} {remedy}"]
    return []


def lower_bound(share: float, count: int) -> float:
    """Return the lower end of Wilson's 95 % interval (one-sided) of a share of `count` boxes."""
    z2 = _ONE_SIDED_95**2 / count
    spread = _ONE_SIDED_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return (share + z2 / 2 - spread) / (1 + z2)


def _of_all(share: float) -> str:
    return "All" if share == 1 else f"{min(share, 0.999):.1%} of the"


def _relative_boxes(annotations: Path) -> Floats:
    """Read (n, 4) x, y, w, h as shares of the image's width and height."""
    pieces = []
    with open_parquet(annotations) as file:
        step = max(1, math.ceil(file.metadata.num_rows / _SAMPLE))
        position = 0
        for batch in file.iter_batches(columns=_COLUMNS):
            columns = np.stack([batch[name].to_numpy().astype(np.float64) for name in _COLUMNS], axis=1)
            pieces.append(columns[-position % step :: step])
            position += len(columns)
    every = np.concatenate(pieces) if pieces else np.zeros((0, len(_COLUMNS)))
    return np.asarray(every[:, :4] / every[:, [4, 5, 4, 5]], np.float64)


def _iou_with(boxes: Floats, box: Floats) -> Floats:
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    both = (high - low).clip(0).prod(axis=1)
    return np.asarray(both / (boxes[:, 2:].prod(axis=1) + box[2:].prod() - both))


def _iou_of_shapes(boxes: Floats) -> Floats:
    """IoU of each box with one of the median width and height, at the same place."""
    in_place = np.concatenate([np.zeros_like(boxes[:, :2]), boxes[:, 2:]], axis=1)
    return _iou_with(in_place, np.median(in_place, axis=0))
