"""Runs in int8: quantized once, when they are planned; whoever mines a shard reads the run's own networks."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mining import preflight
from mining.config import parse
from mining.engine import calibration
from mining.engine.calibration import quantize_for_run
from mining.engine.miner import Miner
from mining.errors import InputError, ModelError, RunError
from mining.label_store.settings import LabelSettings
from mining.models.card import INT8_FILE
from mining.models.checkpoint import load_model
from mining.runs import shard_mining
from mining.runs.mining_job import finish_mining, mine, plan_mining
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from mining.runtimes import quantization, requirements
from tests.sharded_corpus import SHARD_SIZE, SHARDS, mine_settings, read_tables, write_corpus

needs_nncf = pytest.mark.skipif(find_spec("nncf") is None, reason="NNCF quantizes: pip install 'boxmine[int8]'")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def planned(corpus: Path) -> Run:
    """A run with its networks and no part yet; tests copy it."""
    settings = mine_settings(corpus, corpus / "planned", precision="int8")
    assert len(plan_mining(settings).shards) == SHARDS
    return Run(settings.out)


def copy_of(planned: Run, folder: Path) -> Run:
    return Run(Path(shutil.copytree(planned.path, folder)))


def mine_shards(run: Run, shards: Any) -> None:
    shard_mining._load_miner.cache_clear()  # as in another process
    for shard in shards:
        mine_shard(run, shard)


@needs_nncf
def test_rows_do_not_depend_on_who_mines_a_shard(planned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = copy_of(planned, tmp_path / "first"), copy_of(planned, tmp_path / "second")
    mine_shards(first, range(SHARDS))
    mine_shards(second, range(0, SHARDS, 2))
    # another machine: no NNCF, an empty cache, another number of threads
    monkeypatch.setattr(quantization, "import_nncf", lambda: pytest.fail("quantized again"))
    monkeypatch.setenv("BOXMINE_CACHE", str(tmp_path / "cache"))
    shard_mining._load_miner.cache_clear()
    for shard in range(1, SHARDS, 2):
        mine_shard(second, shard, threads=3)
    for run in (first, second):
        finish_mining(run)
    assert read_tables(first.path) == read_tables(second.path)
    assert first.read_annotations().num_rows > SHARDS


@needs_nncf
def test_a_resumed_run_keeps_its_networks(planned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copy_of(planned, tmp_path / "run")
    mine_shards(run, [0])
    before = (run.model / INT8_FILE).read_bytes()
    monkeypatch.setattr(quantization, "import_nncf", lambda: pytest.fail("quantized again"))
    settings = run.settings.model_copy(update={"out": run.path})
    assert plan_mining(settings).shards == list(range(1, SHARDS))
    assert (run.model / INT8_FILE).read_bytes() == before
    with pytest.raises(RunError, match="its precision is 'int8'"):
        plan_mining(settings.model_copy(update={"precision": "float32"}))


@needs_nncf
def test_parts_of_other_networks_are_mined_again(planned: Run, tmp_path: Path) -> None:
    run = copy_of(planned, tmp_path / "run")
    mine_shards(run, [0, 1])
    other = run.settings.model_copy(update={"scales": (0.5,)})
    quantize_for_run(run.model, other, run.corpus)
    assert plan_mining(run.settings.model_copy(update={"out": run.path})).shards == list(range(SHARDS))


@needs_nncf
def test_the_boxes_are_those_of_the_int8_network(planned: Run, tmp_path: Path) -> None:
    run = copy_of(planned, tmp_path / "run")
    mine_shards(run, [0])
    mined = pq.read_table(run.part(0), columns=["score"]).column(0).to_pylist()
    rows = run.read_corpus().slice(0, SHARD_SIZE).to_pylist()

    def scores(precision: str) -> list[float]:
        settings = run.settings.model_copy(update={"precision": precision})
        outcomes = Miner(*load_model(run.model, settings), settings).mine(rows)
        return [box["score"] for outcome in outcomes for box in outcome.boxes]

    assert scores("int8") == pytest.approx(mined, abs=1e-7)
    assert scores("float32") != pytest.approx(mined, abs=1e-4)


@needs_nncf
def test_calibration_takes_evenly_spaced_readable_images_at_each_scale(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corpus / "images", tmp_path / "images")
    for name in ("04.jpg", "08.jpg"):
        (tmp_path / "images" / name).write_bytes(b"no image")
    shapes: list[tuple[int, ...]] = []
    prepared: list[str] = []
    prepare = Miner.prepare
    monkeypatch.setattr(calibration, "CALIBRATION_IMAGES", 6)
    monkeypatch.setattr(Miner, "prepare", lambda *a: prepared.append(a[2]["file_name"]) or prepare(*a))
    monkeypatch.setattr(
        calibration, "quantize_localizer", lambda *a: shapes.extend(image.shape for image in a[2]) or a[3].touch()
    )
    settings = mine_settings(corpus, tmp_path / "run", precision="int8").model_copy(
        update={"images": tmp_path / "images"}
    )
    plan_mining(settings)
    assert prepared == ["00.jpg", "02.jpg", "04.jpg", "07.jpg", "09.jpg", "11.jpg"]
    assert [shape[2] for shape in shapes] == [64, 96, 96, 64, 96]  # without 04.jpg, of scale 1
    assert Run(settings.out).record["calibration_images"] == 5


@needs_nncf
def test_a_run_deletes_its_networks_with_itself(planned: Run, tmp_path: Path) -> None:
    run = copy_of(planned, tmp_path / "run")
    assert (run.model / INT8_FILE).is_file()
    run.discard()
    assert not run.path.exists() or not list(run.path.rglob("*"))


@needs_nncf
def test_a_run_without_its_networks_is_refused(planned: Run, tmp_path: Path) -> None:
    run = copy_of(planned, tmp_path / "run")
    (run.model / INT8_FILE).unlink()
    with pytest.raises(RunError, match=r"int8\.zip, the run's networks in int8, cannot be read"):
        plan_mining(run.settings.model_copy(update={"out": run.path}))


@needs_nncf
def test_a_finished_run_whose_networks_are_damaged_is_noticed(planned: Run, tmp_path: Path) -> None:
    run = copy_of(planned, tmp_path / "run")
    settings = run.settings.model_copy(update={"out": run.path})
    mine(settings)
    (run.model / INT8_FILE).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"int8\.zip"):
        mine(settings)


def test_without_nncf_a_run_is_refused_and_leaves_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None if name == "nncf" else find_spec(name))
    with pytest.raises(ModelError, match=r"needs the package nncf: pip install 'boxmine\[int8\]'"):
        plan_mining(mine_settings(corpus, tmp_path / "run", precision="int8"))
    assert not list(tmp_path.rglob("*.json*"))


@pytest.mark.parametrize(
    ("options", "message"), [({"device": "cuda"}, "give --device cpu"), ({"runtime": "torch"}, "leave out --runtime")]
)
def test_int8_elsewhere_is_refused_before_anything_is_read(
    corpus: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        preflight.check(mine_settings(corpus, tmp_path / "run", precision="int8", **options))


def test_labelling_jobs_refuse_int8(corpus: Path, tmp_path: Path) -> None:
    values = {
        "store": str(tmp_path / "labels"), "runs": str(tmp_path / "runs"), "model": str(corpus / "model"),
        "corpus": {"images": str(corpus / "images")}, "mine": {"precision": "int8"},
    }  # fmt: skip
    with pytest.raises(InputError, match="int8 is not for labelling jobs"):
        parse(LabelSettings, values)
