"""Boxes of one class in one image: the type, the filter, the merge."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from mining.arrays import Float32s
from mining.boxes.iou import iou_matrix

_OF_EACH = ("score", "peak", "mean_activation", "merged_from")
_FEW = 64


@dataclass(frozen=True)
class Boxes:
    """n boxes of one class in one image; all arrays have n rows.

    xyxy: (n, 4) float32, px, half-open (x1 - x0 is the width). score: (n,) 0-1.
    peak, mean_activation: (n,) 0-1, of the region. merged_from: (n,) int32, boxes merged into this one.
    Raises ValueError when the shapes disagree.
    """

    xyxy: Float32s
    score: Float32s
    peak: Float32s
    mean_activation: Float32s
    merged_from: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4:
            raise ValueError(f"xyxy must be (n, 4), is {self.xyxy.shape}")
        for name in _OF_EACH:
            if getattr(self, name).shape != (len(self.xyxy),):
                raise ValueError(f"{name} must be ({len(self.xyxy)},), is {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls) -> Self:
        """No box."""
        none = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), none, none, none, np.zeros(0, np.int32))

    def __getitem__(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Self:
        return type(self)(self.xyxy[rows], *(getattr(self, name)[rows] for name in _OF_EACH))

    def best_first(self) -> Self:
        """Sorted by falling score; ties by mean activation, then by area, then by place."""
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
    """(n,) which boxes may be objects, by size and shape.

    width, height: of the image, px. min_area, max_area: shares of the image's area.
    max_aspect: longest side over shortest. max_borders: how many of the image's four borders a box may touch.
    """
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    share = sides.prod(axis=1) / (width * height)
    aspect = sides.max(axis=1, initial=0.0) / np.maximum(sides.min(axis=1, initial=np.inf), 1e-6)
    near = 1e-3 * max(width, height)
    borders = (boxes.xyxy[:, :2] <= near).sum(axis=1) + (boxes.xyxy[:, 2:] >= (width - near, height - near)).sum(axis=1)
    return (share >= min_area) & (share <= max_area) & (aspect <= max_aspect) & (borders <= max_borders)


def merge_nms(boxes: Boxes, iou: float) -> Boxes:
    """Keep the best of boxes that overlap by more than `iou`; best first. merged_from counts what each swallowed."""
    import torch  # seconds, for which those who only hold boxes do not wait
    from torchvision.ops import nms

    if len(boxes) < 2:
        return boxes
    ranked = boxes.best_first()
    if len(boxes) <= _FEW and not np.triu(iou_matrix(ranked.xyxy, ranked.xyxy) > iou, k=1).any():
        return ranked  # as mostly: none overlaps another, which is quicker seen than merged
    kept = nms(torch.from_numpy(ranked.xyxy.copy()), torch.from_numpy(ranked.score.copy()), iou).numpy()
    kept = np.sort(kept)
    overlaps = iou_matrix(ranked.xyxy, ranked.xyxy[kept])
    swallows = overlaps > iou
    # the best that overlaps is who swallowed it; at a tie with `iou` torchvision may round otherwise than we do
    owner = np.where(swallows.any(axis=1), swallows.argmax(axis=1), overlaps.argmax(axis=1))
    owner[kept] = np.arange(len(kept))
    counts = np.zeros(len(kept), np.int32)
    np.add.at(counts, owner, ranked.merged_from)
    best = ranked[kept]
    return Boxes(best.xyxy, best.score, best.peak, best.mean_activation, counts)


def merge_wbf(boxes: Boxes, iou: float) -> Boxes:
    """Replace boxes that overlap by more than `iou` by their score-weighted mean; best first.

    Solovyev et al., "Weighted boxes fusion" (2021). The score of the best member is kept, and its peak.
    """
    ranked = boxes.best_first()
    clusters: list[list[int]] = []
    fused = np.zeros((0, 4), np.float32)
    for row in range(len(ranked)):
        overlaps = iou_matrix(ranked.xyxy[row : row + 1], fused)[0]
        if len(overlaps) and overlaps.max() > iou:
            home = int(overlaps.argmax())
            clusters[home].append(row)
            fused[home] = _weighted_mean(ranked, clusters[home])
        else:
            clusters.append([row])
            fused = np.concatenate([fused, ranked.xyxy[row : row + 1]])
    heads = ranked[np.array([cluster[0] for cluster in clusters], dtype=np.intp)]
    counts = np.array([ranked.merged_from[cluster].sum() for cluster in clusters], np.int32)
    return Boxes(fused, heads.score, heads.peak, heads.mean_activation, counts)


def _weighted_mean(boxes: Boxes, rows: list[int]) -> Float32s:
    weights = np.maximum(boxes.score[rows], 1e-6)[:, None]
    return ((boxes.xyxy[rows] * weights).sum(axis=0) / weights.sum()).astype(np.float32)


MERGERS: dict[Literal["nms", "wbf", "none"], Callable[[Boxes, float], Boxes]] = {
    "nms": merge_nms,
    "wbf": merge_wbf,
    "none": lambda boxes, _: boxes.best_first(),
}
