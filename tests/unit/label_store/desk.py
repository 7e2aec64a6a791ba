"""Photos, a model and a label store to work at."""

import csv
from pathlib import Path
from typing import Any

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
from tests.unit.engine.painting import Picture, painted_model

COMPARED = ("category", "x", "y", "w", "h", "score", "class_score", "threshold", "source", "state", "width", "height")


class Desk:
    """Somebody's photos; labels by file name, None where none are listed at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photos = folder / "photos"
        self.photos.mkdir()
        self.store = folder / "labels"
        self.runs = folder / "runs"
        self.model = painted_model(folder / "model")
        self.labels: dict[str, tuple[str, ...]] | None = None

    def put(self, name: str, picture: Picture, *labels: str) -> None:
        """A photo, and its labels where there is a listing."""
        (self.photos / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            (self.photos / name).write_bytes(picture)
        else:
            Image.fromarray(picture).save(self.photos / name)
        if labels or self.labels is not None:
            self.labels = {**(self.labels or {}), name: labels}

    def remove(self, name: str) -> None:
        """Delete a photo and its listing."""
        (self.photos / name).unlink()
        if self.labels is not None:
            del self.labels[name]

    def rename(self, name: str, new: str) -> None:
        """Another name for a photo."""
        (self.photos / name).rename(self.photos / new)
        if self.labels is not None:
            self.labels[new] = self.labels.pop(name)

    def train(self, white: float) -> None:
        """Another model: its maps are the picture over `white`."""
        self.model = self.folder / f"model-{white}"
        card = read_card(self.folder / "model")
        localizer, _ = build_localizer(card)
        localizer.white.fill_(white)  # type: ignore[union-attr,operator]
        save_model(self.model, localizer, ModelCard(**{**card.__dict__, "weights_sha256": ""}))

    def settings(self, mine: dict[str, Any] | None = None, **changes: Any) -> LabelSettings:
        """Of a job."""
        corpus: dict[str, Any] = {"images": self.photos, "labels": "none"}
        if self.labels is not None:
            corpus["labels"] = self.folder / "labels.csv"
            with corpus["labels"].open("w", newline="") as file:
                listed = [(name, "|".join(own)) for name, own in self.labels.items()]
                csv.writer(file).writerows([("file_name", "labels"), *listed])
        options = {"scales": (1.0,), "shard_size": 4, "device": "cpu", "workers": 1, "curves": False, **(mine or {})}
        given = {"store": str(self.store), "runs": self.runs, "corpus": corpus, "model": str(self.model)}
        return LabelSettings(**{**given, "mine": options, **changes})

    def job(self, *, accept: bool = False, new_store: bool = False, **changes: Any) -> LabelSummary:
        """Label what is new."""
        return label(self.settings(**changes), accept, new_store=new_store)

    def rows(self, version: int | None = None) -> list[dict[str, Any]]:
        """Of the store, by image and box."""
        rows = DeltaTable(self.store, version=version).to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: (row["image_id"], row["annotation_id"] or 0))

    def by_name(self, version: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """The rows by file name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows(version):
            found.setdefault(row["file_name"], []).append(row)
        return found

    def version(self) -> int:
        """The last one's number."""
        return int(DeltaTable(self.store).version())

    def mined(self, run: str) -> list[str]:
        """The images of a run."""
        return [str(name) for name in pq.read_table(self.runs / run / "corpus.parquet")["file_name"].to_pylist()]

    def from_scratch(self, out: Path, **mine: Any) -> dict[str, list[tuple[Any, ...]]]:
        """What mining all photos once more gives, by file name; see `told`."""
        settings = self.settings(mine)
        whole = MineSettings(**dict(settings.corpus), **dict(settings.mine), model=settings.model, out=out)
        for shard in plan_mining(whole).shards:
            mine_shard(Run(out), shard)
        finish_mining(Run(out))
        boxes = pq.read_table(Run(out).annotations).to_pylist()
        found: dict[str, list[tuple[Any, ...]]] = {}
        for image in pq.read_table(Run(out).corpus).to_pylist():
            own = [box for box in boxes if box["file_name"] == image["file_name"]] or [{}]
            found[image["file_name"]] = [told({**dict.fromkeys(COMPARED), **image, **box}) for box in own]
        return found


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row says of its image and box, whatever its numbers."""
    return tuple(row[name] for name in COMPARED)
