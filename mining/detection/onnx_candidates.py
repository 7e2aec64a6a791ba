"""The boxes of one image that may be detections, as heads find them, in operations that ONNX has.

Their number is not known while a network is converted: what is sorted is filled up to a fixed number first.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torchvision.ops import nms, roi_align

from mining.detection.dense_head import DenseHead
from mining.detection.faster_rcnn import FasterRCNN
from mining.detection.head import CANDIDATES, DetectionHead
from mining.detection.region_proposals import RegionProposals

_NOTHING = -1.0  # score of what fills up, below every minimum
Found = tuple[Tensor, Tensor, Tensor]  # boxes, outputs, scores


def candidates_of(
    head: DetectionHead, features: Sequence[Tensor], size: Tensor, is_named: Tensor, min_score: Tensor
) -> Found:
    """Return the same boxes as `head.candidates`.

    Args:
        head: The head.
        features: The levels of the pyramid, (1, channels, h, w) each.
        size: (2,) float, height and width of the image without the padding.
        is_named: (C,) bool, outputs to look for.
        min_score: (), boxes below this score are left out.

    Returns:
        (n, 4) xyxy in px of the network's input, (n,) outputs, (n,) scores.
    """
    if isinstance(head, FasterRCNN):
        return _of_regions(head, features, size, is_named, min_score)
    assert isinstance(head, DenseHead)
    return _of_places(head, features, is_named, min_score)


def _of_places(head: DenseHead, features: Sequence[Tensor], is_named: Tensor, min_score: Tensor) -> Found:
    outputs = {name: values[0] for name, values in head(features).items()}
    places = head.places_of(features)
    all_scores = head.scores(outputs).masked_fill(~is_named, _NOTHING)
    found = []
    for first, last in pairwise((0, *accumulate(level.shape[0] for level in places))):
        rows, labels, best = _best(all_scores[first:last], min_score)
        found.append((first + rows, labels, best))
    rows, labels, scores = (torch.cat(columns) for columns in zip(*found, strict=True))
    return head.decode(outputs["bbox_regression"][rows], torch.cat(places)[rows]), labels, scores


def _of_regions(
    head: FasterRCNN, features: Sequence[Tensor], size: Tensor, is_named: Tensor, min_score: Tensor
) -> Found:
    regions = _propose(head.proposals, features, size)
    pooling = head.regions.box_roi_pool
    levels = pooling.map_levels([regions])
    # their order does not matter, so that they stay sorted by level
    by_level = [regions[levels == level] for level in range(len(features))]
    pooled = [
        roi_align(level, torch.cat([torch.zeros_like(rois[:, :1]), rois], dim=1), pooling.output_size, scale,
                  pooling.sampling_ratio)
        for level, rois, scale in zip(features, by_level, pooling.scales, strict=True)
    ]  # fmt: skip
    regions = torch.cat(by_level)
    logits, regression = head.regions.box_predictor(head.regions.box_head(torch.cat(pooled)))
    scores = logits.softmax(dim=1)[:, 1:].masked_fill(~is_named, _NOTHING)
    rows, labels, best = _best(scores, min_score)
    encoded = regression.reshape(regression.shape[0], -1, 4)[rows, labels + 1]
    return head.decode(encoded, regions[rows]), labels, best


def _propose(proposals: RegionProposals, features: Sequence[Tensor], size: Tensor) -> Tensor:
    """Return the (n, 4) proposals of an image."""
    logits, regression = (values[0] for values in proposals(features))
    anchors = proposals.anchors(features)
    network = proposals.layers
    rows, numbers, scores = [], [], []
    for number, (first, last) in enumerate(pairwise((0, *accumulate(level.shape[0] for level in anchors)))):
        count = network.pre_nms_top_n()
        likely = logits[first:last].sigmoid()
        best, order = torch.cat([likely, likely.new_full((count,), _NOTHING)]).topk(count)
        order, best = order[best > _NOTHING], best[best > _NOTHING]
        rows.append(first + order)
        scores.append(best)
        numbers.append(torch.full_like(best, number))
    chosen = torch.cat(rows)
    boxes = network.box_coder.decode_single(regression[chosen], torch.cat(anchors)[chosen])
    boxes = torch.minimum(boxes.clamp(min=0), torch.stack([size[1], size[0], size[1], size[0]]))
    is_large = ((boxes[:, 2:] - boxes[:, :2]) >= network.min_size).all(dim=1)
    boxes, likely, level = boxes[is_large], torch.cat(scores)[is_large], torch.cat(numbers)[is_large]
    apart = boxes + level[:, None] * (size.max() + 1)  # boxes of different levels do not overlap
    return boxes[nms(apart, likely, network.nms_thresh)[: network.post_nms_top_n()]]


def _best(scores: Tensor, min_score: Tensor) -> Found:
    """Return rows, outputs and scores of the best of (A, C) scores, at least `min_score`."""
    padded = torch.cat([scores.flatten(), scores.new_full((CANDIDATES,), _NOTHING)])
    best, order = padded.topk(CANDIDATES)
    is_kept = best >= min_score
    order = order[is_kept]
    return order // scores.shape[1], order % scores.shape[1], best[is_kept]
