"""A small run, mined with a model of random weights, and its page read back."""

import csv
import json
import shutil
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mining.config import MineSettings
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from tests.factories import write_model, write_photos

CLASSES = ("cat & <b>mouse</b>", "dog")
NASTY = "<script>alert(1)<&script> \"x\" 'y'.jpg"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        """Attributes of all `tag`s, or of those with the class `kind`."""
        return [a for name, a in self.tags if name == tag and (not kind or kind in (a.get("class") or "").split())]


@dataclass
class Mined:
    """A run directory and what it was made from."""

    run: Path
    images: Path
    truth: Path

    def page(self) -> Page:
        return Page((self.run / "report" / "index.html").read_text(encoding="utf-8"))


def write_corpus(folder: Path, file_names: list[str]) -> None:
    write_photos(folder / "images", file_names)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "labels"))
        writer.writerows((name, CLASSES[number % 2]) for number, name in enumerate(file_names))


def coco(file_names: list[str]) -> dict[str, Any]:
    box = {"bbox": [30, 20, 60, 50], "area": 3000, "iscrowd": 0}
    return {
        "images": [{"id": i, "file_name": n, "width": 128, "height": 96} for i, n in enumerate(file_names)],
        "annotations": [{"id": i, "image_id": i, "category_id": i % 2, **box} for i in range(len(file_names))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
    }


def mine(folder: Path, model: Path, run: str = "run", **options: Any) -> Path:
    settings = MineSettings(
        images=folder / "images", model=str(model), out=folder / run, scales=(1.0,),
        normalise="minmax", device="cpu", **{"refine": "none", "labels": folder / "labels.csv", **options},
    )  # fmt: skip
    for shard in plan_mining(settings).shards:
        mine_shard(Run(folder / run), shard)
    finish_mining(Run(folder / run), 1.5)
    return folder / run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model", CLASSES)


@pytest.fixture(scope="session")
def mined_once(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five readable images of two classes and an unreadable one, their ground truth and their run."""
    folder = tmp_path_factory.mktemp("mined")
    names = [NASTY, "b.jpg", "c.jpg", "d.jpg", "e.jpg", "broken.jpg"]
    write_corpus(folder, names)
    (folder / "images" / "broken.jpg").write_bytes(b"no image <at> all")
    (folder / "truth.json").write_text(json.dumps(coco(names)))
    mine(folder, model)
    return folder


@pytest.fixture
def mined(mined_once: Path, tmp_path: Path) -> Mined:
    """A copy of that folder for one test, its paths those of the copy."""
    shutil.copytree(mined_once, tmp_path, dirs_exist_ok=True)
    record = tmp_path / "run" / "run.json"
    record.write_text(record.read_text(encoding="utf-8").replace(str(mined_once), str(tmp_path)), encoding="utf-8")
    return Mined(tmp_path / "run", tmp_path / "images", tmp_path / "truth.json")
