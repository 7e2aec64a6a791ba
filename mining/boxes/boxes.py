"""Boxes of one class in one image: the data class, the filter by size and shape, and merging."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from mining.arrays import Float32s
from mining.boxes.iou import iou_matrix

_COLUMNS = ("score", "peak", "mean_activation", "merged_from")
_MAX_BOXES_FOR_IOU_CHECK = 64


@dataclass(frozen=True)
class Boxes:
    """n boxes of one class in one image.

    Attributes:
        xyxy: (n, 4) float32, pixels, half-open (x1 - x0 is the width).
        score: (n,) float32 in 0-1.
        peak: (n,) float32 in 0-1, highest activation in the region of each box.
        mean_activation: (n,) float32 in 0-1, mean activation in the region of each box.
        merged_from: (n,) int32, number of boxes that were merged into each box, itself included.

    Raises:
        ValueError: The shapes disagree.
    """

    xyxy: Float32s
    score: Float32s
    peak: Float32s
    mean_activation: Float32s
    merged_from: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4:
            raise ValueError(f"xyxy must have shape (n, 4), has {self.xyxy.shape}")
        for name in _COLUMNS:
            if getattr(self, name).shape != (len(self.xyxy),):
                raise ValueError(f"{name} must have shape ({len(self.xyxy)},), has {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls) -> Self:
        """Create an empty collection of boxes."""
        none = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), none, none, none, np.zeros(0, np.int32))

    def __getitem__(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Self:
        return type(self)(self.xyxy[rows], *(getattr(self, name)[rows] for name in _COLUMNS))

    def best_first(self) -> Self:
        """Sort by descending score; ties by mean activation, then by area, then by position."""
        if len(self) < 2:
            return self
        sides = self.xyxy[:, 2:] - self.xyxy[:, :2]
        area = sides.prod(axis=1)
        keys = (*self.xyxy.T[::-1], -area, -self.mean_activation, -self.score)
        return self[np.lexsort(keys)]


def filter_mask(
    boxes: Boxes,
    *,
    width: float,
    height: float,
    min_area: float = 0.0,
    max_area: float = 1.0,
    max_aspect: float = float("inf"),
    max_borders: int = 4,
) -> npt.NDArray[np.bool_]:
    """Select boxes by size and shape.

    Args:
        boxes: The boxes.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        min_area: Smallest area, as a share of the image's area.
        max_area: Largest area, as a share of the image's area.
        max_aspect: Largest ratio of the longer side to the shorter.
        max_borders: Most of the image's four borders that a box may touch.

    Returns:
        (n,) bool, True for the boxes to keep.
    """
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    share = sides.prod(axis=1) / (width * height)
    aspect = sides.max(axis=1, initial=0.0) / np.maximum(sides.min(axis=1, initial=np.inf), 1e-6)
    near = 1e-3 * max(width, height)
    borders = (boxes.xyxy[:, :2] <= near).sum(axis=1) + (boxes.xyxy[:, 2:] >= (width - near, height - near)).sum(axis=1)
    return (share >= min_area) & (share <= max_area) & (aspect <= max_aspect) & (borders <= max_borders)


def merge_nms(boxes: Boxes, iou: float) -> Boxes:
    """Non-maximum suppression: keep the best of boxes that overlap by more than `iou`.

    Args:
        boxes: The boxes.
        iou: IoU above which the lower-scored box is removed.

    Returns:
        The boxes that remain, best first; `merged_from` also counts the boxes that each one removed.
    """
    if len(boxes) < 2:
        return boxes
    ranked = boxes.best_first()
    if len(boxes) <= _MAX_BOXES_FOR_IOU_CHECK and not np.triu(iou_matrix(ranked.xyxy, ranked.xyxy) > iou, k=1).any():
        return ranked  # the common case: no boxes overlap, and checking is faster than NMS
    import torch  # takes seconds to import; code that only holds boxes does without
    from torchvision.ops import nms

    kept = nms(torch.from_numpy(ranked.xyxy.copy()), torch.from_numpy(ranked.score.copy()), iou).numpy()
    kept = np.sort(kept)
    overlaps = iou_matrix(ranked.xyxy, ranked.xyxy[kept])
    removes = overlaps > iou
    # a box was removed by the best box that overlaps it; at IoU = `iou` torchvision may round differently
    owner = np.where(removes.any(axis=1), removes.argmax(axis=1), overlaps.argmax(axis=1))
    owner[kept] = np.arange(len(kept))
    counts = np.zeros(len(kept), np.int32)
    np.add.at(counts, owner, ranked.merged_from)
    best = ranked[kept]
    return Boxes(best.xyxy, best.score, best.peak, best.mean_activation, counts)


def merge_wbf(boxes: Boxes, iou: float) -> Boxes:
    """Weighted boxes fusion: replace boxes that overlap by more than `iou` by their score-weighted mean.

    Args:
        boxes: The boxes.
        iou: IoU with a fused box above which a box joins it.

    Returns:
        The fused boxes, best first, with the score, peak and mean activation of their best member.

    Reference:
        Solovyev, Wang, Gabruseva: Weighted boxes fusion (2021).
    """
    ranked = boxes.best_first()
    clusters: list[list[int]] = []
    fused = np.zeros((0, 4), np.float32)
    for row in range(len(ranked)):
        overlaps = iou_matrix(ranked.xyxy[row : row + 1], fused)[0]
        if len(overlaps) and overlaps.max() > iou:
            cluster = int(overlaps.argmax())
            clusters[cluster].append(row)
            fused[cluster] = _weighted_mean(ranked, clusters[cluster])
        else:
            clusters.append([row])
            fused = np.concatenate([fused, ranked.xyxy[row : row + 1]])
    best = ranked[np.array([members[0] for members in clusters], dtype=np.intp)]
    counts = np.array([ranked.merged_from[members].sum() for members in clusters], np.int32)
    return Boxes(fused, best.score, best.peak, best.mean_activation, counts)


def _weighted_mean(boxes: Boxes, rows: list[int]) -> Float32s:
    weights = np.maximum(boxes.score[rows], 1e-6)[:, None]
    return ((boxes.xyxy[rows] * weights).sum(axis=0) / weights.sum()).astype(np.float32)


MERGERS: dict[Literal["nms", "wbf", "none"], Callable[[Boxes, float], Boxes]] = {
    "nms": merge_nms,
    "wbf": merge_wbf,
    "none": lambda boxes, _: boxes.best_first(),
}
