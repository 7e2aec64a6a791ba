"""Damage from outside: disks that flip bytes or fill up, clocks set back, jobs at the same time, changed images."""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from flows.label import label
from flows.mine import mine
from mining.config import MineSettings
from mining.errors import StorageError
from mining.label_store import publish
from mining.label_store.delta_table import LabelStore
from mining.runs import mining_job
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from mining.storage.files import sha256_of
from tests.faults.kill_injection import run_at_once, run_label
from tests.unit.engine.painting import BOX, GREEN, RED, crowd, list_painted, painted_model, scene, write_corpus
from tests.unit.label_store.project import GATES_OFF, LabelProject, RandomChanges


def flip_a_byte(path: Path) -> None:
    """Flip a byte so that the file can still be read but has other content, which only its checksum shows."""
    whole, data = pq.read_table(path), bytearray(path.read_bytes())
    for position in range(len(data) // 2):
        data[position] ^= 0x10
        path.write_bytes(data)
        with suppress(OSError, pa.ArrowException):
            if not pq.read_table(path).equals(whole):
                return
        data[position] ^= 0x10
    raise AssertionError("every flip makes the file unreadable")


def test_a_damaged_part_is_found_by_its_checksum_and_mined_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count_fault: Callable[..., None]
) -> None:
    list_painted(monkeypatch)
    corpus = write_corpus(tmp_path, crowd(), None)
    quick = {"scales": (1.0,), "shard_size": 4, "refine": "none"}
    given = {**corpus, "model": str(painted_model(tmp_path / "model")), **quick}
    whole, damaged = (MineSettings(**given, out=tmp_path / name) for name in ("whole", "damaged"))
    mine(whole)
    for shard in mining_job.plan_mining(damaged).shards:
        mine_shard(Run(damaged.out), shard)
    run = Run(damaged.out)
    flip_a_byte(run.part(1))
    flip_a_byte(run.curve_part(2))
    summary = mine(damaged)
    assert summary.images == 14
    for name in ("annotations.parquet", "curves.parquet", "corpus.parquet"):
        assert pq.read_table(whole.out / name).equals(pq.read_table(damaged.out / name))
    count_fault("a byte of a part flipped", 2)


def test_a_part_damaged_before_publishing_is_mined_again(
    project: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = RandomChanges(project, seed=3)
    for _ in range(9):
        changes.add()
    real_publish = publish.publish_labels
    damaged: list[Path] = []

    def publish_after_damage(settings: Any, **options: Any) -> Any:
        if not damaged:
            (run,) = project.runs.glob("images-*")
            damaged.append(Run(run).part(1))
            flip_a_byte(damaged[0])
        return real_publish(settings, **options)

    monkeypatch.setattr(publish, "publish_labels", publish_after_damage)
    job = project.run_job(gates=GATES_OFF)
    assert (job.state, len(damaged)) == ("published", 1)
    monkeypatch.undo()
    list_painted(monkeypatch)
    assert project.comparable_rows() == project.mine_from_scratch(project.folder / "from-scratch")


def test_jobs_started_at_the_same_moment_publish_every_image_once(
    project: LabelProject, count_fault: Callable[..., None]
) -> None:
    changes = RandomChanges(project, seed=8)
    for _ in range(12):
        changes.add()
    settings = [project.settings(gates=GATES_OFF, runs=project.folder / f"runs-{n}") for n in range(3)]
    assert run_at_once(run_label, [one.model_dump_json() for one in settings]) == [0, 0, 0]
    rows = project.rows()
    assert project.comparable_rows() == project.mine_from_scratch(project.folder / "from-scratch")
    assert len({row["image_id"] for row in rows}) == len(project.labels or {})
    assert project.latest_version() == 0, "the later jobs found nothing left to publish"
    count_fault("jobs started at the same moment on one store", 3)


def test_a_job_started_twice_on_the_same_runs_publishes_once(
    project: LabelProject, count_fault: Callable[..., None]
) -> None:
    changes = RandomChanges(project, seed=8)
    for _ in range(12):
        changes.add()
    settings = project.settings(gates=GATES_OFF).model_dump_json()
    assert 0 in run_at_once(run_label, [settings, settings])
    assert len(project.rows_by_name()) == len(project.labels or {})
    assert project.latest_version() == 0
    count_fault("a schedule fired twice", 1)


def test_an_edit_that_keeps_size_and_time_is_detected(project: LabelProject, count_fault: Callable[..., None]) -> None:
    first, second = scene((BOX, RED)), scene((BOX, GREEN))
    project.add_image("a.png", first)
    long_ago = time.time() - 1000
    os.utime(project.photos / "a.png", (long_ago, long_ago))
    project.run_job(gates=GATES_OFF)
    size = (project.photos / "a.png").stat().st_size
    project.add_image("a.png", second)
    data = (project.photos / "a.png").read_bytes()
    (project.photos / "a.png").write_bytes(data + b"\0" * (size - len(data)))
    os.utime(project.photos / "a.png", (long_ago, long_ago))
    assert (project.photos / "a.png").stat().st_size == size
    assert project.run_job(gates=GATES_OFF).tally["reasons"] == {"another content": 1}
    assert project.rows_by_name()["a.png"][0]["category"] == "green"
    count_fault("image edited with its old size and time")


def test_a_clock_set_back_loses_no_change(
    project: LabelProject, monkeypatch: pytest.MonkeyPatch, count_fault: Callable[..., None]
) -> None:
    project.add_image("a.png", scene((BOX, RED)))
    project.add_image("b.png", scene((BOX, GREEN)))
    project.run_job(gates=GATES_OFF)
    back = 3 * 24 * 3600
    earlier, earlier_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: earlier() - back)
    monkeypatch.setattr(time, "time_ns", lambda: earlier_ns() - back * 10**9)
    project.add_image("a.png", scene((BOX, GREEN)))
    before = time.time()
    os.utime(project.photos / "a.png", (before, before))
    project.add_image("c.png", scene(((0, 0, 20, 20), RED)))
    job = project.run_job(gates=GATES_OFF)
    assert (job.version, job.tally["reasons"]) == (1, {"another content": 1, "new": 1})
    assert {name: own[0]["category"] for name, own in project.rows_by_name().items()} == {
        "a.png": "green", "b.png": "green", "c.png": "red",
    }  # fmt: skip
    assert project.run_job(gates=GATES_OFF).state == "unchanged"
    count_fault("clock set back")


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Limit how many bytes a file may have, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("size", [0, 2_000, 6_000, 12_000])
def test_a_full_disk_publishes_nothing_and_the_next_job_everything(
    project: LabelProject, small_disk: Callable[[int], None], size: int, count_fault: Callable[..., None]
) -> None:
    project.add_image("a.png", scene((BOX, RED)))
    project.run_job(gates=GATES_OFF)
    before = project.rows()
    for number in range(30):
        project.add_image(f"{number}.png", scene((BOX, (255 - number, 0, 0))))
    settings = project.settings(gates=GATES_OFF)
    small_disk(size)
    try:
        with pytest.raises(StorageError):
            label(settings)
    finally:
        small_disk(-1)
    assert project.rows() == before
    assert project.run_job(gates=GATES_OFF).images == 31
    assert not [path for path in project.runs.rglob(".tmp-*") if path.is_file()]
    count_fault("disk full")


