"""Convert activation maps to boxes, threshold curves and an image outcome."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mining.arrays import Float32s, FloatMap
from mining.backbones.receptive_fields import CellGrid
from mining.boxes.boxes import MERGERS, Boxes, filter_mask
from mining.boxes.iou import best_iou, paired_iou
from mining.config import MapThreshold, MineSettings
from mining.corpus.schema import FILTERED, LABELLED, LOW_SCORE, NO_CLASS, NO_REGION, QUARANTINED
from mining.engine.outcome import ImageOutcome
from mining.errors import MapError
from mining.localizers.map_refiner import RefinedMaps
from mining.localizers.pyramid import fuse_scales
from mining.models.card import ModelCard
from mining.models.class_outputs import class_of_output, class_probabilities, object_probability, object_weights
from mining.models.overrides import extraction_params
from mining.regions.extraction import RegionScore, boxes_from_map
from mining.regions.parts import find_parts
from mining.regions.threshold_curves import MapWithCurve, ThresholdCurve, curve_row

RANKED_CLASSES = 5  # most probable classes recorded per image
STABILITY_THRESHOLD_RATIO = 0.7  # a stable box hardly changes at this share of the threshold
FACTOR_COLUMNS = ("mean_probability", "cut_agreement", "map_agreement")
HIGH_THRESHOLD = 0.8  # right boxes hardly change up to this threshold
CLASS_MAP_THRESHOLD = 0.4  # of the localizer's own map after the walk
PART_SCORE = 0.3  # of parts of a region; from 0.1 to 0.3 AP50 is the same, at 0.5 it is lower
PART_OVERLAP = 0.5  # IoU with a region's box from which a part is the same box
# gets a row of the corpus with the image's true width and height, a class, and the map (h, w) float32 that
# its boxes are extracted from
MapCallback = Callable[[dict[str, Any], str, FloatMap], None]
GridOfSize = Callable[[tuple[int, int]], CellGrid | None]


@dataclass(frozen=True)
class PreparedImage:
    """One decoded image at every scale, and what is needed to place boxes in it."""

    place: int  # position in the shard
    row: dict[str, Any]  # of the corpus
    pixels: dict[float, Tensor]  # by scale, (3, h, w) uint8
    size: tuple[int, int]  # (h, w) at scale 1
    height: int
    width: int
    classes: list[int] | None  # to map; None for an unlabelled image
    content_hash: str | None = None  # SHA-256 of the decoded file
    crops: Tensor | None = None  # (10, 3, s, s) uint8, whose mean probability is the image's; None for the image itself


@dataclass(frozen=True)
class ForwardOutput:
    """The output of the network for one image, on the CPU.

    Attributes:
        logits: (C,).
        classes: The K outputs of the network that were mapped.
        levels: Raw maps (K, h, w) by scale.
        refined: Refined maps (K, h, w); None if maps are not refined.
        is_object: Whether these maps together are that of the class `object`.
    """

    logits: Tensor
    classes: list[int]
    levels: dict[float, Tensor]
    refined: RefinedMaps | None = None
    is_object: bool = False


@dataclass(frozen=True)
class _Agreement:
    """What the boxes of a map that a cell classifier refined are compared with.

    probability: highest probability of the map. at_high_threshold, of_class_map: boxes in map pixels.
    """

    probability: float
    at_high_threshold: Boxes
    of_class_map: Boxes

    def factors(self, xyxy: Float32s, mean_activation: Float32s) -> tuple[Float32s, Float32s, Float32s]:
        """Return the values of FACTOR_COLUMNS (see mining.runs.schema) for n boxes in map pixels, (n,) each."""
        return (
            mean_activation * np.float32(self.probability),
            best_iou(xyxy, self.at_high_threshold.xyxy),
            best_iou(xyxy, self.of_class_map.xyxy),
        )


@dataclass(frozen=True)
class _MapContext:
    """What turns boxes of the map of one class into scored boxes of the image.

    index: position of the class. stretch: image pixels per map pixel in x and y. agreement: None if the map was not
    refined by a cell classifier. features: (D, h, w) of the cells, to find parts of regions by; None if they are not
    looked for. by_area: whether boxes are scored by the area of their regions.
    """

    index: int
    class_score: float
    stretch: tuple[float, float]
    agreement: _Agreement | None
    features: FloatMap | None
    by_area: bool


@dataclass(frozen=True)
class _ExtractedMap:
    """The fused map of one class, and the boxes at its threshold.

    activation: (h, w) float32, raw. boxes: in map pixels, before any filter. curve: None if it was not needed.
    """

    activation: FloatMap
    context: _MapContext
    threshold: float
    boxes: Boxes
    curve: ThresholdCurve | None


class BoxExtractor:
    """Extracts boxes from activation maps, filters and merges them as the settings say.

    Args:
        card: The model's card.
        settings: How to mine.
        cell_grid: Returns where the cells of a map look, see `Localizer.cell_grid`.
    """

    def __init__(self, card: ModelCard, settings: MineSettings, cell_grid: GridOfSize = lambda size: None) -> None:
        self.card = card
        self._cell_grid = cell_grid
        self.params = extraction_params(card, settings)
        self.settings = settings
        self._region_score: RegionScore = "area" if settings.rank_by == "area" else "peak"
        self._class_names = card.class_names
        self._class_of_output = class_of_output(card)

    def extract(self, image: PreparedImage, output: ForwardOutput, on_map: MapCallback | None = None) -> ImageOutcome:
        """Return the image's outcome; `on_map` is called with each map."""
        outcome = self._extract(image, output, on_map)
        assert outcome is not None  # only an unstable image has none
        return outcome

    def extract_if_stable(
        self, image: PreparedImage, output: ForwardOutput, min_iou: float, on_map: MapCallback | None = None
    ) -> ImageOutcome | None:
        """Return the outcome, or None if the best box of a class changes when the threshold is lowered.

        Args:
            image: The image.
            output: The network's output for it.
            min_iou: Minimum IoU with the best box at STABILITY_THRESHOLD_RATIO times the threshold.
            on_map: Called with each map of a stable image.
        """
        return self._extract(image, output, on_map, min_iou)

    def _extract(
        self, image: PreparedImage, output: ForwardOutput, on_map: MapCallback | None, min_iou: float | None = None
    ) -> ImageOutcome | None:
        row = image.row
        scores = class_probabilities(output.logits[None], self.card)[0]
        try:
            if not bool(scores.isfinite().all()):
                raise MapError(
                    "The classifier's output holds NaN or infinity: the weights of the model are damaged or overflow."
                )
            maps = []
            for extracted in self._extract_maps(image, scores, output):
                if min_iou is not None and not self._is_stable(image, extracted, min_iou):
                    return None
                maps.append(extracted)
        except MapError as error:
            return quarantined(row, f"{self.settings.images / row['file_name']}: {error}")
        if on_map:
            sized_row = {**row, "width": image.width, "height": image.height}
            for extracted in maps:
                on_map(sized_row, self._class_names[extracted.context.index], extracted.activation)
        state, boxes, curves = self._collect_boxes(image, maps, list(output.levels))
        return ImageOutcome(
            row["image_id"], row["file_name"], state, image.width, image.height, None, boxes, curves,
            self._rank_classes(scores), content_hash=image.content_hash,
        )  # fmt: skip

    def classes_of(self, output: ForwardOutput) -> list[int]:
        """Return the index of the class of each map that `fuse` returns."""
        if output.is_object and output.classes:
            return [len(self._class_names) - 1]
        return [self._class_of_output[channel] for channel in output.classes]

    def threshold_of(self, category: str) -> float | MapThreshold:
        """Return the threshold of a class."""
        return self.params.class_thresholds.get(category, self.params.threshold)

    def _rank_classes(self, scores: Tensor) -> list[tuple[int, float]]:
        best = scores.topk(min(RANKED_CLASSES, len(scores)))
        ids = [self.card.classes[index]["id"] for index in best.indices.tolist()]
        return [(one, round(value, 6)) for one, value in zip(ids, best.values.tolist(), strict=True)]

    def _map_size(self, image: PreparedImage) -> tuple[tuple[int, int], tuple[float, float]]:
        """Return the (h, w) at which maps are fused, and image pixels per map pixel in x and y."""
        shrink = min(1.0, self.settings.map_side / math.sqrt(image.height * image.width))
        height, width = max(1, round(image.height * shrink)), max(1, round(image.width * shrink))
        return (height, width), (image.width / width, image.height / height)

    def _extract_maps(self, image: PreparedImage, scores: Tensor, output: ForwardOutput) -> Iterator[_ExtractedMap]:
        """Yield each class's fused map with its boxes. Raises MapError if a map holds NaN or infinity."""
        if not output.classes:
            return
        size, stretch = self._map_size(image)
        fused = self.fuse(image, output, size).numpy()
        class_maps: Iterable[FloatMap | None] = [None] * len(fused)
        features = None
        if output.refined is not None and self.params.refine == "cells":
            class_maps = self._sum_if_object(fuse_scales([output.refined.class_maps], size), output).numpy()
            features = None if output.refined.features is None else output.refined.features.numpy()
        for activation, class_map, index in zip(fused, class_maps, self.classes_of(output), strict=True):
            threshold = self.threshold_of(self._class_names[index])
            cut: MapWithCurve | float
            if isinstance(threshold, str) or self.settings.curves:
                cut = MapWithCurve(
                    activation, threshold=threshold, normalise=self.params.normalise, score=self._region_score
                )
            else:
                cut = threshold
            agreement = None if class_map is None else _compare_with(activation, class_map, cut)
            class_score = object_probability(output.logits, self.card) if output.is_object else float(scores[index])
            context = _MapContext(index, class_score, stretch, agreement, features, self._region_score == "area")
            yield self._extract_regions(image, activation, context, cut)

    def fuse(self, image: PreparedImage, output: ForwardOutput, size: tuple[int, int]) -> Tensor:
        """Return the refined maps, or the sum of the maps of all scales, as (K, *size); one map of the class `object`.

        Of maps that are not refined, the columns of cells are placed where they look, so that boxes of mirrored images
        are mirrored. Their rows are scaled only: networks look somewhat too high, but maps are high within objects,
        too, because a head is more discriminative than feet. Refined maps follow the middle stages, whose cells tile
        the image.
        """
        if output.refined is not None:
            # a cell classifier's probabilities add up to that of not being background
            weighted = self.params.refine != "cells"
            return self._sum_if_object(fuse_scales([output.refined.maps], size), output, weighted=weighted)
        grids = []
        for scale, level in output.levels.items():
            height, width = image.pixels[scale].shape[1:]
            grid = self._cell_grid((height, width))
            if grid is not None:
                grid = grid.with_centred_rows(height, level.shape[-2]).scaled(size[0] / height, size[1] / width)
            grids.append(grid)
        return self._sum_if_object(fuse_scales(list(output.levels.values()), size, grids), output)

    def _sum_if_object(self, maps: Tensor, output: ForwardOutput, *, weighted: bool = True) -> Tensor:
        """Return the maps, or their sum, weighted by the probabilities of their outputs, as the map of `object`."""
        if not (output.is_object and output.classes):
            return maps
        weights = object_weights(output.logits, self.card) if weighted else torch.ones(len(maps))
        return torch.einsum("k,khw->hw", weights.to(maps.dtype), maps)[None]

    def _is_stable(self, image: PreparedImage, extracted: _ExtractedMap, min_iou: float) -> bool:
        """Return whether the best box has an IoU of at least `min_iou` with that of a lower threshold."""
        lower = STABILITY_THRESHOLD_RATIO * extracted.threshold
        looser_boxes = self._boxes_from_map(extracted.activation, lower)
        best, looser = (
            self._finish_boxes(boxes, image, extracted.context) for boxes in (extracted.boxes, looser_boxes)
        )
        if len(best) == len(looser) == 0:
            return True
        return bool(len(best) and len(looser) and paired_iou(best.xyxy[0], looser.xyxy[0]) >= min_iou)

    def _collect_boxes(
        self, image: PreparedImage, maps: list[_ExtractedMap], scales: list[float]
    ) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the image's state, its boxes as rows, and its curves as rows."""
        extracted_count, passed_count, accepted, curves = 0, 0, [], []
        for extracted in maps:
            extracted_count += len(extracted.boxes)
            boxes = self._finish_boxes(extracted.boxes, image, extracted.context)
            passed_count += len(boxes)
            parts = self._find_parts(image, extracted, boxes)
            for some, is_part in ((boxes, False), (parts, True)):
                accepted += self._rows(image, extracted, some[some.score >= self.settings.min_score], scales, is_part)
            if self.settings.curves and extracted.curve:
                curves.append(self._curve_row(image, extracted.context.index, extracted.curve))
        if accepted:
            return LABELLED, sorted(accepted, key=lambda row: -row["score"]), curves
        reason = NO_REGION if maps else NO_CLASS
        return (LOW_SCORE if passed_count else FILTERED if extracted_count else reason), [], curves

    def _finish_boxes(self, boxes: Boxes, image: PreparedImage, context: _MapContext) -> Boxes:
        """Convert boxes to image pixels, score, filter and merge them; highest score first."""
        boxes = _score_in_image(boxes, image, context)
        return MERGERS[self.settings.merge](boxes[self._passes_filters(boxes, image)], self.settings.merge_iou)

    def _find_parts(self, image: PreparedImage, extracted: _ExtractedMap, boxes: Boxes) -> Boxes:
        """Return boxes of the parts of regions, in image pixels, that none of the region's boxes covers."""
        context = extracted.context
        if context.features is None or context.agreement is None or extracted.threshold >= HIGH_THRESHOLD:
            return Boxes.empty()
        if len(context.agreement.at_high_threshold) < 2:
            return Boxes.empty()
        high, _ = self._passing(context.agreement.at_high_threshold, image, context)
        if len(high) < 2:
            return Boxes.empty()
        regions, region_scores = self._passing(extracted.boxes, image, context)
        height, width = extracted.activation.shape
        cells = cv2.resize(extracted.activation, context.features.shape[:0:-1], interpolation=cv2.INTER_AREA)
        level = np.asarray(cells / max(float(cells.max()), 1e-6), np.float32)
        found = find_parts(
            regions.xyxy, high.xyxy, level=level, features=context.features, threshold=HIGH_THRESHOLD,
            size=(height, width),
        )  # fmt: skip
        chosen = np.array([part.box for part in found], np.intp)
        parts = _score_in_image(high[chosen], image, context)
        limit = region_scores[np.array([part.region for part in found], np.intp)]
        scored = replace(parts, score=np.float32(PART_SCORE) * np.minimum(parts.score, limit))
        return scored[best_iou(parts.xyxy, boxes.xyxy) < PART_OVERLAP].best_first()

    def _passing(self, boxes: Boxes, image: PreparedImage, context: _MapContext) -> tuple[Boxes, Float32s]:
        """Return the boxes in map pixels that pass the filters, and their scores."""
        scored = _score_in_image(boxes, image, context)
        passing = self._passes_filters(scored, image)
        return boxes[passing], scored.score[passing]

    def _passes_filters(self, boxes: Boxes, image: PreparedImage) -> npt.NDArray[np.bool_]:
        return filter_mask(
            boxes, width=image.width, height=image.height, min_area=self.settings.min_area,
            max_area=self.settings.max_area, max_aspect=self.settings.max_aspect, max_borders=self.settings.max_borders,
        )  # fmt: skip

    def _extract_regions(
        self, image: PreparedImage, activation: FloatMap, context: _MapContext, cut: MapWithCurve | float
    ) -> _ExtractedMap:
        """Extract the boxes of a map, and its curve if it was cut at all thresholds."""

        def rate(boxes: Boxes) -> tuple[npt.NDArray[np.bool_], Float32s]:
            scored = _score_in_image(boxes, image, context)
            # of regions at several thresholds, only that of the largest at its own threshold is known: the class's
            score = np.full(len(boxes), context.class_score, np.float32) if context.by_area else scored.score
            passing = self._passes_filters(scored, image) & (score >= self.settings.min_score)
            return passing, boxes.score if context.agreement is None or context.by_area else scored.score

        if not isinstance(cut, MapWithCurve):
            boxes = self._boxes_from_map(activation, cut)
            return _ExtractedMap(activation, context, cut, boxes, None)
        extracted = cut.extract(rate, stretch=context.stretch)
        return _ExtractedMap(activation, context, extracted.threshold, extracted.boxes, extracted.curve)

    def _boxes_from_map(self, activation: FloatMap, threshold: float) -> Boxes:
        return boxes_from_map(
            activation, threshold=threshold, normalise=self.params.normalise, score=self._region_score
        )

    def _curve_row(self, image: PreparedImage, index: int, curve: ThresholdCurve) -> dict[str, Any]:
        return curve_row(
            curve, image_id=image.row["image_id"], category_id=self.card.classes[index]["id"],
            width=image.width, height=image.height,
        )  # fmt: skip

    def _source(self, image: PreparedImage, context: _MapContext) -> str:
        if context.index == self.card.object_index:
            return "object"
        return "prediction" if image.classes is None else "label"

    def _rows(
        self, image: PreparedImage, extracted: _ExtractedMap, boxes: Boxes, scales: list[float], is_part: bool
    ) -> list[dict[str, Any]]:
        context = extracted.context
        common = {
            "image_id": image.row["image_id"], "file_name": image.row["file_name"],
            "width": image.width, "height": image.height,
            "category_id": self.card.classes[context.index]["id"],
            "category": self.card.classes[context.index]["name"],
            "class_score": context.class_score, "scales": scales,
            "threshold": HIGH_THRESHOLD if is_part else extracted.threshold, "is_part": is_part,
            "localizer": self.card.localizer, "model_sha256": self.card.weights_sha256,
            "source": self._source(image, context), "refinement": self.params.refine,
        }  # fmt: skip
        factors = _score_factors(boxes, context)
        return [
            {
                **common, "x": x0, "y": y0, "w": x1 - x0, "h": y1 - y0, "area": (x1 - x0) * (y1 - y0),
                "score": float(boxes.score[i]), "peak": float(boxes.peak[i]),
                "mean_activation": float(boxes.mean_activation[i]), "merged_from": int(boxes.merged_from[i]),
                **dict(zip(FACTOR_COLUMNS, own, strict=True)),
            }
            for i, ((x0, y0, x1, y1), own) in enumerate(zip(boxes.xyxy.tolist(), factors, strict=True))
        ]  # fmt: skip


