"""Pictures of pairs: image, activation map and boxes as separate layers that the page can hide."""

import base64
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mining.config import MineSettings
from mining.corpus.images.decoding import full_size, read_reduced, resize_image, resolve_image_path
from mining.engine.miner import Miner
from mining.errors import ImageError, MapError, ModelError
from mining.models.checkpoint import load_model
from mining.regions.extraction import normalise_map
from mining.reporting.sample_selection import Pair
from mining.runs.run import Run
from mining.storage.parquet import iter_batches

PHOTO_SIDE = 320
JPEG_QUALITY = 80
_HEAT_SIDE = 96  # the page enlarges it smoothly
_CONTOUR_SIDE = 160
_LEVELS = 32
# value, red, green, blue, opacity: distinct from the colours of the boxes for every kind of colour vision
_HEAT = np.array([[0, 90, 40, 200, 0], [0.25, 150, 40, 190, 50], [0.6, 220, 38, 127, 120], [1, 255, 170, 190, 180]])


@dataclass(frozen=True)
class Mark:
    """A box on a picture.

    Attributes:
        left: Left edge in percent of the picture's width.
        top: Top edge in percent of its height.
        width: Width in percent of the picture's width.
        height: Height in percent of its height.
        label: The box's score; empty for a true box.
        is_ignored: Whether a true box is not counted.
    """

    left: float
    top: float
    width: float
    height: float
    label: str = ""
    is_ignored: bool = False


@dataclass(frozen=True)
class Heat:
    """An activation map as a layer.

    Attributes:
        uri: PNG as a data URI.
        outline: SVG path around the region that reaches the threshold; empty where the threshold is not known.
        width: Width of the path's coordinate system.
        height: Height of it.
    """

    uri: str
    outline: str
    width: int
    height: int


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
        self._settings: MineSettings = run.settings.model_copy(update={"device": "auto"})
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
        small = resize_image(pixels, _within(height, width, PHOTO_SIDE))
        mined = [_mark((r.x, r.y, r.x + r.w, r.y + r.h), width, height, f"{r.score:.2f}") for r in pair.rows]
        return Tile(
            kind, pair, _photo(small), int(small.shape[2]), int(small.shape[1]), self._heat(pair), mined,
            _true_marks(pair, width, height),
        )  # fmt: skip

    def _heat(self, pair: Pair) -> Heat | None:
        if self._miner is None or pair.category not in self._miner.card.class_names:
            return None
        row = {"image_id": 0, "file_name": pair.file_name, "labels": self._labels.get(pair.file_name)}
        activation = self._miner.fused_map(row, pair.category)
        try:
            level = normalise_map(activation, self._miner.extractor.params.normalise)
        except MapError:
            return None
        return None if level is None else _heat(level, self._threshold(pair))

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


def _within(height: int, width: int, side: int) -> tuple[int, int]:
    shrink = min(1.0, side / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _mark(xyxy: Iterable[float], width: int, height: int, label: str = "", *, is_ignored: bool = False) -> Mark:
    limits = (width, height, width, height)
    x0, y0, x1, y1 = (100 * min(max(edge / limit, 0.0), 1.0) for edge, limit in zip(xyxy, limits, strict=True))
    return Mark(round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2), label, is_ignored)


def _true_marks(pair: Pair, width: int, height: int) -> list[Mark]:
    if pair.truth is None:
        return []
    boxes = zip(pair.truth.xyxy.tolist(), pair.truth.is_ignored.tolist(), strict=True)
    return [_mark(xyxy, width, height, is_ignored=ignored) for xyxy, ignored in boxes]


def _photo(pixels: Tensor) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _data_uri("image/jpeg", file)


def _heat(level: NDArray[np.float32], threshold: float | None) -> Heat:
    """Draw an (H, W) normalised map."""
    small = _shrunk(level, _HEAT_SIDE)
    picture = Image.fromarray((np.clip(small, 0, 1) * (_LEVELS - 1)).round().astype(np.uint8), "L").convert("P")
    values = np.linspace(0, 1, _LEVELS)
    channels = [np.interp(values, _HEAT[:, 0], _HEAT[:, channel]).round().astype(np.uint8) for channel in range(1, 5)]
    picture.putpalette(np.stack(channels[:3], axis=1).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, bits=8, transparency=channels[3].tobytes())
    outlined = _shrunk(level, _CONTOUR_SIDE)
    outline = "" if threshold is None else _outline(outlined >= threshold)
    return Heat(_data_uri("image/png", file), outline, outlined.shape[1], outlined.shape[0])


def _shrunk(level: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    height, width = _within(level.shape[0], level.shape[1], side)
    return np.asarray(cv2.resize(level, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _outline(reaches: NDArray[np.bool_]) -> str:
    contours, _ = cv2.findContours(reaches.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    smooth = (cv2.approxPolyDP(contour, 0.6, True)[:, 0] + 0.5 for contour in contours)
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in contour.tolist()) + "Z" for contour in smooth)


def _data_uri(kind: str, file: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
