"""Detection of files that changed after they were written, and of files of other runs."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli.application import run_command
from flows.mine import mine
from mining.config import MineSettings
from mining.errors import DamagedFileError, InputError, RunError
from mining.evaluation import score_run
from mining.export import export
from mining.reporting.report_page import write_report
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.run import DIGESTED_FILES, Run
from mining.runs.shard_mining import mine_shard
from mining.runs.status import read_status
from mining.storage.embedded_digest import embedded_digest_matches
from mining.storage.integrity import digest_matches, with_digest
from mining.storage.parquet import parquet_writer
from tests.unit.engine.painting import CLASSES, crowd, list_painted, painted_model, write_corpus

TABLES = ("annotations.parquet", "corpus.parquet", "curves.parquet", "rankings.parquet", "quarantine.parquet")


def flip(path: Path, place: int, bit: int = 0) -> None:
    """Flip one bit; a negative offset counts from the end of the file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.unlink()  # the file may have other names
    path.write_bytes(data)


@pytest.fixture(scope="module", autouse=True)
def _colours_are_seen() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings for mining 15 images, one of them damaged, with a model that detects colours."""
    folder = tmp_path_factory.mktemp("corpus")
    given = write_corpus(folder, {**crowd(), "broken.png": b"no image"}, None)
    quick = {"scales": (1.0,), "shard_size": 4, "workers": 1, "refine": "none"}
    return {**given, "model": str(painted_model(folder / "model")), **quick}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, Any]) -> Path:
    """The finished run, which no test changes."""
    out = tmp_path_factory.mktemp("finished") / "run"
    mine(MineSettings(**corpus, out=out))
    return out


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, Any]) -> Path:
    """A run of other images with the same names, two of them damaged."""
    folder = tmp_path_factory.mktemp("other")
    given = images_with_other_colours(folder, broken=("00.png", "broken.png"))
    mine(MineSettings(**{**corpus, **given}, out=folder / "run"))
    return folder / "run"


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def truth(run: Path) -> Path:
    """The run's own boxes as ground truth."""
    path = run.parent / "truth.json"
    shutil.copyfile(run / "annotations.json", path)
    return path


def rows(run: Path) -> list[list[dict[str, Any]]]:
    return [pq.read_table(run / name).to_pylist() for name in TABLES]


def write_without_seal(path: Path) -> None:
    """Write a table as earlier versions did, without an embedded digest."""
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
        kept = {key: value for key, value in file.metadata.metadata.items() if key == b"boxmine.corpus"}
        with pq.ParquetWriter(path, file.schema_arrow) as writer:
            for group in groups:
                writer.write_table(group)
            writer.add_key_value_metadata(kept)


# --- embedded digests ------------------------------------------------------------------------------------------------


def test_flipping_any_bit_breaks_the_embedded_digest_or_leaves_the_same_rows(tmp_path: Path) -> None:
    table = pa.table({"number": list(range(30)), "name": [f"{n}.jpg" for n in range(30)]})
    path = tmp_path / "table.parquet"
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)
    whole = path.read_bytes()
    assert embedded_digest_matches(path) is True
    unsealed = 0
    for place in [*range(0, len(whole), 5), *range(len(whole) - 200, len(whole))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        holds = embedded_digest_matches(path)
        assert holds is not True, f"byte {place}"
        if holds is None:  # the flip is in the mark of the seal itself
            unsealed += 1
            assert pq.read_table(path).equals(table)
    assert unsealed <= len(b"?boxmine.seal??boxmine-sha256:")


def test_the_embedded_digest_is_found_before_metadata_of_any_size_and_content(tmp_path: Path) -> None:
    mark = b"\x0cboxmine.seal\x18\x4fboxmine-sha256:" + b"0" * 64
    names = pa.table({"name": [mark.decode(), "a.jpg"]})
    schema = names.schema.with_metadata({"images": json.dumps([mark.decode()] * 20_000)})
    with parquet_writer(tmp_path / "table.parquet", schema) as writer:
        writer.write_table(names.cast(schema))
    assert pq.read_table(tmp_path / "table.parquet")["name"].to_pylist() == [mark.decode(), "a.jpg"]
    assert embedded_digest_matches(tmp_path / "table.parquet") is True
    flip(tmp_path / "table.parquet", 40)
    assert embedded_digest_matches(tmp_path / "table.parquet") is False


def test_a_table_of_an_earlier_version_has_no_embedded_digest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"number": [1]}), tmp_path / "old.parquet")
    assert embedded_digest_matches(tmp_path / "old.parquet") is None