def quarantined(row: dict[str, Any], reason: str, *, replaced: bool = False) -> ImageOutcome:
    """Return the outcome of an image that could not be used; `replaced` if its file is not the listed one."""
    return ImageOutcome(
        row["image_id"], row["file_name"], QUARANTINED, row["width"], row["height"], reason, replaced=replaced
    )


def _compare_with(activation: FloatMap, class_map: FloatMap, cut: MapWithCurve | float) -> _Agreement:
    """Extract the boxes that those of a refined map are compared with; `cut` has them if all thresholds were cut."""
    if isinstance(cut, MapWithCurve) and cut.normalise == "max":
        at_high_threshold = cut.boxes_at(HIGH_THRESHOLD)
    else:
        at_high_threshold = boxes_from_map(activation, threshold=HIGH_THRESHOLD)
    of_class_map = boxes_from_map(class_map, threshold=CLASS_MAP_THRESHOLD)
    return _Agreement(float(activation.max()), at_high_threshold, of_class_map)


def _score_in_image(boxes: Boxes, image: PreparedImage, context: _MapContext) -> Boxes:
    """Scale boxes from map to image pixels, and score them (see the column `score` in mining.runs.schema)."""
    if context.agreement is None or context.by_area:
        score = boxes.score * context.class_score
    else:
        probability, cut, class_map = context.agreement.factors(boxes.xyxy, boxes.mean_activation)
        is_predicted = image.classes is None
        score = probability * (cut + class_map) / 2 * (context.class_score if is_predicted else 1.0)
    xyxy = (boxes.xyxy * [*context.stretch, *context.stretch]).astype("float32")
    return Boxes(xyxy, score.astype("float32"), boxes.peak, boxes.mean_activation, boxes.merged_from)


def _score_factors(boxes: Boxes, context: _MapContext) -> list[tuple[float | None, ...]]:
    """Return the values of FACTOR_COLUMNS for boxes in image pixels; None where the score has no such factors."""
    if context.agreement is None:
        return [(None,) * len(FACTOR_COLUMNS)] * len(boxes)
    xyxy = (boxes.xyxy / [*context.stretch, *context.stretch]).astype("float32")
    factors = context.agreement.factors(xyxy, boxes.mean_activation)
    return list(zip(*(values.tolist() for values in factors), strict=True))
