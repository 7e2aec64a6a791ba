"""Finished runs of painted images, with their digests."""

import json
from pathlib import Path

import pyarrow as pa

from mining.runs.run import DIGESTED_FILES, Run
from mining.storage.integrity import DIGESTS, compute_digests
from tests.unit.export.conftest import Painted, write_run
from tests.unit.proof.conftest import complete

DOG, CAT = 1, 3
BoxRow = tuple[str, str, float, float, float, float, float]


def run_of(folder: Path, painted: tuple[Painted, ...]) -> Run:
    """A finished run of images."""
    written = write_run(folder, painted)
    complete(written.folder)
    return with_digests(Run(written.folder))


def with_digests(run: Run) -> Run:
    """The run as it is read, after its record has the digests of its files as they are now."""
    record = json.loads((run.path / "run.json").read_text())
    digests = compute_digests(run.path, DIGESTED_FILES)
    (run.path / "run.json").write_text(json.dumps({**record, DIGESTS: digests}))
    return Run.open(run.path, finished=True)


def boxes_of(table: pa.Table) -> list[BoxRow]:
    """File, class, x, y, w, h and score of each box."""
    return [
        (row["file_name"], row["category"], row["x"], row["y"], row["w"], row["h"], round(row["score"], 3))
        for row in table.to_pylist()
    ]


def made_by_people(table: pa.Table, rows: tuple[int, ...] | None = None) -> pa.Table:
    """The table with some boxes, or all, as those of a person."""
    source = table["source"].to_pylist()
    for row in range(len(table)) if rows is None else rows:
        source[row] = "human"
    column = pa.array(source, table.schema.field("source").type)
    return table.set_column(table.schema.get_field_index("source"), "source", column)
