"""Mine rows of the corpus with a detector: decode images, detect objects of their classes, filter boxes.

A labelled image gets the best box of each of its classes, however low its score, and all others from a score on; so a
class that the labels name is rarely left without a box. An unlabelled image gets the boxes from that score on. Where
the settings give a minimum score, it holds for all boxes instead.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mining.arrays import Bools, Float32s, Ints
from mining.boxes.boxes import MERGERS, Boxes, filter_mask
from mining.config import MineSettings
from mining.config.execution import available_cores
from mining.corpus.images.decoding import decode_image, resolve_image_path
from mining.corpus.schema import FILTERED, LABELLED, LOW_SCORE, NO_CLASS, NO_REGION
from mining.engine.box_extraction import FACTOR_COLUMNS, RANKED_CLASSES, MapCallback, quarantined
from mining.engine.miner import ProgressCallback, ShapeBucketer
from mining.engine.outcome import ImageOutcome
from mining.engine.timing import Timing
from mining.errors import ImageError, ImageReplacedError
from mining.models.card import ModelCard
from mining.models.class_outputs import class_of_output
from mining.models.device import resolve_device
from mining.runtimes.worker_threads import MAX_THREADS, InferenceThreadPool

if TYPE_CHECKING:
    from mining.detection.boxes import Detections
    from mining.detection.network import Detector

LEAST_SCORE = 0.01  # of what the detector lists at all
# Score from which a box is kept that is not the best of its class. On 160 generated images, after one round of a
# bootstrap, 0.3, 0.4 and 0.5 give a precision of 51, 80 and 87 % and an instance recall of 89, 85 and 83 %.
CONFIDENT = 0.4
# Of kinds whose scores are higher. On 80 generated images that no detector has seen, Faster R-CNN has a precision of
# 50, 75 and 83 % and an instance recall of 90, 87 and 81 % from 0.4, 0.7 and 0.8 on; FCOS 72 and 88 % from 0.4 on.
CONFIDENT_OF_KIND = {"faster-rcnn": 0.7}
BATCH = 8  # images per pass on a GPU
_UNMEASURED = float("nan")


class DetectorMiner:
    """A detector with the settings to mine with; like `mining.engine.miner.Miner`.

    Attributes:
        card: The model's card.
        settings: How to mine.
        timing: None: phases of a detector are not measured.
    """

    timing: Timing | None = None

    def __init__(self, detector: "Detector", card: ModelCard, settings: MineSettings) -> None:
        self.card, self.settings = card, settings
        self.device = resolve_device(settings.device)
        self._detector = detector.to(self.device).eval()
        self._class_of_output = class_of_output(card)
        self._outputs: dict[int, list[int]] = {}
        for output, index in self._class_of_output.items():
            self._outputs.setdefault(index, []).append(output)
        self._index = {name: index for index, name in enumerate(card.class_names)}
        self._workers = settings.workers or min(MAX_THREADS, available_cores())

    def mine(
        self,
        rows: list[dict[str, Any]],
        on_progress: ProgressCallback = lambda count: None,
        on_map: MapCallback | None = None,
    ) -> list[ImageOutcome]:
        """Mine rows of the corpus table.

        Args:
            rows: Rows of one shard.
            on_progress: Called with the number of images done since the last call.
            on_map: Never called: a detector has no maps.

        Returns:
            The images' outcomes, in the order of the rows.
        """
        outcomes: dict[int, ImageOutcome] = {}
        on_cpu = self.device.type == "cpu"
        with InferenceThreadPool[None](self._workers) as pool:
            work = self._mine_alone if on_cpu else self._decode
            ahead = 2 * self._workers if on_cpu else 2 * BATCH
            decoded = ShapeBucketer[tuple[int, "_Decoded"]]()

            def finish(batch: list[tuple[int, "_Decoded"]]) -> None:
                places, images = [place for place, _ in batch], [image for _, image in batch]
                outcomes.update(zip(places, self._detect(images), strict=True))
                on_progress(len(batch))

            for place, future in enumerate(pool.map_ordered(work, rows, ahead=ahead)):
                result = future.result()
                if isinstance(result, ImageOutcome):
                    outcomes[place] = result
                    on_progress(1)
                    continue
                decoded.add(tuple(result.pixels.shape[1:]), (place, result))
                for batch in decoded.full(BATCH):
                    finish(batch)
            for batch in decoded.rest():
                finish(batch)
        return [outcomes[place] for place in range(len(rows))]

    def _mine_alone(self, place: int, row: dict[str, Any]) -> ImageOutcome:
        decoded = self._decode(place, row)
        return decoded if isinstance(decoded, ImageOutcome) else self._detect([decoded])[0]

    def _decode(self, place: int, row: dict[str, Any]) -> "_Decoded | ImageOutcome":
        def needed(height: int, width: int) -> tuple[int, int]:
            shrink = min(1.0, self.card.input_size / max(height, width))
            return max(1, round(height * shrink)), max(1, round(width * shrink))

        digests: list[str] = []
        path = resolve_image_path(self.settings.images, row["file_name"])
        try:
            with decode_image(path, needed, row.get("content_hash"), digests.append) as (pixels, (height, width)):
                return _Decoded(row, pixels.clone(), height, width, digests[0], self._classes_of(row["labels"]))
        except ImageError as error:
            return quarantined(row, str(error), replaced=isinstance(error, ImageReplacedError))

    def _classes_of(self, labels: list[str] | None) -> list[int] | None:
        return None if labels is None else [self._index[name] for name in labels if name in self._index]

    def _detect(self, images: list["_Decoded"]) -> list[ImageOutcome]:
        wanted = [
            None
            if one.classes is None
            else [output for index in one.classes for output in self._outputs.get(index, [])]
            for one in images
        ]
        found = self._detector.detect(
            [image.pixels.to(self.device) for image in images], wanted, min_score=LEAST_SCORE,
            merge_iou=self.settings.merge_iou,
        )  # fmt: skip
        return [self._outcome(image, one) for image, one in zip(images, found, strict=True)]

    # --- boxes -------------------------------------------------------------------------------------------------------

    def _outcome(self, image: "_Decoded", found: "Detections") -> ImageOutcome:
        row = image.row
        stretch = np.array([image.width / image.pixels.shape[2], image.height / image.pixels.shape[1]] * 2, np.float32)
        xyxy, scores = found.boxes.cpu().numpy() * stretch, found.scores.cpu().numpy()
        classes = np.array([self._class_of_output.get(output, -1) for output in found.classes.tolist()], np.intp)
        accepted: list[dict[str, Any]] = []
        passed = 0
        for index in sorted(set(classes.tolist()) - {-1}):
            of_class = classes == index
            boxes = self._passing(xyxy[of_class], scores[of_class], image)
            passed += len(boxes)
            kept = boxes[
                _is_kept(
                    boxes.score, self.settings.min_score, self.card.localizer, is_labelled=image.classes is not None
                )
            ]
            accepted += self._rows(image, kept, index, float(scores[of_class].max()))
        accepted.sort(key=lambda one: -one["score"])
        return ImageOutcome(
            row["image_id"], row["file_name"], self._state(image, len(found.boxes), passed, len(accepted)),
            image.width, image.height, None, accepted, [], self._rank(image, classes, scores),
            content_hash=image.digest,
        )  # fmt: skip

    def _passing(self, xyxy: Float32s, scores: Float32s, image: "_Decoded") -> Boxes:
        """The boxes of one class that pass the filters, merged, highest score first."""
        count, settings = len(xyxy), self.settings
        unmeasured = np.full(count, _UNMEASURED, np.float32)
        boxes = Boxes(xyxy, scores, unmeasured, unmeasured, np.ones(count, np.int64))
        passing = filter_mask(
            boxes, width=image.width, height=image.height, min_area=settings.min_area, max_area=settings.max_area,
            max_aspect=settings.max_aspect, max_borders=settings.max_borders,
        )  # fmt: skip
        return MERGERS[settings.merge](boxes[passing].best_first(), settings.merge_iou)

    def _state(self, image: "_Decoded", detected: int, passed: int, accepted: int) -> str:
        if accepted:
            return LABELLED
        if image.classes == []:
            return NO_CLASS
        return LOW_SCORE if passed else FILTERED if detected else NO_REGION

    def _rank(self, image: "_Decoded", classes: Ints, scores: Float32s) -> list[tuple[int, float]]:
        """Ids of the classes with the highest scores, and these; none where only the labels were looked for."""
        if image.classes is not None:
            return []
        best = {index: float(scores[classes == index].max()) for index in set(classes.tolist()) - {-1}}
        ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:RANKED_CLASSES]
        return [(self.card.classes[index]["id"], round(value, 6)) for index, value in ordered]

    def _rows(self, image: "_Decoded", boxes: Boxes, index: int, class_score: float) -> list[dict[str, Any]]:
        category = self.card.classes[index]
        common = {
            "image_id": image.row["image_id"], "file_name": image.row["file_name"], "width": image.width,
            "height": image.height, "category_id": category["id"], "category": category["name"],
            "class_score": class_score, "scales": [1.0], "threshold": _UNMEASURED, "is_part": False,
            "peak": _UNMEASURED, "mean_activation": _UNMEASURED, "localizer": self.card.localizer,
            "model_sha256": self.card.weights_sha256, "refinement": None,
            "source": "prediction" if image.classes is None else "label", **dict.fromkeys(FACTOR_COLUMNS),
        }  # fmt: skip
        return [
            {
                **common, "x": x0, "y": y0, "w": x1 - x0, "h": y1 - y0, "area": (x1 - x0) * (y1 - y0),
                "score": float(score), "merged_from": int(merged),
            }
            for (x0, y0, x1, y1), score, merged in zip(
                boxes.xyxy.tolist(), boxes.score, boxes.merged_from, strict=True
            )
        ]  # fmt: skip


@dataclass(frozen=True)
class _Decoded:
    """A decoded image: (3, h, w) uint8 pixels, maybe reduced; its own size; SHA-256; classes, None if unlabelled."""

    row: dict[str, Any]
    pixels: Tensor
    height: int
    width: int
    digest: str
    classes: list[int] | None


def confident_score(kind: str) -> float:
    """Return the score from which a box of a kind of detector is kept, though it is not the best of its class."""
    return CONFIDENT_OF_KIND.get(kind, CONFIDENT)


def _is_kept(scores: Float32s, min_score: float, kind: str, *, is_labelled: bool) -> Bools:
    """Which boxes of a class in an image are kept, by their (n,) scores, highest first: (n,) bool."""
    if min_score > 0:
        return scores >= min_score
    confident = scores >= confident_score(kind)
    if is_labelled and len(confident):
        confident[0] = True
    return confident
