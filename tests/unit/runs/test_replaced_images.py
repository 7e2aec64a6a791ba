"""Images that were replaced by others of the same size after the run."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mining.config import MineSettings, ScoreSettings
from mining.errors import RunError
from mining.evaluation.job import score
from mining.evaluation.run_comparison import compare_runs
from mining.export import export
from mining.label_store.reading import version_as_run
from mining.label_store.settings import VersionChoice
from mining.reporting.comparison_page import write_comparison
from mining.reporting.report_page import write_report
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.run import Run
from mining.runs.shard_files import part_outcomes
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import BOX, GREEN, RED, list_painted, painted_model, scene, write_corpus
from tests.unit.label_store.project import GATES_OFF, LabelProject

NAMES = ("a.png", "b.png")


@pytest.fixture(scope="module", autouse=True)
def _register_painted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        yield


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run on two valid images and a corrupt one, listed without hashes."""
    pictures = {"a.png": scene((BOX, RED)), "b.png": scene((BOX, GREEN)), "c.png": b"no image"}
    return mined(write_corpus(tmp_path, pictures, None), tmp_path)


def mined(corpus: dict[str, Any], folder: Path, name: str = "run", **options: Any) -> Run:
    settings = MineSettings(**corpus, model=str(painted_model(folder / "model")), out=folder / name, scales=(1.0,), refine="none",
                            workers=1, **options)  # fmt: skip
    for shard in plan_mining(settings).shards:
        mine_shard(Run(settings.out), shard)
    finish_mining(Run(settings.out))
    return Run(settings.out)


def replace(run: Run, name: str = "a.png") -> Path:
    """Overwrite an image with another of the same size."""
    path = run.settings.images / name
    Image.fromarray(scene(((0, 0, 30, 60), GREEN))).save(path)
    return path


def hashes(table: Path) -> dict[str, str | None]:
    rows = pq.read_table(table, columns=["file_name", "content_hash"]).to_pylist()
    return {row["file_name"]: row["content_hash"] for row in rows}


def test_a_run_records_the_hash_of_each_decoded_image(run: Run) -> None:
    expected: dict[str, str | None] = {
        name: hashlib.sha256((run.settings.images / name).read_bytes()).hexdigest() for name in NAMES
    }
    assert hashes(run.corpus) == {**expected, "c.png": None}
    outcomes = part_outcomes(run.part(0)) or []
    assert {one.file_name: one.content_hash for one in outcomes} == {**expected, "c.png": None}


@pytest.mark.parametrize("format", ["coco", "yolo", "voc"])
def test_an_export_rejects_an_image_that_changed_since_the_run(run: Run, format: str, tmp_path: Path) -> None:
    path = replace(run)
    with pytest.raises(RunError, match=rf"{path} changed since the run .* Restore the old file, or mine again\."):
        export(run.path, format, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_restored_image_is_exported(run: Run, tmp_path: Path) -> None:
    whole = (run.settings.images / "a.png").read_bytes()
    replace(run).write_bytes(whole)
    assert export(run.path, "coco", tmp_path / "exported").images == 2


def test_images_of_a_run_without_hashes_are_compared_by_size(run: Run, tmp_path: Path) -> None:
    """Earlier versions recorded no hashes."""
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**record, "digests": {}}))
    table = pq.read_table(run.corpus)
    place = table.schema.get_field_index("content_hash")
    nothing = pa.nulls(len(table), pa.string())
    pq.write_table(table.set_column(place, table.schema.field(place), nothing), run.corpus)
    replace(run)
    assert export(run.path, "coco", tmp_path / "exported").images == 2


def test_a_report_lists_a_replaced_image_instead_of_drawing_it(run: Run) -> None:
    before = write_report(run.path).read_text()
    path = replace(run)
    page = write_report(run.path).read_text()
    assert before.count("<figure") == page.count("<figure") + 1
    assert f"{path}: the file changed after it was listed" in page
    assert "1 picture could not be drawn" in page


def test_a_comparison_lists_a_replaced_image_instead_of_drawing_it(run: Run, tmp_path: Path) -> None:
    corpus = {"images": run.settings.images, "labels": run.settings.labels}
    other = mined(corpus, tmp_path, "other", threshold=0.9, max_area=0.2)
    path = replace(run)
    comparison = compare_runs(run.path, other.path)
    page = write_comparison(run.path, other.path, comparison, None, tmp_path / "page.html").read_text()
    assert f"{path}: the file changed after it was listed" in page


def test_maps_of_replaced_images_are_not_scored(run: Run, tmp_path: Path) -> None:
    shutil.copyfile(run.coco, tmp_path / "truth.json")
    settings = ScoreSettings(run=run.path, truth=tmp_path / "truth.json", maps=True)
    assert score(settings)["maps"]["pairs_without_map"] == 0
    replace(run)
    scores = score(settings)
    assert scores["maps"]["pairs_without_map"] == 1
    assert "Maps of 1 of the images were not drawn: the files changed or vanished since the run." in scores["notes"]


def test_exporting_a_label_store_version_rejects_a_replaced_image(tmp_path: Path) -> None:
    project = LabelProject(tmp_path)
    for name in NAMES:
        project.add_image(name, scene((BOX, RED)))
    project.run_job(gates=GATES_OFF)
    project.add_image("a.png", scene(((0, 0, 30, 60), GREEN)))
    with (
        version_as_run(str(project.store), VersionChoice()) as run,
        pytest.raises(RunError, match=r"a\.png changed since"),
    ):
        export(run, "coco", tmp_path / "exported")


def test_the_error_names_a_deleted_image(run: Run, tmp_path: Path) -> None:
    (run.settings.images / "a.png").unlink()
    with pytest.raises(RunError, match=r"a\.png is missing; it was there during the run"):
        export(run.path, "coco", tmp_path / "exported")
