"""The boxes and images of a run as arrays, so that a million boxes are opened in seconds."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mining.arrays import Floats, Ints
from mining.boxes.iou import iou_matrix, paired_iou
from mining.corpus.schema import LABELLED, PENDING, QUARANTINED
from mining.errors import InputError
from mining.quality.judgements import Box
from mining.quality.outcomes import CORRECT_IOU
from mining.quality.planning import trust_in_boxes
from mining.quality.threshold_signals import MIN_IOU_ON_CURVE
from mining.runs.run import Run

_BOX_COLUMNS = ["annotation_id", "image_id", "category_id", "x", "y", "w", "h", "score"]
_SAME_PX = 0.5
MAX_CANDIDATES = 2


@dataclass(frozen=True)
class ImageInfo:
    """An image of the run.

    Attributes:
        image_id: Its id in corpus.parquet.
        file_name: Path below the image root.
        width: In px.
        height: In px.
        content_hash: SHA-256 of the file when it was mined, None if it was not computed.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    content_hash: str | None


class PlacesByThreshold(NamedTuple):
    """Where a box may be instead of where it is, each xywh in px.

    Attributes:
        walk: The box at other thresholds, widest first, itself among them.
        candidates: Other regions of the class where the image has no box of it yet, the most stable one first.
    """

    walk: list[Box]
    candidates: list[Box]


