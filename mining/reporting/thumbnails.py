"""Pictures of pairs: image, activation map and boxes as separate layers that the page can hide."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import cast

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
        kind: best, doubtful, worst or missed; in a comparison first or second.
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
        boxes = f"{len(self.mined)} mined {'box' if len(self.mined) == 1 else 'boxes'} of {self.pair.category}"
        true = "" if self.pair.truth is None else f" and {len(self.true)} true"
        return f"Photo {self.pair.file_name} with {boxes}{true}"

    @property
    def verdict(self) -> str:
        """Caption: class, score and IoU."""
        score = f"score {self.pair.rows[0].score:.2f}" if self.pair.rows else "no box"
        iou = "" if self.pair.iou is None else f", IoU {self.pair.iou:.2f}"
        return f"{self.pair.category}, {score}{iou}"


class Painter:
    """Draws the pairs of one run.

    Attributes:
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
        self._hashes, self._labels = _hashes_and_labels(run, names)
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
        pixels, (height, width) = read_reduced(path, full_size, self._hashes.get(pair.file_name))
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
        row = {"image_id": 0, "file_name": file_name, "labels": self._labels.get(file_name)}
        try:
            return normalise_map(self._miner.fused_map(row, category), self._miner.extractor.params.normalise)
        except MapError:
            return None

    def _threshold(self, pair: Pair) -> float | None:
        if pair.rows:
            return pair.rows[0].threshold
        threshold = cast(Miner, self._miner).extractor.threshold_of(pair.category)
        return None if isinstance(threshold, str) else threshold


def _hashes_and_labels(run: Run, names: Collection[str]) -> tuple[dict[str, str | None], dict[str, list[str] | None]]:
    """SHA-256 of the files that were mined, None where it is not recorded, and the images' labels, by file name."""
    hashes: dict[str, str | None] = {}
    labels: dict[str, list[str] | None] = {}
    selected = pa.array(sorted(set(names)), pa.string())
    for batch in iter_batches(run.corpus, ["file_name", "content_hash", "labels"]):
        kept = batch.filter(pc.is_in(batch["file_name"], value_set=selected))
        for row in kept.to_pylist():
            hashes[row["file_name"]], labels[row["file_name"]] = row["content_hash"], row["labels"]
    return hashes, labels


def _true_marks(pair: Pair, width: int, height: int) -> list[Mark]:
    if pair.truth is None:
        return []
    boxes = zip(pair.truth.xyxy.tolist(), pair.truth.is_ignored.tolist(), strict=True)
    return [box_mark(xyxy, width, height, is_ignored=ignored) for xyxy, ignored in boxes]
