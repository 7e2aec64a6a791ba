"""Convert activation maps to boxes, threshold curves and an image outcome."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mining.arrays import FloatMap
from mining.backbones.receptive_fields import CellGrid
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

RANKED_CLASSES = 5  # most probable classes recorded per image
STABILITY_THRESHOLD_RATIO = 0.7  # a stable box hardly changes at this share of the threshold
# gets a row of the corpus with the image's true width and height, a class, and its raw fused map (h, w) float32
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


@dataclass(frozen=True)
class ForwardOutput:
    """The output of the network for one image, on the CPU.

    Attributes:
        logits: (C,).
        classes: The K outputs of the network that were mapped.
        levels: Raw maps (K, h, w) by scale.
    """

    logits: Tensor
    classes: list[int]
    levels: dict[float, Tensor]


@dataclass(frozen=True)
class _ExtractedMap:
    """The fused map of one class, and the boxes at its threshold.

    activation: (h, w) float32, raw. index: position of the class. stretch: image pixels per map pixel in x and y.
    boxes: in map pixels, before any filter. curve: None if it was not needed.
    """

    activation: FloatMap
    index: int
    class_score: float
    stretch: tuple[float, float]
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
                on_map(sized_row, self._class_names[extracted.index], extracted.activation)
        state, boxes, curves = self._collect_boxes(image, maps, list(output.levels))
        return ImageOutcome(
            row["image_id"], row["file_name"], state, image.width, image.height, None, boxes, curves,
            self._rank_classes(scores), content_hash=image.content_hash,
        )  # fmt: skip

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
        for activation, channel in zip(self.fuse(image, output, size).numpy(), output.classes, strict=True):
            index = self._class_of_output[channel]
            class_score = float(scores[index])
            threshold, boxes, curve = self._extract_regions(image, index, activation, stretch, class_score)
            yield _ExtractedMap(activation, index, class_score, stretch, threshold, boxes, curve)

    def fuse(self, image: PreparedImage, output: ForwardOutput, size: tuple[int, int]) -> Tensor:
        """Fuse the maps of all scales to (K, *size).

        The columns of cells are placed where they look, so that boxes of mirrored images are mirrored. Their rows are
        scaled only: networks look somewhat too high, but maps are high within objects, too, because heads tell more
        than feet. On VOC's photos, CorLoc at three scales is 1.5 points lower with both corrections.
        """
        grids = []
        for scale, level in output.levels.items():
            height, width = image.pixels[scale].shape[1:]
            grid = self._cell_grid((height, width))
            if grid is not None:
                grid = grid.with_centred_rows(height, level.shape[-2]).scaled(size[0] / height, size[1] / width)
            grids.append(grid)
        return fuse_scales(list(output.levels.values()), size, grids)

    def _is_stable(self, image: PreparedImage, extracted: _ExtractedMap, min_iou: float) -> bool:
        """Return whether the best box has an IoU of at least `min_iou` with that of a lower threshold."""
        lower = STABILITY_THRESHOLD_RATIO * extracted.threshold
        looser_boxes = boxes_from_map(extracted.activation, threshold=lower, normalise=self.params.normalise)
        best, looser = (
            self._finish_boxes(boxes, image, extracted.stretch) for boxes in (extracted.boxes, looser_boxes)
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
            boxes = self._finish_boxes(extracted.boxes, image, extracted.stretch, extracted.class_score)
            passed_count += len(boxes)
            boxes = boxes[boxes.score >= self.settings.min_score]
            accepted += self._rows(image, extracted.index, extracted.class_score, extracted.threshold, boxes, scales)
            if self.settings.curves and extracted.curve:
                curves.append(self._curve_row(image, extracted.index, extracted.curve))
        if accepted:
            return LABELLED, sorted(accepted, key=lambda row: -row["score"]), curves
        return (LOW_SCORE if passed_count else FILTERED if extracted_count else NO_REGION), [], curves

    def _finish_boxes(
        self, boxes: Boxes, image: PreparedImage, stretch: tuple[float, float], class_score: float = 1.0
    ) -> Boxes:
        """Convert boxes to image pixels, filter and merge them; highest score first."""
        boxes = _to_image_pixels(boxes, stretch, class_score)
        return MERGERS[self.settings.merge](boxes[self._passes_filters(boxes, image)], self.settings.merge_iou)

    def _passes_filters(self, boxes: Boxes, image: PreparedImage) -> npt.NDArray[np.bool_]:
        return filter_mask(
            boxes, width=image.width, height=image.height, min_area=self.settings.min_area,
            max_area=self.settings.max_area, max_aspect=self.settings.max_aspect, max_borders=self.settings.max_borders,
        )  # fmt: skip

    def _extract_regions(
        self, image: PreparedImage, index: int, activation: FloatMap, stretch: tuple[float, float], class_score: float
    ) -> tuple[float, Boxes, ThresholdCurve | None]:
        """Return the threshold of a map, its boxes in map pixels, and its curve if it was needed."""

        def passes(boxes: Boxes) -> npt.NDArray[np.bool_]:
            boxes = _to_image_pixels(boxes, stretch, class_score)
            return self._passes_filters(boxes, image) & (boxes.score >= self.settings.min_score)

        threshold = self.threshold_of(self._class_names[index])
        if not (self.settings.curves or isinstance(threshold, str)):
            return threshold, boxes_from_map(activation, threshold=threshold, normalise=self.params.normalise), None
        extracted = extract_with_curve(
            activation, threshold=threshold, normalise=self.params.normalise, passes=passes, stretch=stretch
        )
        return extracted.threshold, extracted.boxes, extracted.curve

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
    """Return the outcome of an image that could not be used; `replaced` if its file is not the listed one."""
    return ImageOutcome(
        row["image_id"], row["file_name"], QUARANTINED, row["width"], row["height"], reason, replaced=replaced
    )


def _to_image_pixels(boxes: Boxes, stretch: tuple[float, float], class_score: float) -> Boxes:
    """Scale boxes from map to image pixels, and multiply their scores by the class probability."""
    xyxy = boxes.xyxy * [*stretch, *stretch]
    score = boxes.score * class_score
    return Boxes(xyxy.astype("float32"), score.astype("float32"), boxes.peak, boxes.mean_activation, boxes.merged_from)
