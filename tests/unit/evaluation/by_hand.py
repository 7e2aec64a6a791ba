"""Build true and predicted boxes row by row."""

import numpy as np

from mining.evaluation import Detections, TruthBoxes

Row = tuple[int, int, tuple[float, float, float, float]]


def truth_of(*rows: Row, ignored: tuple[int, ...] = ()) -> TruthBoxes:
    """Rows of image, class and x, y, width, height; ignored: which rows are."""
    image, category, xywh = zip(*rows, strict=True) if rows else ((), (), ())
    return TruthBoxes(np.array(image), np.array(category), xywh, is_ignored=np.isin(np.arange(len(rows)), ignored))


def predicted_of(*rows: tuple[Row, float]) -> Detections:
    """Such rows, each with its score."""
    image, category, xywh = zip(*(row for row, _ in rows), strict=True) if rows else ((), (), ())
    return Detections(np.array(image), np.array(category), xywh, np.array([score for _, score in rows]))


def best_first(*rows: Row) -> Detections:
    """Predicted boxes whose scores fall row by row."""
    return predicted_of(*zip(rows, np.linspace(1, 0.5, len(rows)), strict=True))
