"""A small corpus of a few shards, and the settings and command that mine it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.mine import mine
from mining.config import MineSettings
from tests.factories import write_model, write_photos

SHARDS = 6
SHARD_SIZE = 2


def write_corpus(folder: Path) -> Path:
    """Write the corpus to images/ and a model to model/."""
    write_photos(folder / "images", [f"{number:02d}.jpg" for number in range(SHARD_SIZE * SHARDS)])
    write_model(folder / "model", ["cat", "dog"])
    return folder


def write_mined_corpus(folder: Path) -> Path:
    """Write the corpus and the model, and mine them in this process into local/."""
    write_corpus(folder)
    mine(mine_settings(folder, folder / "local"))
    assert pq.read_metadata(folder / "local" / "annotations.parquet").num_rows > SHARDS
    return folder


def mine_settings(corpus: Path, out: Path, **options: Any) -> MineSettings:
    """Settings that mine the corpus on one core, so that every runner gives the same bits."""
    given = {"scales": (1.0, 1.5), "class_cut": 0.0, "shard_size": SHARD_SIZE, "cpus_per_worker": 1, **options}
    return MineSettings(images=corpus / "images", model=str(corpus / "model"), out=out, **given)


def mine_arguments(corpus: Path, out: Path, *options: str) -> list[str]:
    """The same settings as arguments of the command line."""
    return [
        "mine", "--images", f"{corpus}/images", "--model", f"{corpus}/model", "--out", str(out), "--scales", "1,1.5",
        "--class-cut", "0", "--shard-size", str(SHARD_SIZE), "--cpus-per-worker", "1", *options,
    ]  # fmt: skip


def read_tables(run: Path) -> list[pa.Table]:
    """Read the tables of a finished run."""
    return [pq.read_table(run / name) for name in ("annotations.parquet", "corpus.parquet", "curves.parquet")]
