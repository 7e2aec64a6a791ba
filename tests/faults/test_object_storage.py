"""Labels on object storage, also where it answers errors and cuts connections."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from flows.label import label
from mining.errors import StorageError
from mining.label_store.reading import history, version_as_run
from mining.label_store.settings import LabelSettings, VersionChoice
from tests.faults.faulty_object_store import BUCKET, FAULTS, SECRET, FaultyProxy, run_object_store
from tests.unit.label_store.project import GATES_OFF, LabelProject, RandomChanges, comparable_values

Rows = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[FaultyProxy, dict[str, str]]]:
    with run_object_store(seed=1) as running:
        yield running


@pytest.fixture
def proxy(server: tuple[FaultyProxy, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> FaultyProxy:
    """The proxy before the object store, without faults; this process connects through it."""
    proxy, environment = server
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy.set_fault_rates()
    return proxy


@pytest.fixture
def store(proxy: FaultyProxy, tmp_path: Path) -> str:
    """The address of a new label store."""
    return f"s3://{BUCKET}/{tmp_path.name}"


def label_new_images(project: LabelProject, store: str, **changes: object) -> object:
    settings = project.settings(gates=GATES_OFF).model_dump()
    return label(LabelSettings(**{**settings, "store": store, **changes}))


def read_rows(store: str, version: int | None = None) -> Rows:
    grouped: Rows = {}
    table = DeltaTable(store, version=version).to_pyarrow_table().to_pylist()
    for row in sorted(table, key=lambda row: (row["image_id"], row["annotation_id"] or 0)):
        grouped.setdefault(row["file_name"], []).append(comparable_values(row))
    return grouped


def test_a_label_store_may_be_on_object_storage(project: LabelProject, store: str, tmp_path: Path) -> None:
    changes = RandomChanges(project, seed=5)
    for job in range(3):
        changes.apply(5)
        label_new_images(project, store)
        assert read_rows(store) == project.mine_from_scratch(tmp_path / f"from-scratch-{job}")
    with version_as_run(store, VersionChoice(as_of="0")) as run:
        assert json.loads((run / "run.json").read_text())["counts"]["images"] == len(read_rows(store, 0))
    versions = [version["version"] for version in history(store)]
    assert versions == list(range(len(versions) - 1, -1, -1))


@pytest.mark.parametrize("jobs", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_faulty_connection_loses_and_doubles_nothing(
    project: LabelProject,
    proxy: FaultyProxy,
    store: str,
    tmp_path: Path,
    jobs: int,
    count_fault: Callable[..., None],
) -> None:
    changes = RandomChanges(project, seed=jobs)
    versions: list[Rows] = []
    partial: list[object] = []
    done = threading.Event()
    before = proxy.read_counts()

    def read_again_and_again() -> None:
        while not done.wait(0.2):
            try:
                rows = read_rows(store)
            except Exception:
                continue
            if rows not in versions:
                partial.append(rows)

    reader = threading.Thread(target=read_again_and_again)
    for job in range(jobs):
        proxy.set_fault_rates()
        changes.apply(5)
        expected = project.mine_from_scratch(tmp_path / f"from-scratch-{job}")
        versions.append(expected)
        if job == 1:
            reader.start()
        proxy.set_fault_rates(_500=0.05, _503=0.05, cut_before=0.05, cut_after=0.05, cut_within=0.03)
        for _ in range(5):  # as a schedule with retries does
            try:
                label_new_images(project, store)
                break
            except StorageError:
                continue
        proxy.set_fault_rates()
        assert read_rows(store) == expected
        numbers = [row["annotation_id"] for row in DeltaTable(store).to_pyarrow_table().to_pylist()]
        boxes = [number for number in numbers if number is not None]
        assert len(set(boxes)) == len(boxes)
    done.set()
    reader.join(60)
    assert not partial
    counts = proxy.read_counts()
    times = {fault: counts.get(fault, 0) - before.get(fault, 0) for fault in FAULTS}
    assert all(times[fault] for fault in FAULTS[:4]), times
    count_fault("object storage answers 500 or 503", times["500"] + times["503"])
    count_fault("object storage cuts the connection", sum(times[fault] for fault in FAULTS[2:]))


def test_an_unreachable_store_is_reported(project: LabelProject, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project.add_image("a.png", b"?")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="cannot be used"):
        label_new_images(project, store)


def test_secrets_are_in_no_record(project: LabelProject, store: str, capfd: pytest.CaptureFixture[str]) -> None:
    RandomChanges(project, seed=1).apply(4)
    label_new_images(project, store)
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in "".join(capfd.readouterr())
    assert SECRET not in json.dumps(DeltaTable(store).history())
