"""What the disk, the clock or a colleague spoils while nobody looks."""

import multiprocessing
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
from tests.faults.kill_injection import label_once
from tests.unit.engine.painting import BOX, GREEN, RED, crowd, list_painted, painted_model, scene, write_corpus
from tests.unit.label_store.desk import Desk, told
from tests.unit.label_store.test_nights import GATES_OFF, Nights


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    list_painted(monkeypatch)
    return Desk(tmp_path)


def flip_a_byte(path: Path) -> None:
    """So that the file can still be read, and says something else: only its checksums can tell."""
    whole, data = pq.read_table(path), bytearray(path.read_bytes())
    for place in range(len(data) // 2):
        data[place] ^= 0x10
        path.write_bytes(data)
        with suppress(OSError, pa.ArrowException):
            if not pq.read_table(path).equals(whole):
                return
        data[place] ^= 0x10
    raise AssertionError("no byte to flip unseen")


def test_a_part_that_was_damaged_is_found_by_its_checksum_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count_fault: Callable[..., None]
) -> None:
    list_painted(monkeypatch)
    corpus = write_corpus(tmp_path, crowd(), None)
    asked = {**corpus, "model": str(painted_model(tmp_path / "model")), "scales": (1.0,), "shard_size": 4}
    whole, spoilt = (MineSettings(**asked, out=tmp_path / name) for name in ("whole", "spoilt"))
    mine(whole)
    for shard in mining_job.plan_mining(spoilt).shards:
        mine_shard(Run(spoilt.out), shard)
    run = Run(spoilt.out)
    flip_a_byte(run.part(1))
    flip_a_byte(run.curve_part(2))
    summary = mine(spoilt)
    assert summary.images == 14
    for name in ("annotations.parquet", "curves.parquet", "corpus.parquet"):
        assert pq.read_table(whole.out / name).equals(pq.read_table(spoilt.out / name))
    count_fault("a byte of a part flipped", 2)


def test_a_part_damaged_before_it_was_published_is_made_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    nights = Nights(desk, seed=3)
    for _ in range(9):
        nights.add()
    real_publish = publish.publish_labels
    spoilt: list[Path] = []

    def after_the_disk_spoilt_a_part(settings: Any, **options: Any) -> Any:
        if not spoilt:
            (run,) = desk.runs.glob("images-*")
            spoilt.append(Run(run).part(1))
            flip_a_byte(spoilt[0])
        return real_publish(settings, **options)

    monkeypatch.setattr(publish, "publish_labels", after_the_disk_spoilt_a_part)
    job = desk.job(gates=GATES_OFF)
    assert (job.state, len(spoilt)) == ("published", 1)
    monkeypatch.undo()
    list_painted(monkeypatch)
    assert {name: [told(row) for row in own] for name, own in desk.by_name().items()} == desk.from_scratch(
        desk.folder / "afresh"
    )


def test_jobs_that_start_at_the_same_moment_publish_every_image_once(
    desk: Desk, count_fault: Callable[..., None]
) -> None:
    nights = Nights(desk, seed=8)
    for _ in range(12):
        nights.add()
    processes = multiprocessing.get_context("forkserver")
    given = [desk.settings(gates=GATES_OFF, runs=desk.folder / f"runs-{n}").model_dump_json() for n in range(3)]
    started = [processes.Process(target=label_once, args=(one,)) for one in given]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0, 0, 0]
    rows = desk.rows()
    assert {name: [told(row) for row in own] for name, own in desk.by_name().items()} == desk.from_scratch(
        desk.folder / "afresh"
    )
    assert len({row["image_id"] for row in rows}) == len(desk.labels or {})
    assert desk.version() == 0, "who came later found nothing left to publish"
    count_fault("jobs started at the same moment on one store", 3)


