"""What detectors learn from and what they return: boxes of one image, as tensors."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


def _no_boxes() -> Tensor:
    return torch.zeros(0, 4)


@dataclass(frozen=True)
class DetectionTarget:
    """What a detector learns from one image.

    Attributes:
        boxes: (n, 4) float xyxy, half-open, in px of the image.
        classes: (n,) int64, index of each box's class.
        weights: (n,) float in 0-1, by which the losses of each box's cells are multiplied; 1 for a true box. A box of
            weight 0 teaches nothing, but its cells are not background either.
        ignored: (m, 4) float xyxy, regions in which cells without a box are neither object nor background.
    """

    boxes: Tensor
    classes: Tensor
    weights: Tensor
    ignored: Tensor = field(default_factory=_no_boxes)

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or self.ignored.shape != (len(self.ignored), 4):
            raise ValueError(f"Boxes must be (n, 4), got {tuple(self.boxes.shape)} and {tuple(self.ignored.shape)}.")
        if self.classes.shape != (count,) or self.weights.shape != (count,):
            raise ValueError(
                f"{count} boxes need as many classes and weights, got {tuple(self.classes.shape)} and "
                f"{tuple(self.weights.shape)}."
            )

    def to(self, device: torch.device) -> "DetectionTarget":
        """Move the tensors to a device."""
        return DetectionTarget(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def scaled(self, x: float, y: float) -> "DetectionTarget":
        """Return the target of the image resized by these factors, without the boxes that have no area."""
        factors = torch.tensor([x, y, x, y], device=self.boxes.device)
        has_area = (self.boxes[:, 2:] > self.boxes[:, :2]).all(dim=1)
        return DetectionTarget(
            self.boxes[has_area] * factors, self.classes[has_area], self.weights[has_area], self.ignored * factors
        )


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, best first.

    Attributes:
        boxes: (n, 4) float32 xyxy, half-open, in px of the image.
        classes: (n,) int64, index of each box's class.
        scores: (n,) float32 in 0-1.
    """

    boxes: Tensor
    classes: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.boxes)
