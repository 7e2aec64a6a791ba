"""A version is written on top of the one it was planned from, or not at all."""

from pathlib import Path

import pyarrow as pa
import pytest

from mining.errors import InputError
from mining.label_store.delta_table import ConcurrentPublishError, LabelStore
from mining.label_store.schema import STORE_SCHEMA


def rows(bucket: int, name: str) -> pa.RecordBatch:
    """An image without a box."""
    known = {"bucket": bucket, "corpus": "a", "image_id": bucket * 65_536 + 1, "file_name": name, "state": "no_region",
             "run": "r", "settings_sha256": "s", "model_sha256": "m"}  # fmt: skip
    return pa.RecordBatch.from_pylist([{**dict.fromkeys(STORE_SCHEMA.names), **known}], schema=STORE_SCHEMA)


def names(store: LabelStore) -> list[str]:
    return [name for batch in store.latest().rows(None, ["file_name"]) for name in batch["file_name"].to_pylist()]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Two buckets of one image."""
    store = LabelStore(str(tmp_path / "labels"))
    first = [rows(0, "a.png"), rows(1, "b.png")]
    assert store.publish(store.latest(), [0, 1], iter(first), {"corpora": {"a": {"counts": 2}}}) == 0
    return store


def test_a_version_planned_from_an_older_one_is_not_written_even_if_other_files_changed(store: LabelStore) -> None:
    base = store.latest()
    assert store.publish(base, [0], iter([rows(0, "c.png")]), {"corpora": {}}) == 1
    with pytest.raises(ConcurrentPublishError):
        store.publish(base, [1], iter([rows(1, "d.png")]), {"corpora": {}})
    assert names(store) == ["c.png", "b.png"]


def test_a_first_version_is_written_once(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "labels"))
    nothing = store.latest()
    store.publish(nothing, [0], iter([rows(0, "a.png")]), {"corpora": {}})
    with pytest.raises(ConcurrentPublishError):
        store.publish(nothing, [0], iter([rows(0, "b.png")]), {"corpora": {}})
    assert names(store) == ["a.png"]


def test_a_bucket_may_become_empty(store: LabelStore) -> None:
    store.publish(store.latest(), [0], iter([]), {"corpora": {}})
    assert names(store) == ["b.png"]


def test_an_error_while_rows_are_written_leaves_no_version(store: LabelStore) -> None:
    def failing() -> object:
        yield rows(0, "c.png")
        raise KeyError("the disk went")

    with pytest.raises(Exception):  # noqa: B017, PT011  whatever Arrow makes of it
        store.publish(store.latest(), [0], failing(), {"corpora": {}})  # type: ignore[arg-type]
    assert (store.latest().number, names(store)) == (0, ["a.png", "b.png"])


@pytest.mark.parametrize(
    ("moment", "words"), [("7", "no version 7"), ("soon", "give a version's number"), ("1999-01-01", "as of")]
)
def test_an_unknown_version_is_an_error(store: LabelStore, moment: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        store.as_of(moment)


def test_a_version_can_be_chosen_by_a_time(store: LabelStore) -> None:
    store.publish(store.latest(), [0], iter([rows(0, "c.png")]), {"corpora": {"a": {"counts": 3}}})
    assert store.as_of("0").record["corpora"]["a"]["counts"] == 2
    assert store.as_of("2099-01-01").number == 1
    assert [one["version"] for one in store.records()] == [1, 0]
