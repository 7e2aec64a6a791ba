"""Behind the network: an image's maps to its boxes, its curves and what became of it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mining.arrays import FloatMap
from mining.boxes.boxes import MERGERS, Boxes, filter_mask
from mining.boxes.iou import paired_iou
from mining.config import MapThreshold, MineSettings
from mining.corpus.schema import FILTERED, LABELLED, LOW_SCORE, NO_REGION, QUARANTINED
from mining.engine.outcome import ImageOutcome
from mining.engine.pyramid import fuse_scales
from mining.errors import MapError
from mining.models.card import ModelCard
from mining.models.class_outputs import class_of_output, class_probabilities
from mining.models.overrides import extraction_params
from mining.regions.extraction import boxes_from_map
from mining.regions.threshold_curves import ThresholdCurve, curve_row, extract_with_curve

RANKED = 5  # classes kept an image, whatever is mined of it
LOOSER = 0.7  # share of the threshold at which a box that is stable has nearly the same place
# gets a row of the corpus with the image's true width and height, a class, and its fused map (h, w) float32, raw
MapCallback = Callable[[dict[str, Any], str, FloatMap], None]


@dataclass(frozen=True)
class PreparedImage:
    """One image ready for the network, and what it takes to place boxes in it."""

    place: int  # in the shard
    row: dict[str, Any]  # of the corpus
    pixels: dict[float, Tensor]  # by scale, (3, h, w) uint8
    size: tuple[int, int]  # (h, w) at scale 1
    height: int
    width: int
    classes: list[int] | None  # asked for; None where labels are not known
    content_hash: str | None = None  # of the file that was decoded


@dataclass(frozen=True)
class ForwardOutput:
    """One image as the network saw it, on the CPU.

    logits: (C,). classes: the K outputs of the network that were mapped. levels: by scale, (K, h, w) raw maps.
    """

    logits: Tensor
    classes: list[int]
    levels: dict[float, Tensor]


@dataclass(frozen=True)
class _MapCut:
    """The fused map of one class, cut at its threshold.

    activation: (h, w) float32, raw. index: of the class. stretch: image pixels per map pixel, across and down.
    boxes: in map pixels, before any filter. curve: None where it was not needed.
    """

    activation: FloatMap
    index: int
    class_score: float
    stretch: tuple[float, float]
    threshold: float
    boxes: Boxes
    curve: ThresholdCurve | None


class BoxExtractor:
    """Cuts boxes as the settings say."""

    def __init__(self, card: ModelCard, settings: MineSettings) -> None:
        self.card = card
        self.params = extraction_params(card, settings)
        self.settings = settings
        self._class_names = card.class_names
        self._class_of_output = class_of_output(card)

    def outcome(self, image: PreparedImage, seen: ForwardOutput, watch: MapCallback | None = None) -> ImageOutcome:
        """What became of the image. watch: called with each map that is cut."""
        outcome = self._outcome(image, seen, watch)
        assert outcome is not None  # only an image whose stability is asked for may have none
        return outcome

    def outcome_if_stable(
        self, image: PreparedImage, seen: ForwardOutput, least_iou: float, watch: MapCallback | None = None
    ) -> ImageOutcome | None:
        """The outcome, or None where the best box of a class moves when the threshold is lowered.

        least_iou: overlap that the best box must have with the best box at LOOSER times the threshold.
        watch: called with each map that is cut, where the image is stable.
        """
        return self._outcome(image, seen, watch, least_iou)

    def _outcome(
        self, image: PreparedImage, seen: ForwardOutput, watch: MapCallback | None, least_iou: float | None = None
    ) -> ImageOutcome | None:
        row = image.row
        scores = class_probabilities(seen.logits[None], self.card)[0]
        try:
            if not bool(scores.isfinite().all()):
                raise MapError("The classifier gives NaN or infinity; the model's weights are broken or overflowed.")
            cuts = []
            for cut in self._cuts(image, scores, seen):
                if least_iou is not None and not self._is_stable(image, cut, least_iou):
                    return None
                cuts.append(cut)
        except MapError as error:
            return quarantined(row, f"{self.settings.images / row['file_name']}: {error}")
        if watch:
            sized_row = {**row, "width": image.width, "height": image.height}
            for cut in cuts:
                watch(sized_row, self._class_names[cut.index], cut.activation)
        state, boxes, curves = self._boxes(image, cuts, list(seen.levels))
        return ImageOutcome(
            row["image_id"], row["file_name"], state, image.width, image.height, None, boxes, curves,
            self._ranked(scores), content_hash=image.content_hash,
        )  # fmt: skip

    def threshold_of(self, category: str) -> float | MapThreshold:
        """Where maps of the class are cut."""
        return self.params.class_thresholds.get(category, self.params.threshold)

    def _ranked(self, scores: Tensor) -> list[tuple[int, float]]:
        best = scores.topk(min(RANKED, len(scores)))
        ids = [self.card.classes[index]["id"] for index in best.indices.tolist()]
        return [(one, round(value, 6)) for one, value in zip(ids, best.values.tolist(), strict=True)]

    def _map_size(self, image: PreparedImage) -> tuple[tuple[int, int], tuple[float, float]]:
        """(h, w) at which maps are fused and cut, and image pixels a map pixel, across and down."""
        shrink = min(1.0, self.settings.map_side / math.sqrt(image.height * image.width))
        height, width = max(1, round(image.height * shrink)), max(1, round(image.width * shrink))
        return (height, width), (image.width / width, image.height / height)

    def _cuts(self, image: PreparedImage, scores: Tensor, seen: ForwardOutput) -> Iterator[_MapCut]:
        """Each class's fused map, cut once. Raises MapError where one holds NaN or infinity."""
        if not seen.classes:
            return
        size, stretch = self._map_size(image)
        for activation, output in zip(fuse_scales(list(seen.levels.values()), size).numpy(), seen.classes, strict=True):
            index = self._class_of_output[output]
            class_score = float(scores[index])
            threshold, boxes, curve = self._cut(image, index, activation, stretch, class_score)
            yield _MapCut(activation, index, class_score, stretch, threshold, boxes, curve)

    def _is_stable(self, image: PreparedImage, cut: _MapCut, least_iou: float) -> bool:
        """Whether the best box overlaps by `least_iou` or more with that of a looser threshold."""
        looser_boxes = boxes_from_map(
            cut.activation, threshold=LOOSER * cut.threshold, normalise=self.params.normalise
        )  # fmt: skip
        best, looser = (self._finished(boxes, image, cut.stretch) for boxes in (cut.boxes, looser_boxes))
        if len(best) == len(looser) == 0:
            return True
        return bool(len(best) and len(looser) and paired_iou(best.xyxy[0], looser.xyxy[0]) >= least_iou)

    def _boxes(
        self, image: PreparedImage, cuts: list[_MapCut], scales: list[float]
    ) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
        """The image's state, its boxes as rows, and its curves as rows."""
        found, passed, accepted, curves = 0, 0, [], []
        for cut in cuts:
            found += len(cut.boxes)
            boxes = self._finished(cut.boxes, image, cut.stretch, cut.class_score)
            passed += len(boxes)
            boxes = boxes[boxes.score >= self.settings.min_score]
            accepted += self._rows(image, cut.index, cut.class_score, cut.threshold, boxes, scales)
            if self.settings.curves and cut.curve:
                curves.append(self._curve_row(image, cut.index, cut.curve))
        if accepted:
            return LABELLED, sorted(accepted, key=lambda row: -row["score"]), curves
        return (LOW_SCORE if passed else FILTERED if found else NO_REGION), [], curves

    def _finished(
        self, boxes: Boxes, image: PreparedImage, stretch: tuple[float, float], class_score: float = 1.0
    ) -> Boxes:
        """In image pixels, filtered and merged, best first."""
        boxes = _stretched(boxes, stretch, class_score)
        return MERGERS[self.settings.merge](boxes[self._plausible(boxes, image)], self.settings.merge_iou)

    def _plausible(self, boxes: Boxes, image: PreparedImage) -> npt.NDArray[np.bool_]:
        return filter_mask(
            boxes, width=image.width, height=image.height, min_area=self.settings.min_area,
            max_area=self.settings.max_area, max_aspect=self.settings.max_aspect, max_borders=self.settings.max_borders,
        )  # fmt: skip

    def _cut(
        self, image: PreparedImage, index: int, activation: FloatMap, stretch: tuple[float, float], class_score: float
    ) -> tuple[float, Boxes, ThresholdCurve | None]:
        """Where the map is cut, its boxes in map pixels, and its curve where it was needed."""

        def passes(boxes: Boxes) -> npt.NDArray[np.bool_]:
            boxes = _stretched(boxes, stretch, class_score)
            return self._plausible(boxes, image) & (boxes.score >= self.settings.min_score)

        threshold = self.threshold_of(self._class_names[index])
        if not (self.settings.curves or isinstance(threshold, str)):
            return threshold, boxes_from_map(activation, threshold=threshold, normalise=self.params.normalise), None
        cut = extract_with_curve(
            activation, threshold=threshold, normalise=self.params.normalise, passes=passes, stretch=stretch
        )
        return cut.threshold, cut.boxes, cut.curve

    def _curve_row(self, image: PreparedImage, index: int, curve: ThresholdCurve) -> dict[str, Any]:
        return curve_row(
            curve, image_id=image.row["image_id"], category_id=self.card.classes[index]["id"],
            width=image.width, height=image.height,
        )  # fmt: skip

    def _rows(
        self, image: PreparedImage, index: int, class_score: float, threshold: float, boxes: Boxes, scales: list[float]
    ) -> list[dict[str, Any]]:
        common = {
            "image_id": image.row["image_id"], "file_name": image.row["file_name"],
            "width": image.width, "height": image.height,
            "category_id": self.card.classes[index]["id"], "category": self.card.classes[index]["name"],
            "class_score": class_score, "threshold": threshold, "scales": scales,
            "localizer": self.card.localizer, "model_sha256": self.card.weights_sha256,
            "source": "prediction" if image.classes is None else "label",
        }  # fmt: skip
        return [
            {
                **common, "x": x0, "y": y0, "w": x1 - x0, "h": y1 - y0, "area": (x1 - x0) * (y1 - y0),
                "score": float(boxes.score[i]), "peak": float(boxes.peak[i]),
                "mean_activation": float(boxes.mean_activation[i]), "merged_from": int(boxes.merged_from[i]),
            }
            for i, (x0, y0, x1, y1) in enumerate(boxes.xyxy.tolist())
        ]  # fmt: skip


def quarantined(row: dict[str, Any], reason: str, *, replaced: bool = False) -> ImageOutcome:
    """The outcome of an image that could not be used. replaced: its file is not the one that was listed."""
    return ImageOutcome(
        row["image_id"], row["file_name"], QUARANTINED, row["width"], row["height"], reason, replaced=replaced
    )


def _stretched(boxes: Boxes, stretch: tuple[float, float], class_score: float) -> Boxes:
    """From map pixels to image pixels, the class's probability multiplied into the score."""
    xyxy = boxes.xyxy * [*stretch, *stretch]
    score = boxes.score * class_score
    return Boxes(xyxy.astype("float32"), score.astype("float32"), boxes.peak, boxes.mean_activation, boxes.merged_from)