class RunIndex:
    """The n boxes and N images of a finished run.

    Attributes:
        run: The run.
        ids: (n,) annotation_id, ascending.
        image: (n,) image_id of each box.
        category: (n,) category_id.
        xywh: (n, 4) float64 px.
        score: (n,) float64.
        classes: Class names by category_id.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        table = run.read_annotations(_BOX_COLUMNS)
        self._order = order = np.argsort(table["annotation_id"].to_numpy(), kind="stable")
        columns = {name: table[name].to_numpy()[order] for name in _BOX_COLUMNS}
        self.ids: Ints = columns["annotation_id"].astype(np.int64)
        self.image: Ints = columns["image_id"].astype(np.int64)
        self.category: Ints = columns["category_id"].astype(np.int64)
        self.score: Floats = columns["score"].astype(np.float64)
        self.xywh: Floats = np.stack([columns[side].astype(np.float64) for side in "xywh"], axis=1)
        self.classes: dict[int, str] = dict(run.classes)
        for number in np.setdiff1d(self.category, list(self.classes)).tolist():  # the category object is no class
            row = int(np.flatnonzero(table["category_id"].to_numpy() == number)[0])
            self.classes[number] = str(run.read_annotations(["category"])["category"][row].as_py())
        self._by_image = np.argsort(self.image, kind="stable")
        self._images_sorted = self.image[self._by_image]
        corpus = run.read_corpus(["image_id", "file_name", "width", "height", "content_hash", "state"])
        self._corpus = corpus
        self._corpus_ids: Ints = corpus["image_id"].to_numpy().astype(np.int64)
        self._corpus_order = np.argsort(self._corpus_ids, kind="stable")

    def __len__(self) -> int:
        return len(self.ids)

    def place_of(self, annotation_id: int) -> int:
        """Return the place of a box. Raises InputError if the run has no such box."""
        place = int(np.searchsorted(self.ids, annotation_id))
        if place == len(self.ids) or self.ids[place] != annotation_id:
            raise InputError(f"The run {self.run.path} has no box {annotation_id}.")
        return place

    def box_of(self, annotation_id: int) -> tuple[ImageInfo, Box]:
        """Return the image and the place, xywh in px, of a box. Raises InputError as `place_of` and `image_of` do."""
        place = self.place_of(annotation_id)
        return self.image_of(int(self.image[place])), _box(self.xywh[place])

    def image_of(self, image_id: int) -> ImageInfo:
        """Return an image by its id. Raises InputError if the run has no such image, or could not use it."""
        place = int(np.searchsorted(self._corpus_ids, image_id, sorter=self._corpus_order))
        row = int(self._corpus_order[place]) if place < len(self._corpus_order) else -1
        if row < 0 or self._corpus_ids[row] != image_id:
            raise InputError(f"The run {self.run.path} has no image {image_id}.")
        values = {name: self._corpus[name][row].as_py() for name in self._corpus.column_names}
        if values["width"] is None or values["height"] is None:
            raise InputError(f"The image {values['file_name']!r} could not be used, see quarantine.parquet.")
        return ImageInfo(image_id, values["file_name"], values["width"], values["height"], values["content_hash"])

    @property
    def usable_files(self) -> list[tuple[str, str | None]]:
        """Name and SHA-256, if known, of the images that could be used, in the order of the corpus."""
        some = self._corpus.filter(pc.is_valid(self._corpus["width"]))
        return list(zip(some["file_name"].to_pylist(), some["content_hash"].to_pylist(), strict=True))

    @cached_property
    def image_ids(self) -> dict[str, int]:
        """Ids of all images, by name."""
        return dict(zip(self._corpus["file_name"].to_pylist(), self._corpus_ids.tolist(), strict=True))

    @cached_property
    def images_without_box(self) -> list[int]:
        """Ids of the images that were mined and have no box, in the order of the corpus."""
        is_left_out = pc.is_in(self._corpus["state"], value_set=pa.array([LABELLED, PENDING, QUARANTINED]))
        return self._corpus.filter(pc.invert(is_left_out))["image_id"].to_pylist()

    @cached_property
    def quarantined(self) -> list[tuple[str, str]]:
        """Name of each image that could not be used, and why, in the order of the corpus."""
        if not pc.any(pc.equal(self._corpus["state"], QUARANTINED)).as_py():
            return []
        table = self.run.read_quarantine()
        root = self.run.image_root
        return [
            (name, reason.removeprefix(f"{root / name}: "))
            for name, reason in zip(table["file_name"].to_pylist(), table["reason"].to_pylist(), strict=True)
        ]

    def places_on(self, image_id: int) -> Ints:
        """Return the places of the boxes on an image, best score first."""
        first, last = (np.searchsorted(self._images_sorted, image_id, side) for side in ("left", "right"))
        places = self._by_image[first:last]
        return places[np.argsort(-self.score[places], kind="stable")]

    def doubtful_first(self) -> Ints:
        """(n,) places of the boxes, least probably correct first: by the calibration if there is one, else by score."""
        unsorted = np.empty_like(self.score)
        unsorted[self._order] = self.score
        return np.argsort(trust_in_boxes(self.run, unsorted)[self._order], kind="stable")

    def places_by_threshold(self, place: int) -> PlacesByThreshold:
        """Return where a box is at other thresholds, and which other regions of its class the image has.

        Both are from the best boxes of its image and class at the thresholds that the run has stored.
        """
        curve = self._curve(int(self.image[place]), int(self.category[place]))
        own = self.xywh[place]
        if curve is None:
            return PlacesByThreshold([_box(own)], [])
        shown = self.places_on(int(self.image[place]))
        same_class = self.xywh[shown[self.category[shown] == self.category[place]]]
        found = curve[curve.max(axis=1) > 0]
        return PlacesByThreshold(_walk(_edges(own), curve), _candidates(_edges(same_class), found))

    def _curve(self, image_id: int, category_id: int) -> Floats | None:
        """(T, 4) boxes of an image and class by threshold, as edges in px of the image; None without curves."""
        if not self.run.curves.is_file():
            return None
        filters = [("image_id", "=", image_id), ("category_id", "=", category_id)]
        table = pq.read_table(self.run.curves, filters=filters)
        if not table.num_rows:
            return None
        row: dict[str, Any] = table.slice(0, 1).to_pylist()[0]
        stretch = np.array([row["width"] / row["map_width"], row["height"] / row["map_height"]] * 2)
        return np.array(row["xyxy"], np.float64).reshape(-1, 4) * stretch


def _walk(own: Floats, curve: Floats) -> list[Box]:
    """A box at other thresholds, widest first, itself among them: xyxy (4,) and (T, 4) to xywh.

    From the threshold whose box is nearest to it on in both directions, as long as neighbours overlap by
    MIN_IOU_ON_CURVE.
    """
    start = int(np.argmax(paired_iou(own, curve)))
    kept = [own]
    if paired_iou(own[None], curve[start][None])[0] >= MIN_IOU_ON_CURVE:
        for step in (-1, 1):
            last, at = own, start
            while 0 <= at < len(curve):
                if curve[at].max() <= 0 or paired_iou(last[None], curve[at][None])[0] < MIN_IOU_ON_CURVE:
                    break
                if min(np.abs(curve[at] - one).max() for one in (last, *kept)) > _SAME_PX:
                    kept.append(curve[at])
                last, at = curve[at], at + step
    areas = [-(one[2] - one[0]) * (one[3] - one[1]) for one in kept]
    return [_box([*kept[i][:2], *(kept[i][2:] - kept[i][:2])]) for i in np.argsort(areas, kind="stable")]


def _candidates(boxes: Floats, curve: Floats) -> list[Box]:
    """Other places where the object may be: xyxy (n, 4) and (T, 4) to at most MAX_CANDIDATES of xywh.

    The boxes of the curve that are no box of the class already (IoU below CORRECT_IOU), one of each group that overlap
    by as much, those that most thresholds agree on first.
    """
    left = curve[(iou_matrix(curve, boxes) < CORRECT_IOU).all(axis=1)]
    found: list[Box] = []
    while len(left) and len(found) < MAX_CANDIDATES:
        is_same = iou_matrix(left, left) >= CORRECT_IOU
        best = int(np.argmax(is_same.sum(axis=1)))
        found.append(_box([*left[best][:2], *(left[best][2:] - left[best][:2])]))
        left = left[~is_same[best]]
    return found


def _edges(xywh: Floats) -> Floats:
    return np.concatenate([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], axis=-1)


def _box(xywh: Any) -> Box:
    x, y, w, h = (round(float(side), 2) for side in xywh)
    return x, y, w, h
