"""A small corpus in a few shards, and whose processes mine it."""

import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flows.mine import mine
from mining.config import MineSettings
from tests.making import write_model, write_photos

SHARDS = 6
SHARD_SIZE = 2


def write_corpus(folder: Path) -> Path:
    """A folder with `images` and `model`."""
    write_photos(folder / "images", [f"{number:02d}.jpg" for number in range(SHARD_SIZE * SHARDS)])
    write_model(folder / "model", ["cat", "dog"])
    return folder


def write_mined_corpus(folder: Path) -> Path:
    """The same, and `local`: a run of theirs by this process."""
    write_corpus(folder)
    mine(asked(folder, folder / "local"))
    assert pq.read_metadata(folder / "local" / "annotations.parquet").num_rows > SHARDS
    return folder


def asked(corpus: Path, out: Path, **options: Any) -> MineSettings:
    """Settings that mine it; on one core, for the same bits whoever does it."""
    given = {"scales": (1.0, 1.5), "class_cut": 0.0, "shard_size": SHARD_SIZE, "cpus_per_worker": 1, **options}
    return MineSettings(images=corpus / "images", model=str(corpus / "model"), out=out, **given)


def command(corpus: Path, out: Path, *options: str) -> list[str]:
    """The same for a command line."""
    return [
        "mine", "--images", f"{corpus}/images", "--model", f"{corpus}/model", "--out", str(out), "--scales", "1,1.5",
        "--class-cut", "0", "--shard-size", str(SHARD_SIZE), "--cpus-per-worker", "1", *options,
    ]  # fmt: skip


def rows(run: Path) -> Any:
    """What a finished run holds."""
    return [pq.read_table(run / name) for name in ("annotations.parquet", "corpus.parquet", "curves.parquet")]


def processes_below(ancestor: int, named: str) -> list[int]:
    """Living processes that another one started, or these did, by a part of their command."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True).stdout
    found = [line.split(maxsplit=3) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(ppid) for pid, ppid, *_ in found}

    def is_below(pid: int) -> bool:
        parent = parents.get(pid, 0)
        return parent == ancestor or (parent > 1 and is_below(parent))

    return [int(pid) for pid, _, state, args in found if named in args and state[0] != "Z" and is_below(int(pid))]
