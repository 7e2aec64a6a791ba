"""The hot path: a shard of the corpus in, a part with its boxes out.

Decoding runs in threads ahead of the network, cutting boxes in threads behind it (mining.crew); images of one shape
share a batch.
The order of the batches depends on the shard alone, so that a shard done again gives the same rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mining.boxes import MERGERS, Boxes, plausible
from mining.cards import ModelCard, read_card
from mining.config import MineSettings
from mining.corpus import read_shard
from mining.corpus.schema import FILTERED, LABELLED, LOW_SCORE, NO_REGION, QUARANTINED
from mining.crew import Crew
from mining.curves import Curve, curve_row, cut_with_curve
from mining.errors import ImageError, MapError
from mining.images import read_image, resized, working_size
from mining.inference import default_batch_size, ready
from mining.localizers.base import NO_CLASS, Localizer, pad_classes, probabilities
from mining.models import cut_of, load_model, resolve_device
from mining.parts import ImageOutcome, is_done, part_outcomes, write_part
from mining.pyramid import PyramidMaps, fused, largest_size, localize_pyramid
from mining.regions import FloatMap, boxes_from_map
from mining.runs import RunDirectory, cores

MAX_MAP_SIDE = 512
_BATCHES_A_TURN = 8  # decoded at a time where decoding and the network take turns
RANKED = 5  # classes kept an image, whatever is mined of it
Notify = Callable[[int], None]
# gets a row of the corpus with the image's true width and height, a class, and its fused map (h, w) float32, raw
Watch = Callable[[dict[str, Any], str, FloatMap], None]


@dataclass(frozen=True)
class Prepared:
    """One image ready for the network."""

    place: int  # in the shard
    row: dict[str, Any]  # of the corpus
    pixels: Tensor  # (3, h, w) uint8 at the largest scale
    size: tuple[int, int]  # (h, w) at scale 1
    height: int
    width: int
    classes: list[int] | None  # asked for; None where labels are not known


def mine_shard(
    run_dir: Path, shard: int, notify: Notify = lambda count: None, watch: Watch | None = None
) -> list[ImageOutcome]:
    """Mine one shard of a run and write its part, unless the part is there already.

    notify: called with the number of images done since the last call.
    watch: called with each map that is cut, from several threads; not for a part that is there already.
    Gives the images' outcomes. Raises StorageError when the disk refuses the part.
    """
    run = RunDirectory(run_dir)
    settings = run.settings()
    part, curves = run.files_of(shard, curves=settings.curves)
    if is_done(part, curves) and (done := part_outcomes(part)) is not None:
        notify(len(done))
        return done
    rows = read_shard(run.corpus, shard).to_pylist()
    miner = _miner(run.model.resolve(), settings.model_dump_json(), read_card(run.model).weights_sha256)
    outcomes = miner.mine(rows, notify, watch)
    write_part(part, outcomes, curves)
    return outcomes


@lru_cache(maxsize=2)
def _miner(model: Path, settings: str, _weights: str) -> "Miner":
    # one model a process, however many shards it mines; another one when weights or settings are others
    parsed = MineSettings.model_validate_json(settings)
    return Miner(*load_model(model, parsed), parsed)


class Miner:
    """A localizer with the settings to mine by."""

    def __init__(self, localizer: Localizer, card: ModelCard, settings: MineSettings) -> None:
        self.card = card
        self.cut = cut_of(card, settings)
        self.settings = settings
        self.device = resolve_device(settings.device)
        self.localizer = ready(localizer, self.device)
        self.batch_size = settings.batch_size or default_batch_size(self.device)
        self.workers = settings.workers or min(8, cores())
        self._class_names = card.class_names
        self._index = {name: index for index, name in enumerate(self._class_names)}

    def mine(
        self, rows: list[dict[str, Any]], notify: Notify = lambda count: None, watch: Watch | None = None
    ) -> list[ImageOutcome]:
        """Rows of the corpus to their outcomes, in the same order."""
        outcomes: dict[int, ImageOutcome] = {}
        takes_turns = self.device.type == "cpu"
        with Crew[tuple[int, ImageOutcome]](self.workers, takes_turns=takes_turns) as crew:
            for batch in self._batches(rows, crew, outcomes, notify):
                maps = self._localize(batch)
                for position, image in enumerate(batch):
                    crew.later(self._outcome, image, *_of_image(maps, position), watch)
                for place, outcome in crew.results(behind=2 * self.batch_size):
                    outcomes[place] = outcome
                    notify(1)
            for place, outcome in crew.results():
                outcomes[place] = outcome
                notify(1)
        return [outcomes[place] for place in range(len(rows))]

    def fused_maps(self, row: dict[str, Any], classes: list[str]) -> tuple[Tensor, Tensor]:
        """The image and its fused maps, for people to look at.

        Gives (3, h, w) uint8 at the largest scale, and (K, h, w) float32 raw maps of the classes named, of one size.
        Raises ImageError.
        """
        prepared = self._prepare(0, {**row, "labels": classes})
        maps = self._localize([prepared])
        size = (int(prepared.pixels.shape[1]), int(prepared.pixels.shape[2]))
        return prepared.pixels, fused([level[0] for level in maps.levels], size).cpu()

    # --- before the network ------------------------------------------------------------------------------------------

    def _batches(
        self,
        rows: list[dict[str, Any]],
        crew: Crew[tuple[int, ImageOutcome]],
        outcomes: dict[int, ImageOutcome],
        notify: Notify,
    ) -> Iterator[list[Prepared]]:
        waiting: dict[tuple[int, int], list[Prepared]] = {}
        ahead = (_BATCHES_A_TURN if crew.takes_turns else 2) * self.batch_size
        for place, decoded in enumerate(crew.each(self._prepare, rows, ahead=ahead)):
            try:
                image = decoded.result()
            except ImageError as error:
                outcomes[place] = _quarantined(rows[place], str(error))
                notify(1)
                continue
            alike = waiting.setdefault(image.size, [])
            alike.append(image)
            if len(alike) == self.batch_size:
                yield waiting.pop(image.size)
        for size in sorted(waiting):
            yield waiting[size]

    def _prepare(self, place: int, row: dict[str, Any]) -> Prepared:
        pixels = read_image(self.settings.images / row["file_name"])
        height, width = int(pixels.shape[1]), int(pixels.shape[2])
        size = working_size(height, width, short_side=self.card.input_size)
        known = row["labels"]
        return Prepared(
            place, row, resized(pixels, largest_size(size, self.settings.scales)), size, height, width,
            None if known is None else [self._index[name] for name in known],
        )  # fmt: skip

    # --- the network -------------------------------------------------------------------------------------------------

    def _localize(self, batch: list[Prepared]) -> PyramidMaps:
        images = torch.stack([image.pixels for image in batch])
        if self.device.type == "cuda":
            images = images.pin_memory().to(self.device, non_blocking=True)
        else:
            images = images.to(self.device)
        asked = [image.classes for image in batch]

        def choose(logits: Tensor) -> Tensor:
            predicted = self._predicted(logits) if any(one is None for one in asked) else []
            return pad_classes([predicted[i] if one is None else one for i, one in enumerate(asked)])

        quiet = torch.no_grad() if self.localizer.needs_gradients else torch.inference_mode()
        with quiet, torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            return localize_pyramid(
                self.localizer, images, size=batch[0].size, scales=self.settings.scales, classes=choose
            )

    def _predicted(self, logits: Tensor) -> list[list[int]]:
        best = probabilities(logits, self.card.objective).cpu().topk(min(self.settings.max_classes, logits.shape[1]))
        return [
            [int(index) for value, index in zip(values, indices, strict=True) if value >= self.cut.class_cut]
            for values, indices in zip(best.values, best.indices, strict=True)
        ]

    # --- behind the network ------------------------------------------------------------------------------------------

    def _outcome(
        self, image: Prepared, logits: Tensor, classes: list[int], levels: list[Tensor], watch: Watch | None
    ) -> tuple[int, ImageOutcome]:
        try:
            scores = probabilities(logits[None], self.card.objective)[0]
            state, boxes, curves = self._boxes(image, scores, classes, levels, watch)
        except MapError as error:
            return image.place, _quarantined(image.row, f"{self.settings.images / image.row['file_name']}: {error}")
        row = image.row
        return image.place, ImageOutcome(
            row["image_id"],
            row["file_name"],
            state,
            image.width,
            image.height,
            None,
            boxes,
            curves,
            self._ranked(scores),
        )

    def _ranked(self, scores: Tensor) -> list[tuple[int, float]]:
        best = scores.topk(min(RANKED, len(scores)))
        ids = [self.card.classes[index]["id"] for index in best.indices.tolist()]
        return [(one, round(value, 6)) for one, value in zip(ids, best.values.tolist(), strict=True)]

    def _boxes(
        self, image: Prepared, scores: Tensor, classes: list[int], levels: list[Tensor], watch: Watch | None
    ) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
        """The image's state, its boxes as rows, and its curves as rows."""
        if not bool(scores.isfinite().all()):
            raise MapError("The classifier gives NaN or infinity; the model's weights are broken or overflowed.")
        if not classes:
            return NO_REGION, [], []
        height, width = _map_size(image.height, image.width)
        stretch = (image.width / width, image.height / height)
        found, passed, accepted, curves = 0, 0, [], []
        maps = fused(levels, (height, width)).cpu().numpy()
        for activation, index in zip(maps, classes, strict=True):
            if watch:
                watch(
                    {**image.row, "width": image.width, "height": image.height},
                    self._class_names[index],
                    activation,
                )
            class_score = float(scores[index])
            threshold, boxes, curve = self._cut(image, index, activation, stretch, class_score)
            found += len(boxes)
            boxes = _finished(boxes, stretch, class_score)
            boxes = MERGERS[self.settings.merge](boxes[self._plausible(boxes, image)], self.settings.merge_iou)
            passed += len(boxes)
            boxes = boxes[boxes.score >= self.settings.min_score]
            accepted += self._rows(image, index, class_score, threshold, boxes)
            if self.settings.curves and curve:
                curves.append(self._curve_row(image, index, curve))
        if accepted:
            return LABELLED, sorted(accepted, key=lambda row: -row["score"]), curves
        return (LOW_SCORE if passed else FILTERED if found else NO_REGION), [], curves

    def _plausible(self, boxes: Boxes, image: Prepared) -> npt.NDArray[np.bool_]:
        return plausible(
            boxes, width=image.width, height=image.height, min_area=self.settings.min_area,
            max_area=self.settings.max_area, max_aspect=self.settings.max_aspect, max_borders=self.settings.max_borders,
        )  # fmt: skip

    def _cut(
        self, image: Prepared, index: int, activation: FloatMap, stretch: tuple[float, float], class_score: float
    ) -> tuple[float, Boxes, Curve | None]:
        """Where the map is cut, its boxes in map pixels, and its curve where it was needed."""

        def passes(boxes: Boxes) -> npt.NDArray[np.bool_]:
            boxes = _finished(boxes, stretch, class_score)
            return self._plausible(boxes, image) & (boxes.score >= self.settings.min_score)

        threshold = self.cut.class_thresholds.get(self._class_names[index], self.cut.threshold)
        if not (self.settings.curves or isinstance(threshold, str)):
            return threshold, boxes_from_map(activation, threshold=threshold, normalise=self.cut.normalise), None
        cut = cut_with_curve(
            activation, threshold=threshold, normalise=self.cut.normalise, passes=passes, stretch=stretch
        )
        return cut.threshold, cut.boxes, cut.curve

    def _curve_row(self, image: Prepared, index: int, curve: Curve) -> dict[str, Any]:
        return curve_row(
            curve, image_id=image.row["image_id"], category_id=self.card.classes[index]["id"],
            width=image.width, height=image.height,
        )  # fmt: skip

    def _rows(
        self, image: Prepared, index: int, class_score: float, threshold: float, boxes: Boxes
    ) -> list[dict[str, Any]]:
        common = {
            "image_id": image.row["image_id"], "file_name": image.row["file_name"],
            "width": image.width, "height": image.height,
            "category_id": self.card.classes[index]["id"], "category": self.card.classes[index]["name"],
            "class_score": class_score, "threshold": threshold, "scales": list(self.settings.scales),
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


def _of_image(maps: PyramidMaps, position: int) -> tuple[Tensor, list[int], list[Tensor]]:
    classes = [int(index) for index in maps.classes[position] if index != NO_CLASS]
    return maps.logits[position].cpu(), classes, [level[position, : len(classes)] for level in maps.levels]


def _quarantined(row: dict[str, Any], reason: str) -> ImageOutcome:
    return ImageOutcome(row["image_id"], row["file_name"], QUARANTINED, row["width"], row["height"], reason)


def _map_size(height: int, width: int) -> tuple[int, int]:
    """Where maps are fused and cut: the image's own size, reduced to MAX_MAP_SIDE px for larger images."""
    shrink = min(1.0, MAX_MAP_SIDE / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _finished(boxes: Boxes, stretch: tuple[float, float], class_score: float) -> Boxes:
    """From map pixels to image pixels, the class's probability multiplied into the score."""
    xyxy = boxes.xyxy * [*stretch, *stretch]
    score = boxes.score * class_score
    return Boxes(xyxy.astype("float32"), score.astype("float32"), boxes.peak, boxes.mean_activation, boxes.merged_from)
