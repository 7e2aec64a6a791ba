"""Images, labels, a model and a label store in one folder, and random changes of the images."""

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from deltalake import DeltaTable
from PIL import Image

from flows.label import label
from mining.config import MineSettings
from mining.label_store.settings import LabelSettings
from mining.label_store.summaries import LabelSummary
from mining.models.card import ModelCard, read_card
from mining.models.checkpoint import build_localizer, save_model
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import Picture, painted_model, scene

COMPARED = ("category", "x", "y", "w", "h", "score", "class_score", "threshold", "source", "state", "width", "height")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
GATES_OFF = {"max_no_box": None, "max_quarantined": None, "max_retired": None, "max_score_drift": None, "max_size_drift": None}  # fmt: skip


class LabelProject:
    """What a labelling job works on.

    Attributes:
        labels: The labels by file name; None where the job gets no listing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photos = folder / "photos"
        self.photos.mkdir(exist_ok=True)
        self.store = folder / "labels"
        self.runs = folder / "runs"
        self.model = folder / "model" if (folder / "model").exists() else painted_model(folder / "model")
        self.labels: dict[str, tuple[str, ...]] | None = None

    def add_image(self, name: str, picture: Picture, *labels: str) -> None:
        """Write an image, and list its labels if there is a listing."""
        (self.photos / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            (self.photos / name).write_bytes(picture)
        else:
            Image.fromarray(picture).save(self.photos / name)
        if labels or self.labels is not None:
            self.labels = {**(self.labels or {}), name: labels}

    def delete_image(self, name: str) -> None:
        """Delete an image and its labels."""
        (self.photos / name).unlink()
        if self.labels is not None:
            del self.labels[name]

    def rename_image(self, name: str, new: str) -> None:
        """Rename an image, also in the listing."""
        (self.photos / name).rename(self.photos / new)
        if self.labels is not None:
            self.labels[new] = self.labels.pop(name)

    def change_model(self, white: float) -> None:
        """Switch to another model, whose maps are the image divided by `white`."""
        self.model = self.folder / f"model-{white}"
        card = read_card(self.folder / "model")
        localizer, _ = build_localizer(card)
        localizer.white.fill_(white)  # type: ignore[union-attr,operator]
        save_model(self.model, localizer, ModelCard(**{**card.__dict__, "weights_sha256": ""}))

    def settings(self, mine: dict[str, Any] | None = None, **changes: Any) -> LabelSettings:
        """Build the settings of a job; writes the listing."""
        corpus: dict[str, Any] = {"images": self.photos, "labels": "none"}
        if self.labels is not None:
            corpus["labels"] = self.folder / "labels.csv"
            with corpus["labels"].open("w", newline="") as file:
                rows = [(name, "|".join(labels)) for name, labels in self.labels.items()]
                csv.writer(file).writerows([("file_name", "labels"), *rows])
        # the painted maps have a cell per pixel: to refine them would take most of a test's time
        quick = {"scales": (1.0,), "shard_size": 4, "device": "cpu", "workers": 1, "curves": False, "refine": "none"}
        options = {**quick, **(mine or {})}
        given = {"store": str(self.store), "runs": self.runs, "corpus": corpus, "model": str(self.model)}
        return LabelSettings(**{**given, "mine": options, **changes})

    def run_job(self, *, accept: bool = False, new_store: bool = False, **changes: Any) -> LabelSummary:
        """Label what is new or changed."""
        return label(self.settings(**changes), accept, new_store=new_store)

    def rows(self, version: int | None = None) -> list[dict[str, Any]]:
        """Read the store's rows, by image and box."""
        rows = DeltaTable(self.store, version=version).to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: (row["image_id"], row["annotation_id"] or 0))

    def rows_by_name(self, version: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """Group the store's rows by file name."""
        grouped: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows(version):
            grouped.setdefault(row["file_name"], []).append(row)
        return grouped

    def comparable_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Group `comparable_values` of the store's rows by file name."""
        return {name: [comparable_values(row) for row in rows] for name, rows in self.rows_by_name().items()}

    def latest_version(self) -> int:
        """Read the number of the store's latest version."""
        return int(DeltaTable(self.store).version())

    def mined_images(self, run: str) -> list[str]:
        """List the images of a run."""
        return [str(name) for name in pq.read_table(self.runs / run / "corpus.parquet")["file_name"].to_pylist()]

    def mine_from_scratch(self, out: Path, **mine: Any) -> dict[str, list[tuple[Any, ...]]]:
        """Mine all images anew; returns `comparable_values` of the rows by file name."""
        settings = self.settings(mine)
        whole = MineSettings(**dict(settings.corpus), **dict(settings.mine), model=settings.model, out=out)
        for shard in plan_mining(whole).shards:
            mine_shard(Run(out), shard)
        finish_mining(Run(out))
        boxes = pq.read_table(Run(out).annotations).to_pylist()
        grouped: dict[str, list[tuple[Any, ...]]] = {}
        for image in pq.read_table(Run(out).corpus).to_pylist():
            own = [box for box in boxes if box["file_name"] == image["file_name"]] or [{}]
            grouped[image["file_name"]] = [
                comparable_values({**dict.fromkeys(COMPARED), **image, **box}) for box in own
            ]
        return grouped


def comparable_values(row: dict[str, Any]) -> tuple[Any, ...]:
    """Reduce a row to what describes its image and box, without the store's numbers."""
    return tuple(row[name] for name in COMPARED)


class RandomChanges:
    """Adds, edits, damages, renames, copies, deletes and swaps images, and changes their labels."""

    def __init__(self, project: LabelProject, seed: int) -> None:
        self.project = project
        project.labels = {}
        self.random = random.Random(seed)
        self.count = 0

    def apply(self, count: int) -> None:
        """Make so many random changes."""
        changes: list[Callable[[], None]] = [
            self.add, self.add, self.edit, self.damage, self.rename, self.copy, self.delete, self.swap, self.relabel,
        ]  # fmt: skip
        for _ in range(count):
            (self.random.choice(changes) if self.project.labels else self.add)()

    def add(self) -> None:
        self.project.add_image(self._new_name(), self._picture(), *self._labels())

    def edit(self) -> None:
        name = self._any_name()
        self.project.add_image(name, self._picture(), *self._labels_of(name))

    def damage(self) -> None:
        name = self._any_name()
        self.project.add_image(name, self.random.randbytes(40), *self._labels_of(name))

    def rename(self) -> None:
        new = self._new_name()
        self.project.rename_image(self._any_name(), new)

    def copy(self) -> None:
        new = self._new_name()
        name = self._any_name()
        self.project.add_image(new, (self.project.photos / name).read_bytes(), *self._labels_of(name))

    def delete(self) -> None:
        if len(self.project.labels or {}) > 1:
            self.project.delete_image(self._any_name())

    def swap(self) -> None:
        first, second = self.project.photos / self._any_name(), self.project.photos / self._any_name()
        contents = first.read_bytes(), second.read_bytes()
        second.write_bytes(contents[0])
        first.write_bytes(contents[1])

    def relabel(self) -> None:
        self.project.labels = {**(self.project.labels or {}), self._any_name(): self._labels()}

    def _picture(self) -> np.ndarray:
        """Draw one of few images, so that contents recur."""
        x, y = self.random.choice([4, 20, 40]), self.random.choice([4, 24])
        return scene(((x, y, x + self.random.choice([20, 36]), y + 30), self.random.choice(COLOURS)))

    def _labels(self) -> tuple[str, ...]:
        return self.random.choice([("red",), ("green",), ("red", "green"), ("blue",), ()])

    def _labels_of(self, name: str) -> tuple[str, ...]:
        return (self.project.labels or {})[name]

    def _any_name(self) -> str:
        return self.random.choice(sorted(self.project.labels or {}))

    def _new_name(self) -> str:
        self.count += 1
        return f"{self.count:03d}.png"
