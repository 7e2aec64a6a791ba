"""What a detector needs of its head: losses of a batch, and boxes that may be detections."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mining.detection.boxes import DetectionTarget

CANDIDATES = 1000  # boxes that are compared with each other: of each level, or of an image's regions


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image that may be detections; they may overlap.

    Attributes:
        boxes: (n, 4) float xyxy in px of the network's input; they may reach beyond the image.
        classes: (n,) int64, index of each box's class.
        scores: (n,) float in 0-1.
    """

    boxes: Tensor
    classes: Tensor
    scores: Tensor


class DetectionHead(nn.Module, ABC):
    """The part of a detector behind its feature pyramid.

    Attributes:
        strides: Stride in px of each level of the feature pyramid.
    """

    strides: tuple[int, ...]

    @abstractmethod
    def losses(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[DetectionTarget],
        drop_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            features: The levels of the pyramid, (B, channels, h, w) each.
            sizes: Height and width of each image in px of the network's input, without the padding.
            targets: One per image, in px of the network's input, boxes with an area.
            drop_share: Share of each image's boxes, rounded, that are left out because their loss is highest.

        Returns:
            Name to a scalar.
        """

    @abstractmethod
    def candidates(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        wanted: Sequence[Sequence[int] | None],
        min_score: float,
    ) -> list[Candidates]:
        """Return the boxes that may be detections; deterministic.

        Args:
            features: See `losses`.
            sizes: Likewise.
            wanted: Per image, the classes to look for; None for all.
            min_score: Boxes below this score are left out.

        Returns:
            One item per image.
        """


def mask_unwanted(scores: Tensor, wanted: Sequence[int] | None) -> Tensor:
    """Return (A, C) scores with those of classes that are not wanted below every minimum."""
    if wanted is None:
        return scores
    is_wanted = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    is_wanted[list(wanted)] = True
    return scores.masked_fill(~is_wanted, -1.0)


def best_scores(scores: Tensor, min_score: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, classes and scores of the best of (A, C) scores, best first: `CANDIDATES` at most."""
    best, order = scores.flatten().sort(descending=True, stable=True)
    count = int((best[:CANDIDATES] >= max(min_score, 0.0)).sum())
    return order[:count] // scores.shape[1], order[:count] % scores.shape[1], best[:count]
