"""Flip single bits of files: each flip is reported in a sentence, or changes nothing that is read."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from flows.mine import mine
from mining.config import MineSettings
from mining.corpus import iter_shards, read_summary
from mining.errors import BoxmineError
from mining.evaluation.run_reading import iter_curve_blocks, read_ranked_classes
from mining.label_store.reading import history, version_as_run
from mining.label_store.settings import VersionChoice
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.reading import iter_boxes, iter_images
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from mining.runs.status import read_status
from tests.unit.engine.painting import BOX, CLASSES, GREEN, RED, crowd, list_painted, painted_model, scene, write_corpus
from tests.unit.label_store.project import GATES_OFF, LabelProject

Read = Callable[[], Any]


@pytest.fixture(scope="module", autouse=True)
def _painted_localizers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        yield


def flips(files: list[Path], times: int, seed: int) -> Iterator[Path]:
    """Flip one random bit at a time, in each file in turn; yields the file, and restores it before the next flip."""
    drawn = random.Random(seed)
    whole = {file: file.read_bytes() for file in files}
    for number in range(times):
        file = files[number % len(files)]
        data = bytearray(whole[file])
        data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
        file.write_bytes(data)
        yield file
        file.write_bytes(whole[file])


def silent_flips(files: list[Path], times: int, seed: int, read: Read) -> tuple[int, list[Path]]:
    """Flip bits and read.

    Any error but boxmine's own is a traceback, and fails the test.

    Returns:
        How many flips were reported in a sentence or two, and the files of those that silently gave other content.
    """
    expected = read()
    reported, silent = 0, []
    for file in flips(files, times, seed):
        try:
            if read() != expected:
                silent.append(file)
        except BoxmineError as error:
            is_short = error.exit_code in (2, 4) and str(error).count(". ") <= 2
            reported += is_short
            silent += [] if is_short else [file]
    return reported, silent


# --- tables of a finished run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with every table."""
    folder = tmp_path_factory.mktemp("run")
    corpus = write_corpus(folder, {**crowd(), "broken.png": b"no image"}, None)
    mine(MineSettings(**corpus, model=str(painted_model(folder / "model")), out=folder / "run", scales=(1.0,), refine="none",
                      shard_size=4, workers=1))  # fmt: skip
    return Run(folder / "run")


def readers(run: Run) -> dict[str, Read]:
    """Functions that read each table as plain values."""
    ids = {number: number for number in range(1, 16)}
    categories = {number: number for number in CLASSES.values()}
    return {
        "annotations.parquet": lambda: list(iter_boxes(run.annotations)),
        "corpus.parquet": lambda: (
            list(iter_images(run.corpus)), [shard.to_pylist() for shard in iter_shards(run.corpus)],
            read_summary(run.corpus),
        ),
        "curves.parquet": lambda: [
            (one.image.tolist(), one.category.tolist(), one.xyxy.tolist(), one.boxes.tolist(), one.otsu.tolist())
            for one in iter_curve_blocks(run.path, ids, categories)
        ],
        "rankings.parquet": lambda: read_ranked_classes(run.path, ids, categories, 16).tolist(),  # type: ignore[union-attr]
        "quarantine.parquet": run.first_reasons,
        "annotations.json": lambda: read_status(run.path),
    }  # fmt: skip


TABLES = ("annotations.parquet", "corpus.parquet", "curves.parquet", "rankings.parquet", "quarantine.parquet", "annotations.json")  # fmt: skip


