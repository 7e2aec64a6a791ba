"""A small finished run with difficult images; each box is painted red on grey."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mining.corpus.schema import CORPUS_SCHEMA
from mining.export import ANNOTATION_SCHEMA
from mining.models.card import FORMAT as MODEL_FORMAT
from mining.models.card import ModelCard
from mining.runs.record import FORMAT as RUN_FORMAT

CLASSES = [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat & <mouse>"}]
GREY, RED = (128, 128, 128), (250, 20, 20)
ORIENTATION = 0x0112
UNTURN = {1: 0, 3: 2, 6: 1, 8: 3}  # quarter turns to the left that an upright image was stored with


@dataclass(frozen=True)
class Painted:
    """An image to write: boxes are (category_id, x, y, w, h, score)."""

    file_name: str
    boxes: tuple[tuple[int, float, float, float, float, float], ...] = ()
    labels: tuple[str, ...] | None = None
    split: str | None = None
    orientation: int = 1
    is_quarantined: bool = False
    is_size_listed: bool = False
    width: int = 60
    height: int = 40


IMAGES = (
    Painted("a/1.jpg", ((1, 10, 5, 20, 15, 0.9), (3, 40, 20, 20, 20, 0.7))),
    Painted("b/1.jpg", ((1, 0, 0, 16, 12, 0.8),), width=45, height=33),
    Painted("a/1.png", ((3, 8, 9, 30, 24, 0.6),)),
    Painted("sub dir/naïve 猫 #1.jpg", ((1, 11.25, 6.5, 20.5, 17.25, 0.5),), width=71),
    Painted("turned.jpg", ((1, 30, 4, 24, 10, 0.95),), orientation=6),
    Painted("turned back.png", ((3, 2, 20, 12, 18, 0.85),), orientation=8, width=80),
    Painted("images/deep.JPG", ((1, 20, 10, 20, 20, 0.75),)),
    Painted(".hidden.jpg", ((3, 5, 5, 12, 12, 0.65),)),
    Painted("moving.gif", ((1, 12, 12, 30, 20, 0.55),)),
    Painted("nobody knows.jpg"),
    Painted("truly empty.jpg", labels=()),
    Painted("doubtful.jpg", ((1, 10, 10, 20, 20, 0.25),)),
    Painted("broken.jpg", is_quarantined=True),
    Painted("cut short.jpg", is_quarantined=True, is_size_listed=True),
)


@dataclass(frozen=True)
class SmallRun:
    """Where the run and its images are, and what was put in."""

    folder: Path
    images: Path
    painted: tuple[Painted, ...]

    def truth(self, min_score: float = 0.0) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
        """file_name -> [(class, xyxy)], images without a box left out."""
        names = {c["id"]: c["name"] for c in CLASSES}
        boxes = {
            p.file_name: [(names[c], (x, y, x + w, y + h)) for c, x, y, w, h, score in p.boxes if score >= min_score]
            for p in self.painted
        }
        return {file_name: kept for file_name, kept in boxes.items() if kept}


def paint(path: Path, painted: Painted) -> None:
    pixels = np.full((painted.height, painted.width, 3), GREY, np.uint8)
    mark = hashlib.sha256(painted.file_name.encode()).digest()
    for place in range(painted.width // 6 + 1):  # no image is a copy or near-duplicate of another
        pixels[-10:, 6 * place : 6 * place + 6] = 60 + mark[place] // 2
    for _, x, y, w, h, _ in painted.boxes:
        pixels[round(y) : round(y + h), round(x) : round(x + w)] = RED
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if painted.orientation != 1:
        exif[ORIENTATION] = painted.orientation
    stored = Image.fromarray(np.rot90(pixels, UNTURN[painted.orientation]))
    options = {"quality": 95, "subsampling": 0} if path.suffix.lower() == ".jpg" else {}
    stored.save(path, **options, **({"exif": exif} if painted.orientation != 1 else {}))


def corpus_row(image_id: int, painted: Painted) -> dict[str, object]:
    known = not painted.is_quarantined or painted.is_size_listed
    return {
        "image_id": image_id,
        "file_name": painted.file_name,
        "width": painted.width if known else None,
        "height": painted.height if known else None,
        "labels": None if painted.labels is None else list(painted.labels),
        "split": painted.split,
        "bytes": 1,
        "content_hash": None,
        "state": "quarantined" if painted.is_quarantined else "labelled" if painted.boxes else "no_region",
    }


def box_rows(image_id: int, painted: Painted) -> Iterable[dict[str, object]]:
    names = {c["id"]: c["name"] for c in CLASSES}
    for category_id, x, y, w, h, score in painted.boxes:
        yield {
            "image_id": image_id,
            "file_name": painted.file_name,
            "width": painted.width,
            "height": painted.height,
            "category_id": category_id,
            "category": names[category_id],
            **{"x": x, "y": y, "w": w, "h": h, "area": w * h, "score": score, "class_score": score},
            **{"peak": 1.0, "mean_activation": 0.5, "threshold": 0.2, "scales": [1.0], "localizer": "cam"},
            **{"model_sha256": "0" * 64, "merged_from": 1, "source": "label"},
        }


def write_run(folder: Path, painted: Iterable[Painted]) -> SmallRun:
    """Write images below folder/photos and their finished run to folder/run."""
    listed = tuple(painted)
    photos, run = folder / "photos", folder / "run"
    (run / "model").mkdir(parents=True)
    corpus, boxes = [], []
    for number, image in enumerate(listed, start=101):
        paint(photos / image.file_name, image)
        if image.is_quarantined:
            (photos / image.file_name).write_bytes(b"no image at all")
        corpus.append(corpus_row(number, image))
        boxes.extend(box_rows(number, image))
    boxes = [{"annotation_id": number, **row} for number, row in enumerate(boxes, start=1)]
    pq.write_table(pa.Table.from_pylist(corpus, CORPUS_SCHEMA), run / "corpus.parquet")
    pq.write_table(pa.Table.from_pylist(boxes, ANNOTATION_SCHEMA), run / "annotations.parquet")
    card = ModelCard("cam", "x", "multi", CLASSES, input_size=64, normalisation={})
    (run / "model" / "model.json").write_text(json.dumps({"format": MODEL_FORMAT, **asdict(card)}))
    record = {"state": "finished", "name": "small", "config": {"images": str(photos)}}
    (run / "run.json").write_text(json.dumps({"format": RUN_FORMAT, **record}))
    return SmallRun(run, photos, listed)


@pytest.fixture
def small_run(tmp_path: Path) -> SmallRun:
    return write_run(tmp_path, IMAGES)


@pytest.fixture
def listed_run(tmp_path: Path) -> SmallRun:
    """Twelve boxed images whose corpus lists train and test."""
    box = (1, 10, 10, 20, 20, 0.9)
    images = [Painted(f"{i:02}.jpg", ((box),), split="test" if i % 3 == 0 else "train") for i in range(12)]
    return write_run(tmp_path, images)


@pytest.fixture
def unlisted_run(tmp_path: Path, listed_run: SmallRun) -> SmallRun:
    """The same twelve images in a corpus without splits."""
    return write_run(tmp_path / "unlisted", [replace(image, split=None) for image in listed_run.painted])


@pytest.fixture
def is_red():
    def check(pixel: Iterable[int]) -> bool:
        return bool(np.abs(np.asarray(list(pixel), int) - RED).max() < 25)

    return check
