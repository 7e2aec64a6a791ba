"""The first stage of Faster R-CNN: each cell has three anchors, and the likeliest objects among them are proposed.

Reference:
    Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, NeurIPS 2015; on a
    feature pyramid as in Lin et al., CVPR 2017. Matching, sampling and losses are those of torchvision.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import box_iou

from mining.detection.anchors import place_anchors
from mining.detection.boxes import DetectionTarget
from mining.detection.dense_head import BACKGROUND, place_weights
from mining.training.distributed import divisor_of_losses

SIZE = 4  # side of the anchors of a level, in cells
RATIOS = (0.5, 1.0, 2.0)  # height by width
OBJECT_IOU, BACKGROUND_IOU = 0.7, 0.3
SAMPLED, OBJECT_SHARE = 256, 0.5  # anchors of an image in a step, and the greatest share of them that has a box
BEFORE_MERGING = 1000  # anchors of each level
PROPOSALS = {"training": 1000, "testing": 300}  # of an image
MERGE_IOU = 0.7
BETA = 1 / 9  # of the smooth L1 loss


class RegionProposals(nn.Module):
    """A region proposal network on the levels of a feature pyramid.

    Args:
        strides: Stride in px of each level.
        channels: Channels of each level.
        convolutions: 3x3 convolutions before the output.
    """

    def __init__(self, strides: tuple[int, ...], channels: int, convolutions: int) -> None:
        super().__init__()
        self.strides = strides
        self.layers = RegionProposalNetwork(
            nn.Identity(), RPNHead(channels, len(RATIOS), convolutions), OBJECT_IOU, BACKGROUND_IOU, SAMPLED,
            OBJECT_SHARE, dict.fromkeys(PROPOSALS, BEFORE_MERGING), PROPOSALS, MERGE_IOU,
        )  # fmt: skip

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return (B, A) logits of whether anchors have an object, and (B, A, 4) encoded boxes, in float32."""
        logits, regression = concat_box_prediction_layers(*self.layers.head(list(features)))
        count = len(features[0])
        return logits.float().reshape(count, -1), regression.float().reshape(count, -1, 4)

    def anchors(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the (A_i, 4) anchors of each level in input px."""
        sizes = [(level.shape[2], level.shape[3]) for level in features]
        return place_anchors(sizes, self.strides, features[0].device, cells=SIZE, scales=(1.0,), ratios=RATIOS)

    def propose(
        self, logits: Tensor, regression: Tensor, anchors: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return the (n, 4) proposals of each image in input px, the likeliest first; no gradient passes them.

        Args:
            logits: Of `forward`.
            regression: Likewise.
            anchors: Of `anchors`.
            sizes: Height and width of each image, to which proposals are clipped.
        """
        count = len(logits)
        boxes = self.layers.box_coder.decode(regression.detach().flatten(0, 1), [torch.cat(list(anchors))] * count)
        proposals, _ = self.layers.filter_proposals(
            boxes.reshape(count, -1, 4), logits, list(sizes), [len(level) for level in anchors]
        )
        return proposals

    def losses(
        self, logits: Tensor, regression: Tensor, anchors: Sequence[Tensor], targets: Sequence[DetectionTarget]
    ) -> dict[str, Tensor]:
        """Return cross-entropy and smooth L1 loss of sampled anchors, weighted by their boxes.

        Anchors of boxes of weight 0, and those without a box whose centre lies in an ignored region, are not sampled.
        Weights also replace the number of anchors in what the sums are divided by.

        Args:
            logits: Of `forward`.
            regression: Likewise.
            anchors: Of `anchors`.
            targets: One per image, in input px.
        """
        together = torch.cat(list(anchors))
        objectness, distances, total = logits.new_zeros(()), logits.new_zeros(()), logits.new_zeros(())
        for number, target in enumerate(targets):
            matched = match_or_background(self.layers.proposal_matcher, together, target)
            kept = place_weights(together, matched, target, torch.zeros_like(target.classes, dtype=torch.bool))
            weights = kept * is_sampled(self.layers.fg_bg_sampler, matched, kept)
            has_box = (matched >= 0) & (weights > 0)
            each = functional.binary_cross_entropy_with_logits(
                logits[number], (matched >= 0).to(logits.dtype), reduction="none"
            )
            goals = self.layers.box_coder.encode_single(target.boxes[matched[has_box]], together[has_box])
            distance = functional.smooth_l1_loss(regression[number, has_box], goals, beta=BETA, reduction="none")
            objectness = objectness + (each * weights).sum()
            distances = distances + (distance.sum(dim=1) * weights[has_box]).sum()
            total = total + weights.sum()
        total = divisor_of_losses(total)
        return {"objectness": objectness / total, "proposal_regression": distances / total}


def match_or_background(matcher: Matcher, places: Tensor, target: DetectionTarget) -> Tensor:
    """Return for each of (A, 4) places the index of its box, BACKGROUND or NEITHER, by torchvision's matcher."""
    if not len(target.boxes) or not len(places):
        return target.classes.new_full((len(places),), BACKGROUND)
    matched: Tensor = matcher(box_iou(target.boxes, places))
    return matched


def is_sampled(sampler: BalancedPositiveNegativeSampler, matched: Tensor, weights: Tensor) -> Tensor:
    """Return which (A,) places a step learns from, drawn by torch's generator.

    Args:
        sampler: Of torchvision: how many places, and how many of them have a box at most.
        matched: (A,), see `match_or_background`.
        weights: (A,), see `place_weights`; places of weight 0 are not drawn.
    """
    labels = torch.where(weights > 0, (matched >= 0).to(torch.int64), -1)
    with_box, without = sampler([labels])
    return (with_box[0] | without[0]).bool()
