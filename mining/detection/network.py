"""A detector: a backbone, a feature pyramid, and a head that predicts classes and boxes."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, clip_boxes_to_image
from torchvision.transforms.v2 import functional as transforms

from mining.backbones.base import Backbone
from mining.config import DetectorNetworkOptions
from mining.detection.boxes import Detections, DetectionTarget
from mining.detection.faster_rcnn import FasterRCNN
from mining.detection.fcos import FCOS
from mining.detection.head import DetectionHead
from mining.detection.pyramid import FeaturePyramid
from mining.detection.retinanet import RetinaNet

HEADS: dict[str, type[FCOS] | type[RetinaNet] | type[FasterRCNN]] = {
    "fcos": FCOS,
    "retinanet": RetinaNet,
    "faster-rcnn": FasterRCNN,
}


class Detector(nn.Module):
    """A detector of objects.

    Args:
        backbone: The backbone; its stages behind the last that is needed are removed.
        classes: Number of classes.
        options: Kind, side of the images, size of the head, frozen stages.

    Attributes:
        options: As given.
        pyramid: Backbone and feature pyramid.
        head: The head.
    """

    def __init__(self, backbone: Backbone, classes: int, options: DetectorNetworkOptions) -> None:
        super().__init__()
        self.options = options
        self.pyramid = FeaturePyramid(backbone, options.channels, options.frozen_stages)
        self.head: DetectionHead = HEADS[options.kind](classes, self.pyramid.strides, options)

    @property
    def backbone(self) -> Backbone:
        """The backbone."""
        return self.pyramid.backbone

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[DetectionTarget], *, drop_share: float = 0.0
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            images: (3, h, w) RGB values 0-255 each, uint8 or float, of any size.
            targets: What each image shows, in its px.
            drop_share: Share of each image's boxes, rounded, that are left out because their loss is highest.

        Returns:
            Name of each loss to a scalar.
        """
        batch, sizes, factors = self._prepare(images)
        features = self.pyramid(batch)
        scaled = [target.scaled(*factor) for target, factor in zip(targets, factors, strict=True)]
        return self.head.losses(features, sizes, scaled, drop_share)

    @torch.no_grad()
    def detect(
        self,
        images: Sequence[Tensor],
        classes: Sequence[Sequence[int] | None],
        *,
        min_score: float = 0.05,
        merge_iou: float = 0.5,
        most: int = 100,
    ) -> list[Detections]:
        """Find objects; deterministic.

        Args:
            images: (3, h, w) RGB values 0-255 each, uint8 or float, of any size.
            classes: Per image, the classes to look for; None for all.
            min_score: Boxes below this score are left out.
            merge_iou: Of two boxes of a class that overlap by more than this IoU, the better one is kept.
            most: Greatest number of boxes per image.

        Returns:
            One item per image.
        """
        if not images:
            return []
        was_training = self.training
        self.eval()
        try:
            batch, sizes, factors = self._prepare(images)
            candidates = self.head.candidates(self.pyramid(batch), sizes, classes, min_score)
        finally:
            self.train(was_training)
        found = []
        for image, one, (x, y) in zip(images, candidates, factors, strict=True):
            boxes = one.boxes / one.boxes.new_tensor([x, y, x, y])
            boxes = clip_boxes_to_image(boxes, (image.shape[1], image.shape[2]))
            has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            boxes, labels, scores = boxes[has_area], one.classes[has_area], one.scores[has_area]
            kept = batched_nms(boxes, scores, labels, merge_iou)[:most]
            found.append(Detections(boxes[kept], labels[kept], scores[kept]))
        return found

    def _prepare(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]], list[tuple[float, float]]]:
        """Resize images so that the longer side is `side`, normalise and pad them to a batch.

        Returns:
            The batch; height and width of each image in it; x, y factors by which each was resized.
        """
        device = self.backbone.mean.device
        resized, sizes, factors = [], [], []
        for image in images:
            height, width = image.shape[1:]
            size = fit_side(height, width, self.options.side)
            resized.append(self.backbone.normalise(resize(image.to(device), size)[None])[0])
            sizes.append(size)
            factors.append((size[1] / width, size[0] / height))
        cell = self.pyramid.whole_cells_px
        height, width = (-(-max(int(image.shape[axis]) for image in resized) // cell) * cell for axis in (1, 2))
        padded = [functional.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in resized]
        return torch.stack(padded), sizes, factors


def fit_side(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the height and width of an image whose longer side becomes `side` px; halves are rounded up.

    Computed with integers, which may be symbolic, so that an exported network resizes images to the same sizes.
    """
    longest = cast(int, torch.sym_max(height, width))
    resized = ((2 * each * side + longest) // (2 * longest) for each in (height, width))
    new_height, new_width = (cast(int, torch.sym_max(1, each)) for each in resized)
    return new_height, new_width


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a (3, h, w) image of uint8 or float values with antialiased bilinear interpolation."""
    if tuple(image.shape[1:]) == size:
        return image
    return transforms.resize_image(
        image, list(size), interpolation=transforms.InterpolationMode.BILINEAR, antialias=True
    )