def test_a_record_with_a_digest_survives_writing_and_reading() -> None:
    record = with_digest({"threshold": 0.1 + 0.2, "per": {10: "a", 9: "b"}, "path": Path("x"), "pair": (1, 2)})
    read_back = json.loads(json.dumps(record, default=str))
    assert digest_matches(read_back)
    assert not digest_matches({**read_back, "threshold": 0.31})
    assert digest_matches({"threshold": 0.3})


# --- tables of a finished run ----------------------------------------------------------------------------------------


def test_the_record_lists_the_digest_of_every_table(run: Path) -> None:
    tables = set(DIGESTED_FILES) - {"model/int8.zip"}  # of runs in int8 only
    assert set(json.loads((run / "run.json").read_text())["digests"]) == tables


READERS: dict[str, Callable[[Path, Path], object]] = {
    "score": score_run,
    "report": lambda run, truth: write_report(run, truth),
    "export": lambda run, truth: export(run, "coco", run.parent / "exported"),
    "status": lambda run, truth: read_status(run),
}
READ_BY = {
    "annotations.parquet": ("score", "report", "export", "status"),
    "corpus.parquet": ("score", "report", "export", "status"),
    "curves.parquet": ("score", "status"),
    "rankings.parquet": ("score", "status"),
    "quarantine.parquet": ("report", "status"),
    "model/model.json": ("score", "report", "export", "status"),
    "annotations.json": ("status",),
}


@pytest.mark.parametrize("name", READ_BY)
@pytest.mark.parametrize("place", [40, -30])
def test_every_reader_names_a_damaged_file(run: Path, truth: Path, name: str, place: int) -> None:
    flip(run / name, place)
    for reader in READ_BY[name]:
        with pytest.raises(DamagedFileError, match=f"{name} is damaged: it is not the file that was written"):
            READERS[reader](run, truth)


@pytest.mark.parametrize("name", TABLES)
def test_an_intact_table_of_another_run_is_refused(run: Path, truth: Path, other: Path, name: str) -> None:
    shutil.copyfile(other / name, run / name)
    for reader in READ_BY[name]:
        with pytest.raises(DamagedFileError, match=name):
            READERS[reader](run, truth)


