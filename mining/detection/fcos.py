"""FCOS: each cell near the centre of a box predicts the distances to its four sides.

Reference:
    Tian et al., FCOS: Fully Convolutional One-Stage Object Detection, ICCV 2019. Matching and losses are those of
    torchvision's implementation: centre sampling, GIoU loss, box sizes divided by the stride.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from mining.config import DetectorNetworkOptions
from mining.detection.anchors import cell_centres
from mining.detection.boxes import DetectionTarget
from mining.detection.dense_head import BACKGROUND, DenseHead, Outputs, PlaceLosses
from mining.training.distributed import divisor_of_losses

_CENTRE_RADIUS = 1.5  # in cells, around the centre of a box
_SMALLEST, _LARGEST = 4, 8  # in cells: the range of a box's greatest distance that a level is responsible for


class FCOS(DenseHead):
    """The head of FCOS. Its places are cells, as squares of one stride around what the cell looks at."""

    def __init__(self, classes: int, strides: tuple[int, ...], options: DetectorNetworkOptions) -> None:
        super().__init__()
        self.strides = strides
        self.layers = FCOSHead(options.channels, 1, classes, options.convolutions)
        self.coder = BoxLinearCoder(normalize_by_size=True)

    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """Return 'cls_logits', 'bbox_regression' and 'bbox_ctrness' (B, A, 1)."""
        return cast(Outputs, self.layers(list(features)))

    def places(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> list[Tensor]:
        """Return the squares of the cells."""
        centres = [cell_centres(size, stride, device) for size, stride in zip(sizes, self.strides, strict=True)]
        return [
            torch.cat([points - stride / 2, points + stride / 2], dim=1)
            for points, stride in zip(centres, self.strides, strict=True)
        ]

    def match(self, places: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Match a cell to the smallest box that it is inside of, near the centre of, and of the right size for."""
        cells = torch.cat(list(places))
        points, sizes = (cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2] - cells[:, 0]
        box_centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        is_central = (points[:, None] - box_centres).abs().amax(dim=2) < _CENTRE_RADIUS * sizes[:, None]
        distances = torch.cat([points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]], dim=2)
        smallest, largest = sizes * _SMALLEST, sizes * _LARGEST
        smallest[: len(places[0])] = 0
        largest[len(cells) - len(places[-1]) :] = torch.inf
        reach = distances.amax(dim=2)
        fits = is_central & (distances.amin(dim=2) > 0) & (reach > smallest[:, None]) & (reach < largest[:, None])
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        area, matched = torch.where(fits, areas, torch.inf).min(dim=1)
        return torch.where(area.isinf(), BACKGROUND, matched)

    def place_losses(self, outputs: Outputs, places: Tensor, matched: Tensor, target: DetectionTarget) -> PlaceLosses:
        """Return focal loss, GIoU loss and the binary cross-entropy of the centre-ness."""
        has_box = matched >= 0
        boxes, cells = target.boxes[matched[has_box]], places[has_box]
        goal = torch.zeros_like(outputs["cls_logits"])
        goal[has_box, target.classes[matched[has_box]]] = 1.0
        predicted = self.decode(outputs["bbox_regression"][has_box], cells)
        return PlaceLosses(
            sigmoid_focal_loss(outputs["cls_logits"], goal).sum(dim=1),
            {
                "bbox_regression": generalized_box_iou_loss(predicted, boxes, reduction="none"),
                "bbox_ctrness": functional.binary_cross_entropy_with_logits(
                    outputs["bbox_ctrness"][has_box, 0], self._centre_ness(cells, boxes), reduction="none"
                ),
            },
        )

    def _centre_ness(self, cells: Tensor, boxes: Tensor) -> Tensor:
        left, top, right, bottom = self.coder.encode(cells, boxes).unbind(dim=1)
        across = torch.minimum(left, right) / torch.maximum(left, right)
        down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
        return torch.sqrt(across * down)

    def scores(self, outputs: Outputs) -> Tensor:
        """Return the geometric mean of a class's probability and the centre-ness."""
        return torch.sqrt(outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid())

    def decode(self, regression: Tensor, places: Tensor) -> Tensor:
        """Return the boxes at these distances, in strides, from the centres of the places."""
        return self.coder.decode(regression, places)

    def reduce(self, sums: Tensor, objects: Tensor) -> Tensor:
        """Divide by the number of cells that have a box, over all images of all devices."""
        return sums.sum() / divisor_of_losses(objects.sum())
