"""Labels on object storage, also where it answers errors and cuts connections."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from flows.label import label
from mining.errors import StorageError
from mining.label_store.reading import VersionChoice, history, version_as_run
from mining.label_store.settings import LabelSettings
from tests.faults.faulty_object_store import BUCKET, FAULTS, SECRET, Line, object_store
from tests.unit.engine.painting import list_painted
from tests.unit.label_store.desk import Desk, told
from tests.unit.label_store.test_nights import GATES_OFF, Nights

STORE = f"s3://{BUCKET}/nightly"


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    with object_store(seed=1) as (line, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield line


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: Line) -> Desk:
    list_painted(monkeypatch)
    return Desk(tmp_path)


def labelled(desk: Desk, **changes: object) -> object:
    settings = desk.settings(gates=GATES_OFF).model_dump()
    return label(LabelSettings(**{**settings, "store": STORE, **changes}))


def rows(version: int | None = None) -> dict[str, list[tuple[object, ...]]]:
    found: dict[str, list[tuple[object, ...]]] = {}
    table = DeltaTable(STORE, version=version).to_pyarrow_table().to_pylist()
    for row in sorted(table, key=lambda row: (row["image_id"], row["annotation_id"] or 0)):
        found.setdefault(row["file_name"], []).append(told(row))
    return found


def test_labels_may_lie_on_object_storage(desk: Desk, tmp_path: Path) -> None:
    nights = Nights(desk, seed=5)
    for night in range(3):
        nights.pass_by(5)
        labelled(desk)
        assert rows() == desk.from_scratch(tmp_path / f"afresh-{night}")
    with version_as_run(STORE, VersionChoice(as_of="0")) as run:
        assert json.loads((run / "run.json").read_text())["counts"]["images"] == len(rows(0))
    assert [one["version"] for one in history(STORE)] == list(range(len(history(STORE)) - 1, -1, -1))


@pytest.mark.parametrize("nights", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_line_that_fails_loses_and_doubles_nothing(
    desk: Desk, line: Line, tmp_path: Path, nights: int, count_fault: Callable[..., None]
) -> None:
    happening = Nights(desk, seed=nights)
    whole: list[dict[str, list[tuple[object, ...]]]] = []
    half: list[object] = []
    done = threading.Event()

    def read() -> None:
        """Somebody who reads all the time."""
        while not done.wait(0.2):
            try:
                seen = rows()
            except Exception:
                continue
            if seen not in whole:
                half.append(seen)

    reader = threading.Thread(target=read)
    for night in range(nights):
        line.fail()
        happening.pass_by(5)
        expected = desk.from_scratch(tmp_path / f"afresh-{night}")
        whole.append(expected)
        if night == 1:
            reader.start()
        line.fail(_500=0.05, _503=0.05, cut_before=0.05, cut_after=0.05, cut_within=0.03)
        for _ in range(5):  # as a schedule with retries does
            try:
                labelled(desk)
                break
            except StorageError:
                continue
        line.fail()
        assert rows() == expected
        numbers = [row["annotation_id"] for row in DeltaTable(STORE).to_pyarrow_table().to_pylist()]
        boxes = [number for number in numbers if number is not None]
        assert len(set(boxes)) == len(boxes)
    done.set()
    reader.join(60)
    assert not half
    told_of = line.told()
    assert all(told_of.get(fault) for fault in FAULTS[:4]), told_of
    count_fault("object storage answers 500 or 503", told_of["500"] + told_of["503"])
    count_fault("object storage cuts the connection", sum(told_of.get(fault, 0) for fault in FAULTS[2:]))


def test_a_store_that_cannot_be_reached_is_said_and_what_was_mined_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.put("a.png", b"?")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_RETRIES", "1")
    with pytest.raises(StorageError, match="cannot be used"):
        labelled(desk)


def test_secrets_are_in_no_record(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    nights = Nights(desk, seed=1)
    nights.pass_by(4)
    labelled(desk)
    files = [path for path in desk.folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in "".join(capfd.readouterr())
    assert SECRET not in json.dumps(DeltaTable(STORE).history())
