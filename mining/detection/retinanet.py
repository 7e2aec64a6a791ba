"""RetinaNet: each cell has nine anchors, and each anchor predicts how the box near it differs from it.

Reference:
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017. Matching and losses are those of torchvision's
    implementation.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou, sigmoid_focal_loss

from mining.config import DetectorNetworkOptions
from mining.detection.anchors import place_anchors
from mining.detection.boxes import DetectionTarget
from mining.detection.dense_head import DenseHead, Outputs, PlaceLosses

_SIZE = 4  # side of the smallest anchor, in cells
_SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
_RATIOS = (0.5, 1.0, 2.0)  # height by width
_OBJECT_IOU, _BACKGROUND_IOU = 0.5, 0.4


class RetinaNet(DenseHead):
    """The head of RetinaNet. Its places are anchors."""

    def __init__(self, classes: int, strides: tuple[int, ...], options: DetectorNetworkOptions) -> None:
        super().__init__()
        self.strides = strides
        self.layers = RetinaNetHead(options.channels, len(_SCALES) * len(_RATIOS), classes)
        for branch in (self.layers.classification_head, self.layers.regression_head):
            branch.conv = branch.conv[: options.convolutions]
        self.coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(_OBJECT_IOU, _BACKGROUND_IOU, allow_low_quality_matches=True)

    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """Return 'cls_logits' and 'bbox_regression'."""
        return cast(Outputs, self.layers(list(features)))

    def places(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> list[Tensor]:
        """Return the anchors, those of a cell one after the other."""
        return place_anchors(sizes, self.strides, device, cells=_SIZE, scales=_SCALES, ratios=_RATIOS)

    def match(self, places: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Match an anchor to the box of highest IoU: from 0.5 on, or as the best anchor of that box."""
        return cast(Tensor, self.matcher(box_iou(boxes, torch.cat(list(places)))))

    def place_losses(self, outputs: Outputs, places: Tensor, matched: Tensor, target: DetectionTarget) -> PlaceLosses:
        """Return focal loss and the L1 distance of the encoded boxes."""
        has_box = matched >= 0
        goal = torch.zeros_like(outputs["cls_logits"])
        goal[has_box, target.classes[matched[has_box]]] = 1.0
        wanted = self.coder.encode_single(target.boxes[matched[has_box]], places[has_box])
        return PlaceLosses(
            sigmoid_focal_loss(outputs["cls_logits"], goal).sum(dim=1),
            {"bbox_regression": (outputs["bbox_regression"][has_box] - wanted).abs().sum(dim=1)},
        )

    def scores(self, outputs: Outputs) -> Tensor:
        """Return the probability of each class."""
        return outputs["cls_logits"].sigmoid()

    def decode(self, regression: Tensor, places: Tensor) -> Tensor:
        """Return the boxes that differ so from the anchors."""
        return self.coder.decode_single(regression, places)

    def reduce(self, sums: Tensor, objects: Tensor) -> Tensor:
        """Divide by each image's number of anchors that have a box, and average over the images."""
        return (sums / objects.clamp(min=1)).mean()
