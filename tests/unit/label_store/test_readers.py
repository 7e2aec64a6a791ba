"""The store can be read by pandas, Polars, DuckDB and other readers of Delta tables."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from mining.errors import InputError
from mining.label_store.reading import export_as_run, history
from mining.label_store.settings import VersionChoice
from mining.label_store.sources import export_source
from mining.runs.run import Run
from tests.unit.engine.painting import MANY, black
from tests.unit.label_store.project import LabelProject


@pytest.fixture
def store(project: LabelProject) -> str:
    """Two boxes on one image, none on another; and a version before the second image came."""
    project.add_image("many.png", MANY)
    project.run_job()
    project.add_image("none.png", black())
    project.run_job()
    return str(project.store)


def test_pandas_reads_the_store(store: str) -> None:
    table = DeltaTable(store).to_pandas()
    assert table.groupby("file_name")["category"].count().to_dict() == {"many.png": 2, "none.png": 0}
    assert len(DeltaTable(store, version=0).to_pandas()) == 2


def test_polars_reads_the_store(store: str) -> None:
    polars = pytest.importorskip("polars")
    boxes = polars.read_delta(store).drop_nulls("category")
    assert sorted(boxes["category"].to_list()) == ["green", "red"]
    assert len(polars.read_delta(store, version=0)) == 2


def test_duckdb_reads_the_store(store: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    labels = DeltaTable(store).to_pyarrow_dataset()  # noqa: F841  the query names it
    found = duckdb.sql("SELECT file_name, count(category) FROM labels GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [("many.png", 2), ("none.png", 0)]


def test_the_store_needs_only_the_first_protocol_of_delta(store: str) -> None:
    """Readers need only the features of the first protocol version, which Spark has supported since 2019."""
    protocol = DeltaTable(store).protocol()
    assert protocol.min_reader_version == 1
    assert not protocol.reader_features


def test_the_card_of_an_exported_version_has_the_date_of_the_version(store: str, tmp_path: Path) -> None:
    cards = []
    for name in ("one", "two"):
        export_source(store, "coco", tmp_path / name, VersionChoice())
        cards.append((tmp_path / name / "README.md").read_text(encoding="utf-8"))
    assert cards[0] == cards[1]
    assert f"| date | {history(store)[0]['at']} |" in cards[0]


def test_a_version_is_exported_as_a_run_completely_or_not_at_all(store: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_as_run(store, VersionChoice(as_of="0"), out)
    run = Run(out)
    assert run.require_finished()["counts"]["boxes"] == 2
    assert run.settings.out == out
    assert Path(run.settings.model) == out / "model"
    assert not list(tmp_path.glob(".tmp-*"))
    (tmp_path / "file").write_text("")
    for taken in (out, tmp_path / "file"):
        with pytest.raises(InputError, match="exists and is not an empty folder"):
            export_as_run(store, VersionChoice(), taken)
    with pytest.raises(InputError, match="no version 9"):
        export_as_run(store, VersionChoice(as_of="9"), tmp_path / "nine")
    assert not (tmp_path / "nine").exists()