def test_a_damaged_table_ends_a_command_with_one_message(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(run / "annotations.parquet", 100)
    assert run_command(["export", str(run), "--format", "coco", "--out", str(run.parent / "exported")]) == 2
    said = capsys.readouterr().err
    assert "annotations.parquet is damaged" in said
    assert "Run the `boxmine mine` command of" in " ".join(said.split())


@pytest.mark.parametrize("name", [*(one for one in TABLES if one != "corpus.parquet"), "annotations.json"])
def test_the_same_command_rewrites_a_damaged_table(run: Path, corpus: dict[str, Any], name: str) -> None:
    before, file = rows(run), (run / name).read_bytes()
    flip(run / name, len(file) // 2)
    mine(MineSettings(**corpus, out=run))
    assert rows(run) == before
    assert (run / name).read_bytes() == file
    assert read_status(run).state == "finished"


def test_a_damaged_corpus_table_cannot_be_rewritten(run: Path, corpus: dict[str, Any]) -> None:
    flip(run / "corpus.parquet", 100)
    with pytest.raises(DamagedFileError, match=r"corpus\.parquet is damaged.* Restore it from a backup, or move .*run"):
        mine(MineSettings(**corpus, out=run))


def test_a_run_of_an_earlier_version_can_be_read(run: Path, truth: Path) -> None:
    """Its record lists no digests, and its tables have none embedded."""
    record = json.loads((run / "run.json").read_text())
    del record["digests"], record["part_origins"]
    (run / "run.json").write_text(json.dumps(record))
    for name in TABLES:
        write_without_seal(run / name)
    for read in READERS.values():
        read(run, truth)


def test_a_damaged_corpus_table_is_detected_while_mining(corpus: dict[str, Any], tmp_path: Path) -> None:
    settings = MineSettings(**corpus, out=tmp_path / "run")
    plan_mining(settings)
    flip(tmp_path / "run" / "corpus.parquet", 60)
    with pytest.raises(DamagedFileError, match=r"corpus\.parquet is damaged"):
        mine(settings)


# --- shard files -----------------------------------------------------------------------------------------------------


def half_mined(corpus: dict[str, Any], out: Path, **options: Any) -> Run:
    """A run whose shard files all exist, but are not merged."""
    settings = MineSettings(**{**corpus, **options}, out=out)
    for shard in plan_mining(settings).shards:
        mine_shard(Run(out), shard)
    return Run(out)


def images_with_other_colours(folder: Path, broken: Sequence[str] = ("broken.png",)) -> dict[str, Any]:
    pictures: dict[str, Any] = {name: picture[..., ::-1] for name, picture in crowd().items()}
    return write_corpus(folder, {**pictures, **dict.fromkeys(broken, b"no image")}, None)


def model_with_other_classes(folder: Path) -> Path:
    """A copy of the model with the same weights."""
    painted_model(folder)
    card = json.loads((folder / "model.json").read_text())
    card["classes"] = [{"id": one, "name": name} for name, one in zip(CLASSES, (5, 3, 7), strict=True)]
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def foreign_run(kind: str, corpus: dict[str, Any], folder: Path) -> Run:
    if kind == "another model":
        from mining.models.card import ModelCard, read_card
        from mining.models.checkpoint import build_localizer, save_model

        card = read_card(Path(corpus["model"]))
        localizer, _ = build_localizer(card)
        localizer.white.fill_(200)  # type: ignore[union-attr,operator]
        save_model(folder / "model", localizer, ModelCard(**{**card.__dict__, "weights_sha256": ""}))
        return half_mined(corpus, folder / "run", model=str(folder / "model"))
    if kind == "other classes":
        return half_mined(corpus, folder / "run", model=str(model_with_other_classes(folder / "model")))
    if kind == "other settings":
        return half_mined(corpus, folder / "run", threshold=0.9)
    if kind == "other images":
        return half_mined({**corpus, **images_with_other_colours(folder)}, folder / "run")
    return half_mined(corpus, folder / "run")  # the same run, of which another shard is taken


@pytest.mark.parametrize("kind", ["another model", "other classes", "other settings", "other images", "another shard"])
def test_a_shard_file_of_another_run_is_mined_again(
    corpus: dict[str, Any], tmp_path: Path, run: Path, kind: str
) -> None:
    foreign, spoilt = foreign_run(kind, corpus, tmp_path / "foreign"), half_mined(corpus, tmp_path / "spoilt")
    taken = 2 if kind == "another shard" else 1
    for its, own in zip(foreign.files_of(taken, curves=True), spoilt.files_of(1, curves=True), strict=True):
        shutil.copyfile(its, own)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"part-00001\.parquet is damaged"):
        finish_mining(spoilt)
    assert plan_mining(MineSettings(**corpus, out=spoilt.path)).shards == [1]
    mine(MineSettings(**corpus, out=spoilt.path))
    assert rows(spoilt.path) == rows(run)


def test_a_shard_with_curves_of_another_shard_is_mined_again(corpus: dict[str, Any], tmp_path: Path, run: Path) -> None:
    spoilt = half_mined(corpus, tmp_path / "spoilt")
    shutil.copyfile(spoilt.curve_part(2), spoilt.curve_part(1))
    assert plan_mining(MineSettings(**corpus, out=spoilt.path)).shards == [1]
    mine(MineSettings(**corpus, out=spoilt.path))
    assert rows(spoilt.path) == rows(run)


def test_a_moved_run_keeps_its_shard_files(corpus: dict[str, Any], tmp_path: Path) -> None:
    half_mined(corpus, tmp_path / "spoilt").path.rename(tmp_path / "moved")
    assert plan_mining(MineSettings(**corpus, out=tmp_path / "moved")).shards == []


# --- the model of a run ----------------------------------------------------------------------------------------------


def test_damaged_weights_stop_a_resumed_run(corpus: dict[str, Any], tmp_path: Path) -> None:
    settings = MineSettings(**corpus, out=tmp_path / "run")
    plan_mining(settings)
    flip(tmp_path / "run" / "model" / "weights.safetensors", -1)
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be used.* damaged"):
        mine(settings)


def test_a_report_with_damaged_weights_has_no_maps_and_says_why(run: Path) -> None:
    flip(run / "model" / "weights.safetensors", -1)
    assert "Activation maps are not shown" in write_report(run).read_text()
