"""Faster R-CNN: regions that may show an object are proposed, then each is classified and its box refined.

Reference:
    Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, NeurIPS 2015; on a
    feature pyramid as in Lin et al., CVPR 2017. Matching, sampling and losses are those of torchvision.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from mining.config import DetectorNetworkOptions
from mining.detection.boxes import DetectionTarget
from mining.detection.dense_head import PlaceLosses, least_credible, place_weights
from mining.detection.head import Candidates, DetectionHead, best_scores, mask_unwanted
from mining.detection.region_proposals import BETA, RegionProposals, is_sampled, match_or_background
from mining.training.distributed import divisor_of_losses

_POOLED = 7  # cells across a region
_POINTS = 2  # at which each of these is sampled, in both directions
CELLS_ACROSS = 14  # of the level that a region is pooled from, at least; the paper's 224 px at a stride of 16
_GROUPS = 32  # of the group norm, as in FCOS
_HIDDEN = 4  # outputs of the fully connected layer per channel of the pyramid
_OBJECT_IOU = 0.5
_SAMPLED, _OBJECT_SHARE = 128, 0.25  # regions of an image in a step, and the greatest share of them that has a box


class FasterRCNN(DetectionHead):
    """The two stages of Faster R-CNN. Class 0 of the second stage's outputs is the background."""

    def __init__(self, classes: int, strides: tuple[int, ...], options: DetectorNetworkOptions) -> None:
        super().__init__()
        self.strides = strides
        channels, hidden = options.channels, _HIDDEN * options.channels
        self.proposals = RegionProposals(strides, channels, options.convolutions)
        self.regions = RoIHeads(
            _region_pooling(strides),
            FastRCNNConvFCHead(
                (channels, _POOLED, _POOLED), [channels] * options.convolutions, [hidden],
                norm_layer=partial(_RegionNorm, _GROUPS),
            ),
            FastRCNNPredictor(hidden, classes + 1),
            _OBJECT_IOU, _OBJECT_IOU, _SAMPLED, _OBJECT_SHARE, None, 0.0, 1.0, 0,
        )  # fmt: skip

    def losses(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[DetectionTarget],
        drop_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """Compute the losses of both stages.

        Anchors and regions are sampled by torch's generator. The losses of those that are matched to a box are
        multiplied by its weight, and weights also replace their number in what the sums are divided by. Those of boxes
        of weight 0, and those without a box whose centre lies in an ignored region, are not sampled. Boxes are dropped
        from the losses of the second stage alone.
        """
        logits, regression = self.proposals(features)
        anchors = self.proposals.anchors(features)
        proposed = self.proposals.propose(logits, regression, anchors, sizes)
        return {
            **self.proposals.losses(logits, regression, anchors, targets),
            **self._region_losses(features, sizes, proposed, targets, drop_share),
        }

    def _region_losses(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        proposed: Sequence[Tensor],
        targets: Sequence[DetectionTarget],
        drop_share: float,
    ) -> dict[str, Tensor]:
        """Return the losses of sampled proposals, among which the boxes themselves are."""
        regions, matches, weights = [], [], []
        for proposals, target in zip(proposed, targets, strict=True):
            together = torch.cat([proposals, target.boxes])
            matched = match_or_background(self.regions.proposal_matcher, together, target)
            kept = place_weights(together, matched, target, torch.zeros_like(target.classes, dtype=torch.bool))
            sampled = is_sampled(self.regions.fg_bg_sampler, matched, kept)
            regions.append(together[sampled])
            matches.append(matched[sampled])
            weights.append(kept[sampled])
        logits, regression = self.classify(features, regions, sizes)
        classification, distances, total = logits.new_zeros(()), logits.new_zeros(()), logits.new_zeros(())
        counts = [len(one) for one in regions]
        for boxes, matched, kept, of_logits, of_regression, target in zip(
            regions,
            matches,
            weights,
            torch.split(logits, counts),
            torch.split(regression, counts),
            targets,
            strict=True,
        ):
            losses = self._losses_of_image(boxes, matched, of_logits, of_regression, target)
            has_box = matched >= 0
            dropped = least_credible(losses, matched, target, drop_share)
            kept[has_box] = kept[has_box] * ~dropped[matched[has_box]]
            classification = classification + (losses.classification * kept).sum()
            distances = distances + (losses.of_objects["bbox_regression"] * kept[has_box]).sum()
            total = total + kept.sum()
        total = divisor_of_losses(total)
        return {"classification": classification / total, "bbox_regression": distances / total}

    def _losses_of_image(
        self, regions: Tensor, matched: Tensor, logits: Tensor, regression: Tensor, target: DetectionTarget
    ) -> PlaceLosses:
        has_box = matched >= 0
        labels = torch.zeros_like(matched)
        labels[has_box] = target.classes[matched[has_box]] + 1
        goals = self.regions.box_coder.encode_single(target.boxes[matched[has_box]], regions[has_box])
        predicted = regression[has_box, labels[has_box]]
        return PlaceLosses(
            functional.cross_entropy(logits, labels, reduction="none"),
            {"bbox_regression": functional.smooth_l1_loss(predicted, goals, beta=BETA, reduction="none").sum(dim=1)},
        )

    def classify(
        self, features: Sequence[Tensor], regions: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Return what the second stage says of regions.

        Args:
            features: The levels of the pyramid.
            regions: (n_i, 4) regions of each image in input px.
            sizes: Height and width of each image.

        Returns:
            (n, classes + 1) logits, (n, classes + 1, 4) encoded boxes, of the regions of all images, in float32.
        """
        levels = {str(number): level for number, level in enumerate(features)}
        pooled = self.regions.box_roi_pool(levels, regions, list(sizes))
        logits, regression = self.regions.box_predictor(self.regions.box_head(pooled))
        return logits.float(), regression.float().reshape(*logits.shape, 4)

    def candidates(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        wanted: Sequence[Sequence[int] | None],
        min_score: float,
    ) -> list[Candidates]:
        """Return the best boxes that the second stage makes of each image's proposals."""
        logits, regression = self.proposals(features)
        proposed = self.proposals.propose(logits, regression, self.proposals.anchors(features), sizes)
        logits, regression = self.classify(features, proposed, sizes)
        counts = [len(one) for one in proposed]
        found = []
        for regions, one, scores, encoded in zip(
            proposed, wanted, torch.split(logits.softmax(dim=1), counts), torch.split(regression, counts), strict=True
        ):
            rows, labels, best = best_scores(mask_unwanted(scores[:, 1:], one), min_score)
            boxes = self.decode(encoded[rows, labels + 1], regions[rows])
            found.append(Candidates(boxes, labels, best))
        return found

    def decode(self, regression: Tensor, regions: Tensor) -> Tensor:
        """Return the (n, 4) boxes that (n, 4) encoded boxes of (n, 4) regions stand for."""
        decoded: Tensor = self.regions.box_coder.decode_single(regression, regions)
        return decoded


class _RegionNorm(nn.GroupNorm):
    """Group norm without torch's check of the number of regions, which is not known while ONNX is made of it."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (n, channels, h, w) features of regions."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def _region_pooling(strides: tuple[int, ...]) -> MultiScaleRoIAlign:
    """Return the pooling of regions, each from the coarsest level on which it is 14 cells across.

    torchvision guesses the levels' strides from the sizes of their maps, and only powers of 2; here they are known.
    """
    pooling = MultiScaleRoIAlign([str(level) for level in range(len(strides))], _POOLED, _POINTS)
    pooling.scales = [1 / stride for stride in strides]
    pooling.map_levels = LevelMapper(0, len(strides) - 1, canonical_scale=CELLS_ACROSS * strides[0], canonical_level=0)
    return pooling