@pytest.mark.parametrize("times", [8, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("table", TABLES)
def test_a_flip_in_a_table_of_a_finished_run_is_reported(
    run: Run, table: str, times: int, count_fault: Callable[..., None]
) -> None:
    read = readers(run)[table]
    assert read()
    reported, silent = silent_flips([run.path / table], times, seed=len(table), read=read)
    assert not silent
    assert reported == times
    count_fault(f"a bit of {table} flipped", times)


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, run: Run) -> tuple[MineSettings, Run]:
    """The same corpus with all its parts, not merged yet, and its settings."""
    settings = run.settings.model_copy(update={"out": tmp_path_factory.mktemp("mined") / "run"})
    for shard in plan_mining(settings).shards:
        mine_shard(Run(settings.out), shard)
    return settings, Run(settings.out)


@pytest.mark.parametrize("times", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_shard_is_mined_again_after_a_flip_in_its_part(
    mined: tuple[MineSettings, Run], times: int, count_fault: Callable[..., None]
) -> None:
    settings, run = mined
    files = sorted(run.parts.iterdir())
    assert len(files) == 8
    for file in flips(files, times, seed=7):
        assert plan_mining(settings).shards == [int(file.stem.rpartition("-")[2])]
    assert plan_mining(settings).shards == []
    count_fault("a bit of a part or of its curves flipped", times)


@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_flip_in_a_part_is_reported_when_it_is_merged(
    mined: tuple[MineSettings, Run], tmp_path: Path, times: int, count_fault: Callable[..., None]
) -> None:
    copy = Path(shutil.copytree(mined[1].path, tmp_path / "run"))
    for _ in flips(sorted((copy / "parts").iterdir()), times, seed=8):
        with pytest.raises(BoxmineError, match="is damaged"):
            finish_mining(Run(copy))
    finish_mining(Run(copy))
    count_fault("a bit of a part flipped before it was merged", times)


# --- label stores ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> LabelProject:
    """A project whose store has three versions and a checkpoint of its log."""
    project = LabelProject(tmp_path_factory.mktemp("project"))
    for number in range(9):
        project.add_image(f"{number}.png", scene((BOX, (255 - number, 0, 0)), ((0, 0, 20, 20), GREEN)))
    project.run_job(gates=GATES_OFF)
    project.add_image("b.png", scene((BOX, GREEN)))
    project.run_job(gates=GATES_OFF)
    DeltaTable(project.store).create_checkpoint()
    project.add_image("c.png", scene((BOX, RED)))
    project.run_job(gates=GATES_OFF)
    return project


def content(store: Path, as_of: str | None = None) -> Any:
    """Read all rows of a version as those of a run."""
    with version_as_run(str(store), VersionChoice(as_of)) as run:
        tables = [pq.read_table(run / name).to_pylist() for name in ("annotations.parquet", "corpus.parquet")]
    return tables


@pytest.mark.parametrize("times", [9, pytest.param(60, marks=pytest.mark.slow)])
def test_a_flip_in_a_data_file_of_a_store_is_reported(
    project: LabelProject, times: int, count_fault: Callable[..., None]
) -> None:
    (current,) = [path for path in project.store.rglob("*.parquet") if path in _active_files(project.store)]
    reported, silent = silent_flips([current], times, seed=5, read=lambda: content(project.store))
    assert not silent
    assert reported == times
    count_fault("a bit of a store's data file flipped", times)


@pytest.mark.parametrize("times", [18, pytest.param(120, marks=pytest.mark.slow)])
def test_a_flip_in_the_log_of_a_store_is_reported_or_harmless(
    project: LabelProject, times: int, count_fault: Callable[..., None]
) -> None:
    files = sorted((project.store / "_delta_log").iterdir())
    assert len(files) == 5, "three commits, a checkpoint, and the file that names it"
    reported, silent = silent_flips(
        files,
        times,
        seed=6,
        read=lambda: (content(project.store), content(project.store, "1"), history(str(project.store))),
    )
    assert not silent
    assert reported > times / 4
    count_fault("a bit of a store's log flipped", times)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_data_file_of_a_store_is_reported(project: LabelProject, kept: float) -> None:
    (current,) = _active_files(project.store)
    whole = current.read_bytes()
    current.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(BoxmineError, match=rf"{current.name} is damaged: its SHA-256 .* backup"):
        content(project.store)
    current.write_bytes(whole)


def test_a_missing_data_file_of_a_store_is_reported(project: LabelProject) -> None:
    (current,) = _active_files(project.store)
    away = current.rename(project.folder / "away")
    with pytest.raises(BoxmineError, match=rf"{current.name} is damaged: the file is missing"):
        content(project.store)
    away.rename(current)


@pytest.mark.parametrize("damage", ["{", "", "not JSON", '{"add":{}}'])
def test_a_damaged_commit_of_a_store_is_reported(project: LabelProject, damage: str) -> None:
    commit = project.store / "_delta_log" / f"{2:020d}.json"
    whole = commit.read_text()
    commit.write_text(damage)
    with pytest.raises(BoxmineError, match=r"_delta_log.* is damaged"):
        content(project.store)
    with pytest.raises(BoxmineError, match=r"_delta_log.* is damaged"):
        project.run_job(gates=GATES_OFF)
    commit.write_text(whole)
    assert content(project.store)


def _active_files(store: Path) -> list[Path]:
    return [store / path for path in DeltaTable(store).get_add_actions(flatten=True)["path"].to_pylist()]