def test_a_read_only_store_is_reported(
    project: LabelProject, monkeypatch: pytest.MonkeyPatch, count_fault: Callable[..., None]
) -> None:
    project.add_image("a.png", scene((BOX, RED)))
    project.run_job(gates=GATES_OFF)
    project.add_image("b.png", scene((BOX, GREEN)))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="read-only"):
        patch.setattr("mining.label_store.delta_table.write_files", refuse)
        project.run_job(gates=GATES_OFF)
    assert project.latest_version() == 0
    assert project.run_job(gates=GATES_OFF).version == 1
    assert LabelStore(str(project.store)).latest().number == DeltaTable(project.store).version()
    count_fault("store read-only")


def test_a_changed_model_labels_all_images_anew(project: LabelProject) -> None:
    project.add_image("a.png", scene((BOX, RED)))
    project.run_job(gates=GATES_OFF)
    digest = sha256_of(project.model / "weights.safetensors")
    project.change_model(white=200)
    other = sha256_of(project.model / "weights.safetensors")
    assert digest != other
    project.run_job(gates=GATES_OFF)
    assert {row["model_sha256"] for row in project.rows()} == {other}


@pytest.mark.parametrize("change", ["replaced", "deleted", "replaced and put back"])
def test_an_image_that_changes_while_it_is_mined_gets_no_box_of_the_other_content(
    project: LabelProject, monkeypatch: pytest.MonkeyPatch, change: str, count_fault: Callable[..., None]
) -> None:
    for number in range(6):
        project.add_image(f"{number}.png", scene((BOX, (255 - number, 0, 0))))
    original = (project.photos / "3.png").read_bytes()

    def mine_after_change(run: Path, shard: int, *rest: Any) -> Any:
        if shard == 0:
            (project.photos / "3.png").unlink()
            if change != "deleted":
                project.add_image("3.png", scene(((0, 0, 30, 30), GREEN)))
        return mine_shard(run, shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("mining.runs.shard_mining.mine_shard", mine_after_change)
        assert project.run_job(gates=GATES_OFF).deferred == 1
    assert "3.png" not in project.rows_by_name()
    if change != "replaced":
        (project.photos / "3.png").write_bytes(original)
    project.run_job(gates=GATES_OFF)
    assert project.comparable_rows() == project.mine_from_scratch(project.folder / "from-scratch")
    count_fault("image replaced or deleted while being mined")
