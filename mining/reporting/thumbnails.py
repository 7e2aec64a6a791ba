"""Pictures of pairs: image, activation map and boxes as separate layers that the page can hide."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import FloatMap
from mining.config import MineSettings
from mining.corpus.images.decoding import full_size, read_reduced, resize_image, resolve_image_path
from mining.engine.miner import Miner
from mining.errors import ImageError, MapError, ModelError
from mining.models.checkpoint import load_model
from mining.regions.extraction import normalise_map
from mining.reporting.picture_layers import PHOTO_SIDE, Heat, Mark, box_mark, draw_heat, encode_photo, size_within
from mining.reporting.sample_selection import Pair
from mining.runs.run import Run
from mining.storage.parquet import iter_batches


@dataclass(frozen=True)
class Tile:
    """Everything that the page shows of a pair.

    Attributes:
        kind: best, doubtful, worst, missed or judged, or the state of an image without a box; in a comparison first or
            second.
        pair: The pair.
        photo: JPEG as a data URI.
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.
        heat: The activation map; None where it cannot be drawn.
        mined: The mined boxes.
        true: The true boxes.
    """

    kind: str
    pair: Pair
    photo: str
    width: int
    height: int
    heat: Heat | None
    mined: list[Mark]
    true: list[Mark]

    @property
    def alt(self) -> str:
        """Text alternative of the picture."""
        if self.kind not in ("first", "second") and not self.pair.rows and not self.true:
            return f"Photo {self.pair.file_name} without a box"
        boxes = f"{len(self.mined)} mined {'box' if len(self.mined) == 1 else 'boxes'} of {self.pair.category}"
        true = "" if self.pair.truth is None else f" and {len(self.true)} true"
        return f"Photo {self.pair.file_name} with {boxes}{true}"

    @property
    def verdict(self) -> str:
        """Caption: class, score and IoU."""
        score = f"score {self.pair.rows[0].score:.2f}" if self.pair.rows else "no box"
        iou = "" if self.pair.iou is None else f", IoU {self.pair.iou:.2f}"
        return f"{self.pair.category}, {score}{iou}"


class Recorded(NamedTuple):
    """What the corpus table says of an image.

    Attributes:
        content_hash: SHA-256 of the file that was mined, None where it is not recorded.
        labels: Names of its classes, None where they are not known.
        state: Outcome of mining.
    """

    content_hash: str | None
    labels: list[str] | None
    state: str


class Painter:
    """Draws the pairs of one run.

    Attributes:
        recorded: What the corpus table says of the images that may be drawn, by file name.
        skipped: Reasons why pictures could not be drawn.
        no_maps: Why activation maps cannot be drawn; empty where they can.
    """

    def __init__(self, run: Run, names: Collection[str]) -> None:
        """Load the run's model.

        Args:
            run: A finished run.
            names: File names of the images that may be drawn.
        """
        self.skipped: list[str] = []
        self.recorded = _read_recorded(run, names)
        self.no_maps = ""
        self._settings: MineSettings = run.settings_used.model_copy(update={"device": "auto"})
        self._miner: Miner | None = None
        try:
            self._miner = Miner(*load_model(run.model, self._settings), self._settings)
        except ModelError as error:
            self.no_maps = str(error)

    def tiles(self, pairs: Iterable[tuple[str, Pair]]) -> list[Tile]:
        """Draw (kind, pair); an image that can no longer be read, or that was replaced, is skipped."""
        tiles = []
        for kind, pair in pairs:
            try:
                tiles.append(self._tile(kind, pair))
            except ImageError as error:
                self.skipped.append(str(error))
        return tiles

    def _tile(self, kind: str, pair: Pair) -> Tile:
        path = resolve_image_path(self._settings.images, pair.file_name)
        pixels, (height, width) = read_reduced(path, full_size, self._recorded(pair.file_name).content_hash)
        small = resize_image(pixels, size_within(height, width, PHOTO_SIDE))
        mined = [box_mark((r.x, r.y, r.x + r.w, r.y + r.h), width, height, f"{r.score:.2f}") for r in pair.rows]
        return Tile(
            kind, pair, encode_photo(small), int(small.shape[2]), int(small.shape[1]), self._heat(pair), mined,
            _true_marks(pair, width, height),
        )  # fmt: skip

    def _heat(self, pair: Pair) -> Heat | None:
        level = self.map_of(pair.file_name, pair.category)
        return None if level is None else draw_heat(level, self._threshold(pair))

    def map_of(self, file_name: str, category: str) -> FloatMap | None:
        """Compute the activation map of an image for a class, (h, w) in 0-1; None where there is none.

        Raises:
            ImageError: The image cannot be read.
        """
        if self._miner is None or category not in self._miner.card.class_names:
            return None
        row = {"image_id": 0, "file_name": file_name, "labels": self._recorded(file_name).labels}
        try:
            return normalise_map(self._miner.fused_map(row, category), self._miner.extractor.params.normalise)
        except MapError:
            return None

    def _recorded(self, file_name: str) -> Recorded:
        return self.recorded.get(file_name) or Recorded(None, None, "")

    def _threshold(self, pair: Pair) -> float | None:
        if pair.rows:
            return pair.rows[0].threshold
        threshold = cast(Miner, self._miner).extractor.threshold_of(pair.category)
        return None if isinstance(threshold, str) else threshold


def _read_recorded(run: Run, names: Collection[str]) -> dict[str, Recorded]:
    found: dict[str, Recorded] = {}
    selected = pa.array(sorted(set(names)), pa.string())
    for batch in iter_batches(run.corpus, ["file_name", "content_hash", "labels", "state"]):
        kept = batch.filter(pc.is_in(batch["file_name"], value_set=selected))
        found |= {
            row["file_name"]: Recorded(row["content_hash"], row["labels"], row["state"]) for row in kept.to_pylist()
        }
    return found


def _true_marks(pair: Pair, width: int, height: int) -> list[Mark]:
    if pair.truth is None:
        return []
    boxes = zip(pair.truth.xyxy.tolist(), pair.truth.is_ignored.tolist(), strict=True)
    return [box_mark(xyxy, width, height, is_ignored=ignored) for xyxy, ignored in boxes]