def test_a_job_fired_twice_on_the_same_runs_is_turned_away_once(desk: Desk, count_fault: Callable[..., None]) -> None:
    nights = Nights(desk, seed=8)
    for _ in range(12):
        nights.add()
    processes = multiprocessing.get_context("forkserver")
    given = desk.settings(gates=GATES_OFF).model_dump_json()
    started = [processes.Process(target=label_once, args=(given,)) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert 0 in [process.exitcode for process in started]
    assert len(desk.by_name()) == len(desk.labels or {})
    assert desk.version() == 0
    count_fault("a schedule fired twice", 1)


def test_an_edit_that_keeps_size_and_time_is_noticed(desk: Desk, count_fault: Callable[..., None]) -> None:
    first, second = scene((BOX, RED)), scene((BOX, GREEN))
    desk.put("a.png", first)
    long_ago = time.time() - 1000
    os.utime(desk.photos / "a.png", (long_ago, long_ago))
    desk.job(gates=GATES_OFF)
    size = (desk.photos / "a.png").stat().st_size
    desk.put("a.png", second)
    data = (desk.photos / "a.png").read_bytes()
    (desk.photos / "a.png").write_bytes(data + b"\0" * (size - len(data)))
    os.utime(desk.photos / "a.png", (long_ago, long_ago))
    assert (desk.photos / "a.png").stat().st_size == size
    assert desk.job(gates=GATES_OFF).tally["reasons"] == {"another content": 1}
    assert desk.by_name()["a.png"][0]["category"] == "green"
    count_fault("image edited with its old size and time")


def test_a_clock_that_was_set_back_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, count_fault: Callable[..., None]
) -> None:
    desk.put("a.png", scene((BOX, RED)))
    desk.put("b.png", scene((BOX, GREEN)))
    desk.job(gates=GATES_OFF)
    back = 3 * 24 * 3600
    earlier, earlier_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: earlier() - back)
    monkeypatch.setattr(time, "time_ns", lambda: earlier_ns() - back * 10**9)
    desk.put("a.png", scene((BOX, GREEN)))
    before = time.time()
    os.utime(desk.photos / "a.png", (before, before))
    desk.put("c.png", scene(((0, 0, 20, 20), RED)))
    job = desk.job(gates=GATES_OFF)
    assert (job.version, job.tally["reasons"]) == (1, {"another content": 1, "new": 1})
    assert {name: own[0]["category"] for name, own in desk.by_name().items()} == {
        "a.png": "green", "b.png": "green", "c.png": "red",
    }  # fmt: skip
    assert desk.job(gates=GATES_OFF).state == "unchanged"
    count_fault("clock set back")


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Files may not become larger than so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("size", [0, 2_000, 6_000, 12_000])
def test_a_disk_that_is_full_publishes_nothing_and_the_next_job_everything(
    desk: Desk, small_disk: Callable[[int], None], size: int, count_fault: Callable[..., None]
) -> None:
    desk.put("a.png", scene((BOX, RED)))
    desk.job(gates=GATES_OFF)
    before = desk.rows()
    for number in range(30):
        desk.put(f"{number}.png", scene((BOX, (255 - number, 0, 0))))
    settings = desk.settings(gates=GATES_OFF)
    small_disk(size)
    try:
        with pytest.raises(StorageError):
            label(settings)
    finally:
        small_disk(-1)
    assert desk.rows() == before
    assert desk.job(gates=GATES_OFF).images == 31
    assert not [path for path in desk.runs.rglob(".tmp-*") if path.is_file()]
    count_fault("disk full")


def test_a_store_that_may_not_be_written_is_said(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, count_fault: Callable[..., None]
) -> None:
    desk.put("a.png", scene((BOX, RED)))
    desk.job(gates=GATES_OFF)
    desk.put("b.png", scene((BOX, GREEN)))

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="read-only"):
        patch.setattr("mining.label_store.delta_table.write_files", refused)
        desk.job(gates=GATES_OFF)
    assert desk.version() == 0
    assert desk.job(gates=GATES_OFF).version == 1
    assert LabelStore(str(desk.store)).latest().number == DeltaTable(desk.store).version()
    count_fault("store read-only")


def test_a_model_that_changes_under_a_run_is_noticed(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, RED)))
    desk.job(gates=GATES_OFF)
    digest = sha256_of(desk.model / "weights.safetensors")
    desk.train(white=200)
    other = sha256_of(desk.model / "weights.safetensors")
    assert digest != other
    desk.job(gates=GATES_OFF)
    assert {row["model_sha256"] for row in desk.rows()} == {other}


@pytest.mark.parametrize("how", ["replaced", "deleted", "replaced and put back"])
def test_an_image_that_changes_while_it_is_mined_gets_no_box_of_another_picture(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, how: str, count_fault: Callable[..., None]
) -> None:
    for number in range(6):
        desk.put(f"{number}.png", scene((BOX, (255 - number, 0, 0))))
    original = (desk.photos / "3.png").read_bytes()

    def meddled(run: Path, shard: int, *rest: Any) -> Any:
        if shard == 0:
            (desk.photos / "3.png").unlink()
            if how != "deleted":
                desk.put("3.png", scene(((0, 0, 30, 30), GREEN)))
        return mine_shard(run, shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("mining.runs.shard_mining.mine_shard", meddled)
        assert desk.job(gates=GATES_OFF).deferred == 1
    assert "3.png" not in desk.by_name()
    if how != "replaced":
        (desk.photos / "3.png").write_bytes(original)
    desk.job(gates=GATES_OFF)
    assert {name: [told(row) for row in own] for name, own in desk.by_name().items()} == desk.from_scratch(
        desk.folder / "afresh"
    )
    count_fault("image replaced or deleted while being mined")
