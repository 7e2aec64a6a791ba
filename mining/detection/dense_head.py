"""What the heads of all one-stage detectors share: places that predict a box each, matched to boxes, with weights."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mining.detection.boxes import DetectionTarget
from mining.detection.head import Candidates, DetectionHead, best_scores, mask_unwanted

BACKGROUND, NEITHER = -1, -2
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class PlaceLosses:
    """The losses of one image's places, before any weight.

    Attributes:
        classification: (A,) of every place, summed over the classes.
        of_objects: Name to (F,), of the places that have a box, in order.
    """

    classification: Tensor
    of_objects: dict[str, Tensor]


class DenseHead(DetectionHead):
    """The head of a one-stage detector. A *place* is what predicts one box: a cell, or an anchor of a cell."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """Return the outputs for all places of all levels: 'cls_logits' (B, A, C), 'bbox_regression' (B, A, 4), ..."""

    @abstractmethod
    def places(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> list[Tensor]:
        """Return the (A_i, 4) xyxy places of each level in input px, from the height and width of its map."""

    @abstractmethod
    def match(self, places: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Return for each of the (A,) places of all levels the index of its box, BACKGROUND or NEITHER.

        Args:
            places: See `places`.
            boxes: (n, 4) with n > 0.
        """

    @abstractmethod
    def place_losses(self, outputs: Outputs, places: Tensor, matched: Tensor, target: DetectionTarget) -> PlaceLosses:
        """Return the losses of one image, from its (A, ...) outputs, its (A, 4) places and its (A,) matches."""

    @abstractmethod
    def scores(self, outputs: Outputs) -> Tensor:
        """Return the (A, C) scores in 0-1 of the (A, ...) outputs of one image."""

    @abstractmethod
    def decode(self, regression: Tensor, places: Tensor) -> Tensor:
        """Return the (N, 4) xyxy boxes that (N, 4) outputs 'bbox_regression' of (N, 4) places stand for."""

    @abstractmethod
    def reduce(self, sums: Tensor, objects: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            sums: (B,) weighted sum of the losses of each image's places.
            objects: (B,) sum of the weights of each image's places that have a box.
        """

    def losses(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[DetectionTarget],
        drop_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch; the sizes of the images do not matter."""
        return self.losses_of(self(features), self.places_of(features), targets, drop_share)

    def candidates(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        wanted: Sequence[Sequence[int] | None],
        min_score: float,
    ) -> list[Candidates]:
        """Return the best boxes of each level; the sizes of the images do not matter."""
        outputs, places = self(features), self.places_of(features)
        return [
            self._candidates({name: values[number].float() for name, values in outputs.items()}, places, one, min_score)
            for number, one in enumerate(wanted)
        ]

    def places_of(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the places of the levels of a pyramid, see `places`."""
        return self.places([(level.shape[2], level.shape[3]) for level in features], features[0].device)

    def losses_of(
        self,
        outputs: Outputs,
        places: Sequence[Tensor],
        targets: Sequence[DetectionTarget],
        drop_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        The losses of a box's places are multiplied by its weight, and weights also replace the number of these places
        in what the sums are divided by: a box of weight 0 changes nothing. Places without a box whose centre lies in
        an ignored region have no loss.

        Args:
            outputs: Of `forward`.
            places: Of `places`.
            targets: One per image, in px of the network's input, boxes with an area.
            drop_share: Share of each image's boxes that are left out, see `least_credible`.

        Returns:
            Name to a scalar.
        """
        together = torch.cat(list(places))
        sums: dict[str, list[Tensor]] = {}
        objects = []
        for number, target in enumerate(targets):
            of_image = {name: values[number].float() for name, values in outputs.items()}
            matched = self._match(places, target)
            losses = self.place_losses(of_image, together, matched, target)
            has_box = matched >= 0
            dropped = least_credible(losses, matched, target, drop_share)
            weights = place_weights(together, matched, target, dropped)
            objects.append(weights[has_box].sum())
            sums.setdefault("classification", []).append((losses.classification * weights).sum())
            for name, values in losses.of_objects.items():
                sums.setdefault(name, []).append((values * weights[has_box]).sum())
        counts = torch.stack(objects)
        return {name: self.reduce(torch.stack(values), counts) for name, values in sums.items()}

    def _candidates(
        self, outputs: Outputs, places: Sequence[Tensor], wanted: Sequence[int] | None, min_score: float
    ) -> Candidates:
        scores = mask_unwanted(self.scores(outputs), wanted)
        parts = []
        for first, last in pairwise((0, *accumulate(map(len, places)))):
            rows, labels, best = best_scores(scores[first:last], min_score)
            parts.append((first + rows, labels, best))
        rows, labels, best = (torch.cat(columns) for columns in zip(*parts, strict=True))
        boxes = self.decode(outputs["bbox_regression"][rows], torch.cat(list(places))[rows])
        return Candidates(boxes, labels, best)

    def _match(self, places: Sequence[Tensor], target: DetectionTarget) -> Tensor:
        if not len(target.boxes):
            return target.classes.new_full((sum(map(len, places)),), BACKGROUND)
        return self.match(places, target.boxes)


def place_weights(places: Tensor, matched: Tensor, target: DetectionTarget, dropped: Tensor) -> Tensor:
    """Return the (A,) weight of each place's losses.

    Args:
        places: (A, 4).
        matched: (A,), see `DenseHead.match`.
        target: Boxes, weights and ignored regions.
        dropped: (n,) bool, boxes that are left out.
    """
    weights = (matched != NEITHER).to(places.dtype)
    centres = (places[:, None, :2] + places[:, None, 2:]) / 2
    in_ignored = ((centres >= target.ignored[:, :2]) & (centres < target.ignored[:, 2:])).all(dim=2).any(dim=1)
    weights[(matched == BACKGROUND) & in_ignored] = 0
    has_box = matched >= 0
    weights[has_box] = (target.weights * ~dropped).to(weights.dtype)[matched[has_box]]
    return weights


def least_credible(losses: PlaceLosses, matched: Tensor, target: DetectionTarget, share: float) -> Tensor:
    """Return which (n,) boxes of an image have the highest mean loss over their places.

    Args:
        losses: Of the image's places.
        matched: (A,), see `DenseHead.match`.
        target: The boxes; those of weight 0 and those without a place do not count.
        share: Share of the boxes, in [0, 1). Their number is rounded, and one box at least is kept.
    """
    count = len(target.boxes)
    has_box = matched >= 0
    of_place = losses.classification[has_box].detach() + sum(one.detach() for one in losses.of_objects.values())
    totals = of_place.new_zeros(count).index_add_(0, matched[has_box], of_place)
    number = torch.bincount(matched[has_box], minlength=count)
    can_drop = (number > 0) & (target.weights > 0)
    candidates = int(can_drop.sum())
    dropped = torch.zeros(count, dtype=torch.bool, device=matched.device)
    most = min(int(share * candidates + 0.5), candidates - 1)
    if share and most > 0:
        means = torch.where(can_drop, totals / number.clamp(min=1), -torch.inf)
        dropped[means.sort(descending=True, stable=True).indices[:most]] = True
    return dropped
