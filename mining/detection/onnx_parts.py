"""A detector as two modules that torch.onnx can convert: images are prepared, then boxes are detected in them.

They are converted one by one: of a network behind the arithmetic of image sizes, torch.export takes minutes to compare
the sizes of all its layers, while sides that are multiples of a number stay simple.
"""

from copy import deepcopy
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms

from mining.detection.network import Detector, fit_side
from mining.detection.onnx_candidates import candidates_of

UNNAMED = -1  # class of outputs that no class of the card stands for


class PreparationPart(nn.Module):
    """Resize, normalise and pad an image as `Detector.detect` does."""

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.side, self.cell = detector.options.side, detector.pyramid.whole_cells_px
        self.register_buffer("mean", detector.backbone.mean.clone())
        self.register_buffer("std", detector.backbone.std.clone())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Prepare one image.

        Args:
            image: (1, 3, H, W) uint8 RGB.

        Returns:
            (1, 3, h, w) float32, sides multiples of the network's cells; (4,) float32: height and width without the
            padding, H, W.
        """
        height, width = image.shape[2:]
        size = fit_side(height, width, self.side)
        resized = functional.interpolate(image.float(), list(size), mode="bilinear", antialias=True)
        padding = [0, -size[1] % self.cell, 0, -size[0] % self.cell]
        sizes = [torch.scalar_tensor(side, dtype=torch.int64) for side in (*size, height, width)]
        return functional.pad((resized - self.mean) / self.std, padding), torch.stack(sizes).float()


class DetectionPart(nn.Module):
    """Find boxes in a prepared image as `Detector.detect` does, of all classes.

    Args:
        detector: The detector, which is not changed.
        class_of_output: Index of the class of each output, or UNNAMED.
        min_score: Boxes below this score are left out; a buffer, so that it is a named tensor of the file.
        merge_iou: Of two boxes of an output that overlap by more than this IoU, the better one is kept.
        most: Greatest number of boxes.
    """

    min_score: Tensor
    class_of_output: Tensor

    def __init__(
        self, detector: Detector, class_of_output: list[int], *, min_score: float, merge_iou: float, most: int
    ) -> None:
        super().__init__()
        self.detector = deepcopy(detector).cpu().float().eval()
        _pad_by_constants(self.detector)
        self.merge_iou, self.most = merge_iou, most
        self.register_buffer("min_score", torch.tensor(min_score))
        self.register_buffer("class_of_output", torch.tensor(class_of_output))

    def forward(self, prepared: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find boxes.

        Args:
            prepared: See `PreparationPart.forward`.
            sizes: Likewise.

        Returns:
            (n, 4) float32 xyxy in px of the image, (n,) int64 classes, (n,) float32 scores, best first.
        """
        features = self.detector.pyramid(prepared)
        is_named = self.class_of_output != UNNAMED
        boxes, labels, scores = candidates_of(self.detector.head, features, sizes[:2], is_named, self.min_score)
        (height, width), shape = sizes[:2], sizes[2:]
        limits = torch.cat([shape.flip(0), shape.flip(0)])
        boxes = torch.minimum((boxes / (torch.stack([width, height, width, height]) / limits)).clamp(min=0), limits)
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, labels, scores = boxes[has_area], labels[has_area], scores[has_area]
        apart = boxes + labels[:, None] * (shape.max() + 1)  # boxes of different outputs do not overlap
        kept = nms(apart, scores, self.merge_iou)[: self.most]
        return boxes[kept], self.class_of_output[labels[kept]], scores[kept]


def _pad_by_constants(network: nn.Module) -> None:
    """Replace TensorFlow's padding, which depends on the size of the image, by the one of sides that strides divide."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dSame):
                setattr(parent, name, nn.Sequential(nn.ZeroPad2d(_same_padding(layer)), _without_padding(layer)))


def _same_padding(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    vertical, horizontal = (
        max(0, dilation * (kernel - 1) + 1 - stride)
        for kernel, stride, dilation in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    )
    return horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2


def _without_padding(layer: nn.Conv2d) -> nn.Conv2d:
    options: dict[str, Any] = {name: getattr(layer, name) for name in ("kernel_size", "stride", "dilation", "groups")}
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, bias=layer.bias is not None, **options)
    plain.load_state_dict(layer.state_dict())
    return plain.eval()
