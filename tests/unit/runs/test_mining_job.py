"""A mining run from planning to scoring, interrupted and resumed at every stage."""

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mining.config import MineSettings, ScoreSettings
from mining.errors import CorpusError, ModelError, RunError
from mining.evaluation.job import score
from mining.models.card import read_card
from mining.runs import inputs
from mining.runs.mining_job import finish_mining, lock_run, plan_mining
from mining.runs.run import Run
from mining.runs.schema import ANNOTATION_SCHEMA
from mining.runs.shard_mining import mine_shard
from mining.runs.status import read_status
from mining.runs.summaries import MinePlan, MineSummary
from mining.storage.ownership import temporary_path
from tests.factories import register_tiny_backbone, write_model, write_photos

NAMES = ("a.jpg", "b.jpg", "broken.jpg", "c/d.jpg", "e.jpg")
LABELS = {"a.jpg": "cat", "b.jpg": "dog|cat", "broken.jpg": "dog", "c/d.jpg": "", "e.jpg": "dog"}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register_tiny_backbone(monkeypatch)
    return model_of(tmp_path / "model", "cat", "dog")


def model_of(folder: Path, *classes: str) -> Path:
    return write_model(folder, classes, backbone="tiny")


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> MineSettings:
    """Three shards: two images; one image and a corrupt one; one image."""
    images = tmp_path / "images"
    (images / "c").mkdir(parents=True)
    write_photos(images, NAMES)
    (images / "broken.jpg").write_bytes(b"no image at all")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "labels"), *LABELS.items()])
    return MineSettings(
        images=images, labels=tmp_path / "labels.csv", model=str(model), out=tmp_path / "run", scales=(1.0,),
        normalise="minmax", threshold=0.4, device="cpu", shard_size=2, refine="none",
    )  # fmt: skip


def changed(settings: MineSettings, **values: Any) -> MineSettings:
    return settings.model_copy(update=values)


def mine_and_finish(settings: MineSettings, shards: Sequence[int] = (0, 1, 2)) -> MineSummary:
    plan_mining(settings)
    for shard in shards:
        mine_shard(Run(settings.out), shard)
    return finish_mining(Run(settings.out), 1.25)


def record(settings: MineSettings) -> dict[str, Any]:
    return json.loads((settings.out / "run.json").read_text())


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- a new run -------------------------------------------------------------------------------------------------------


def test_a_new_run_has_a_record_a_model_and_a_corpus(settings: MineSettings, model: Path) -> None:
    plan = plan_mining(settings)
    assert plan == MinePlan(Run(settings.out), images=5, done_images=0, shards=[0, 1, 2], finished=False)
    assert read_card(settings.out / "model") == read_card(model)
    assert [row["file_name"] for row in rows(settings.out / "corpus.parquet")] == sorted(NAMES)
    assert {row["state"] for row in rows(settings.out / "corpus.parquet")} == {"pending"}
    kept = record(settings)
    assert (kept["state"], kept["name"]) == ("running", "run")
    assert kept["inputs"]["model_sha256"] == read_card(model).weights_sha256
    assert Run(settings.out).settings == settings


def test_a_run_can_start_in_an_empty_folder_or_next_to_its_model(settings: MineSettings, model: Path) -> None:
    settings.out.mkdir()
    assert plan_mining(settings).shards == [0, 1, 2]
    own = changed(settings, out=settings.out.parent / "own", model=str(settings.out.parent / "own" / "model"))
    model_of(own.out / "model", "cat", "dog")
    assert plan_mining(own).shards == [0, 1, 2]


def test_the_counts_of_a_finished_run_match_its_tables(settings: MineSettings) -> None:
    summary = mine_and_finish(settings)
    boxes = rows(settings.out / "annotations.parquet")
    corpus = rows(settings.out / "corpus.parquet")
    states = [row["state"] for row in corpus]
    assert (summary.images, summary.boxes, summary.classes) == (5, len(boxes), 2)
    assert summary.states == {state: states.count(state) for state in set(states)}
    assert dict(zip(sorted(NAMES), states, strict=True)) == {
        "a.jpg": "labelled", "b.jpg": "labelled", "broken.jpg": "quarantined", "c/d.jpg": "no_class",
        "e.jpg": "labelled",
    }  # fmt: skip
    assert summary.quarantined == 1
    assert summary.seconds == 1.25
    kept = record(settings)
    assert kept["state"] == "finished"
    assert kept["counts"] == {"images": 5, "boxes": len(boxes), "classes": 2, "states": summary.states}


def test_the_tables_of_a_finished_run_are_consistent(settings: MineSettings) -> None:
    mine_and_finish(settings)
    boxes, corpus = rows(settings.out / "annotations.parquet"), rows(settings.out / "corpus.parquet")
    assert [box["annotation_id"] for box in boxes] == list(range(1, len(boxes) + 1))
    assert pq.read_schema(settings.out / "annotations.parquet").names == ANNOTATION_SCHEMA.names
    assert {box["file_name"] for box in boxes} == {r["file_name"] for r in corpus if r["state"] == "labelled"}
    assert {(b["file_name"], b["category"]) for b in boxes} == {("a.jpg", "cat"), ("b.jpg", "cat"), ("b.jpg", "dog"), ("e.jpg", "dog")}  # fmt: skip
    assert [(r["width"], r["height"]) for r in corpus if r["state"] != "quarantined"] == [(128, 96)] * 4
    (reason,) = rows(settings.out / "quarantine.parquet")
    assert (reason["image_id"], reason["file_name"]) == (3, "broken.jpg")
    assert "not an image in a supported format" in reason["reason"]
    coco = json.loads((settings.out / "annotations.json").read_text())
    assert [one["id"] for one in coco["images"]] == [1, 2, 4, 5], "the size of the corrupt image is unknown"
    assert [one["id"] for one in coco["annotations"]] == [box["annotation_id"] for box in boxes]
    assert [one["name"] for one in coco["categories"]] == ["cat", "dog"]


def test_the_summary_of_a_finished_run_has_notes_and_quarantine_reasons(settings: MineSettings) -> None:
    (settings.images / "b.jpg").unlink()
    (settings.images / "stranger.jpg").write_bytes(b"")
    summary = mine_and_finish(settings)
    assert any("1 image" in note for note in summary.notes)
    assert ["broken.jpg" in reason or "b.jpg" in reason for reason in summary.reasons] == [True, True]


# --- resuming --------------------------------------------------------------------------------------------------------


def test_the_same_command_resumes_with_the_remaining_shards(settings: MineSettings) -> None:
    plan_mining(settings)
    mine_shard(Run(settings.out), 1)
    before = contents(settings.out / "model") | contents(settings.out / "parts")
    assert plan_mining(settings) == MinePlan(Run(settings.out), images=5, done_images=2, shards=[0, 2], finished=False)
    assert contents(settings.out / "model") | contents(settings.out / "parts") == before
    assert len(record(settings)["resumed"]) == 1


def test_a_resumed_run_has_the_same_rows_as_an_uninterrupted_one(settings: MineSettings) -> None:
    undisturbed = changed(settings, out=settings.out.parent / "undisturbed")
    mine_and_finish(undisturbed)
    plan_mining(settings)
    mine_shard(Run(settings.out), 2)
    mine_and_finish(settings, plan_mining(settings).shards)
    for name in ("annotations.parquet", "corpus.parquet", "quarantine.parquet"):
        assert rows(settings.out / name) == rows(undisturbed.out / name)


def test_a_damaged_part_is_planned_again(settings: MineSettings) -> None:
    plan_mining(settings)
    for shard in range(3):
        mine_shard(Run(settings.out), shard)
    part = Run(settings.out).part(1)
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(RunError, match=r"part-00001\.parquet is damaged\. Run the same command again"):
        finish_mining(Run(settings.out))
    plan = plan_mining(settings)
    assert (plan.shards, plan.done_images) == ([1], 3)


def test_only_temporary_files_of_the_run_itself_are_deleted(settings: MineSettings) -> None:
    plan_mining(settings)
    left = temporary_path(settings.out / "parts" / "part-00000.parquet")
    foreign = [settings.out / name for name in (".tmp-1-a", "parts/.tmp-123-part-00000.parquet", "notes/.tmp-b")]
    for path in (left, *foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    mine_and_finish(settings, plan_mining(settings).shards)
    assert not left.exists()
    assert all(path.read_bytes() == b"half" for path in foreign)


def test_a_run_killed_during_the_corpus_scan_scans_again(settings: MineSettings) -> None:
    plan_mining(settings)
    (settings.out / "corpus.parquet").unlink()
    assert plan_mining(settings).shards == [0, 1, 2]


def test_a_run_killed_before_the_class_check_repeats_it(
    settings: MineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.labels.write_text("file_name,labels\na.jpg,horse\n")

    def killed(*_: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(inputs, "unknown_classes", killed)
        with pytest.raises(KeyboardInterrupt):
            plan_mining(settings)
    with pytest.raises(ModelError, match="does not know the class 'horse'"):
        plan_mining(settings)


@pytest.mark.parametrize("gone", ["annotations.parquet", "annotations.json", "quarantine.parquet"])
def test_a_run_killed_during_finishing_is_finished_again(settings: MineSettings, gone: str) -> None:
    """The corpus table already has its final states, but run.json still says running."""
    first = mine_and_finish(settings)
    before = {name: rows(settings.out / name) for name in ("annotations.parquet", "corpus.parquet")}
    (settings.out / gone).unlink()
    Run(settings.out).update(state="running", counts={})
    assert plan_mining(settings).shards == []
    assert finish_mining(Run(settings.out), 1.25) == first
    assert {name: rows(settings.out / name) for name in before} == before
    assert (settings.out / gone).exists()


def test_a_finished_run_has_no_remaining_shards_and_is_not_modified(settings: MineSettings) -> None:
    summary = mine_and_finish(settings)
    before = contents(settings.out)
    assert plan_mining(settings) == MinePlan(Run(settings.out), images=5, done_images=5, shards=[], finished=True)
    assert finish_mining(Run(settings.out)) == summary
    assert contents(settings.out) == before


@pytest.mark.parametrize("values", [{"workers": 1}, {"device": "auto"}, {"retries": 9}])
def test_settings_that_do_not_affect_boxes_can_change_on_resume(settings: MineSettings, values: dict[str, Any]) -> None:
    plan_mining(settings)
    mine_shard(Run(settings.out), 0)
    assert plan_mining(changed(settings, **values)).shards == [1, 2]


def test_a_run_folder_can_be_moved(settings: MineSettings) -> None:
    plan_mining(settings)
    mine_shard(Run(settings.out), 0)
    moved = changed(settings, out=settings.out.parent / "moved")
    settings.out.rename(moved.out)
    assert mine_and_finish(moved, plan_mining(moved).shards).images == 5


def test_a_run_recorded_without_a_newer_setting_can_be_resumed(settings: MineSettings) -> None:
    plan_mining(settings)
    path = settings.out / "run.json"
    record = json.loads(path.read_text())
    del record["config"]["class_thresholds"], record["config"]["thresholds_from"]
    path.write_text(json.dumps(record))
    assert mine_and_finish(settings).images == 5


# --- rejected commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"threshold": 0.3}, "its threshold is 0.4, this command's is 0.3"),
        ({"scales": (1.0, 2.0)}, r"its scales is \[1.0\], this command's is \[1.0, 2.0\]"),
        ({"shard_size": 3}, "its shard_size is 2, this command's is 3"),
        ({"labels": None}, "its labels is .*labels.csv', this command's is not set"),
        ({"min_score": 0.5}, "its min_score is 0.0"),
        ({"class_thresholds": {"cat": 0.3}}, "its class_thresholds is {}, this command's is {'cat': 0.3}"),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
def test_a_run_with_different_settings_is_rejected_naming_the_difference(
    settings: MineSettings, values: dict[str, Any], expected: str, ended: bool
) -> None:
    mine_and_finish(settings) if ended else plan_mining(settings)
    before = contents(settings.out)
    with pytest.raises(RunError, match=rf"belongs to another run: {expected}.*Give another --out\."):
        plan_mining(changed(settings, **values))
    assert contents(settings.out) == before


def test_the_same_relative_path_in_another_folder_is_a_different_run(
    settings: MineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_from(folder: Path) -> None:
        monkeypatch.chdir(folder)
        plan_mining(MineSettings(**{**settings.model_dump(), "images": Path(settings.images.name)}))

    (tmp_path / "elsewhere").mkdir()
    plan_from(settings.images.parent)
    plan_mining(settings)
    with pytest.raises(RunError, match="belongs to another run: its images is"):
        plan_from(tmp_path / "elsewhere")


def test_a_run_whose_model_was_replaced_is_rejected(settings: MineSettings, tmp_path: Path) -> None:
    own = changed(settings, model=str(model_of(tmp_path / "own", "cat", "dog")))
    plan_mining(own)
    model_of(tmp_path / "own", "cat", "dog", "emu")
    with pytest.raises(RunError, match="belongs to another run: its model_sha256 is"):
        plan_mining(own)


def test_a_run_whose_label_file_changed_is_rejected(settings: MineSettings) -> None:
    plan_mining(settings)
    settings.labels.write_text(settings.labels.read_text().replace("a.jpg,cat", "a.jpg,dog"))
    with pytest.raises(RunError, match="belongs to another run: its labels_sha256 is"):
        plan_mining(settings)


def test_a_folder_with_unrelated_files_is_rejected_naming_one_of_them(settings: MineSettings) -> None:
    settings.out.mkdir()
    (settings.out / "thesis.tex").write_text("ten years of work")
    with pytest.raises(RunError, match=r"holds other things \(e\.g\. 'thesis\.tex'\)"):
        plan_mining(settings)
    assert [path.name for path in settings.out.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("asked", ["pretrained:efficientnet_lite0", "another", "a copy"])
def test_a_folder_with_a_different_model_is_rejected_and_not_modified(
    settings: MineSettings, tmp_path: Path, asked: str
) -> None:
    trained = model_of(settings.out / "model", "cat", "dog")
    before = contents(settings.out)
    if asked == "another":
        asked = str(model_of(tmp_path / "other", "cat", "dog", "emu"))
    elif asked == "a copy":
        asked = str(shutil.copytree(trained, tmp_path / "copy"))
    with pytest.raises(RunError, match=r"holds other things \(e\.g\. 'model'\)"):
        plan_mining(changed(settings, model=asked))
    assert contents(settings.out) == before


def test_a_failed_start_keeps_a_model_that_was_already_in_the_folder(settings: MineSettings) -> None:
    own = changed(settings, model=str(model_of(settings.out / "model", "cat", "emu")))
    before = contents(settings.out)
    with pytest.raises(ModelError, match="does not know the class 'dog'"):
        plan_mining(own)
    assert contents(settings.out) == before


def test_a_failed_start_after_a_kill_removes_its_model_copy_but_no_foreign_files(
    settings: MineSettings,
) -> None:
    plan_mining(settings)
    (settings.out / "corpus.parquet").unlink()
    (settings.out / "model" / "notes.txt").write_text("somebody's")
    (settings.out / ".tmp-mine").write_text("somebody's")
    settings.images.rename(settings.images.with_name("moved"))
    with pytest.raises(CorpusError):
        plan_mining(settings)
    assert set(contents(settings.out)) == {"model/notes.txt", ".tmp-mine"}


def test_a_failed_start_keeps_a_folder_that_already_existed(settings: MineSettings) -> None:
    settings.out.mkdir()
    with pytest.raises(ModelError), lock_run(settings.out):
        plan_mining(changed(settings, model="nowhere"))
    assert settings.out.is_dir()


def test_a_file_in_place_of_the_run_folder_is_rejected(settings: MineSettings) -> None:
    settings.out.write_text("")
    with pytest.raises(RunError, match=r"--out .*run is a file; give a folder"):
        plan_mining(settings)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other/1"}', "{}"])
def test_a_folder_with_an_unreadable_record_is_rejected(settings: MineSettings, content: str) -> None:
    settings.out.mkdir()
    (settings.out / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json cannot be read as a run's record"):
        plan_mining(settings)
    assert (settings.out / "run.json").read_text() == content


def test_an_unknown_class_is_rejected_with_a_suggestion(settings: MineSettings) -> None:
    settings.labels.write_text("file_name,labels\na.jpg,cats\n")
    with pytest.raises(ModelError, match=r"does not know the class 'cats' .*did you mean 'cat'\?.*--labels none"):
        plan_mining(settings)
    assert not (settings.out / "run.json").exists()
    assert plan_mining(changed(settings, labels=Path("none"))).images == 5


def test_a_missing_model_is_rejected_and_the_folder_can_still_be_used(settings: MineSettings) -> None:
    with pytest.raises(ModelError, match="No model folder"):
        plan_mining(changed(settings, model="nowhere"))
    with pytest.raises(ModelError, match="did you mean 'efficientnet_lite0'"):
        plan_mining(changed(settings, model="pretrained:efficientnet-lite0"))
    assert plan_mining(settings).shards == [0, 1, 2]


def test_the_model_of_a_failed_start_is_not_reused(settings: MineSettings) -> None:
    for backbone in ("efficientnet_lite1", "efficientnet_lite0"):
        with pytest.raises(ModelError, match="does not know the class 'cat'"):
            plan_mining(changed(settings, model=f"pretrained:{backbone}"))
    plan_mining(changed(settings, model="pretrained:efficientnet_lite0", labels=Path("none")))
    assert read_card(settings.out / "model").backbone == "efficientnet_lite0"


def test_folder_names_that_match_no_class_are_not_labels(settings: MineSettings, tmp_path: Path) -> None:
    for album in ("2023", "2024"):
        write_photos(tmp_path / "albums" / album, ("a.jpg",))
    plan_mining(changed(settings, images=tmp_path / "albums", labels=None))
    assert [row["labels"] for row in rows(settings.out / "corpus.parquet")] == [None, None]


def test_folder_names_are_labels_if_any_matches_a_class(settings: MineSettings, tmp_path: Path) -> None:
    for label in ("cat", "dgo"):
        write_photos(tmp_path / "classes" / label, ("a.jpg",))
    with pytest.raises(ModelError, match=r"does not know the class 'dgo' .*did you mean 'dog'"):
        plan_mining(changed(settings, images=tmp_path / "classes", labels=None))


def test_a_folder_without_images_is_rejected(settings: MineSettings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty"):
        plan_mining(changed(settings, images=tmp_path / "empty", labels=None))
    assert not (settings.out / "run.json").exists()


def test_a_run_with_a_missing_part_cannot_be_finished(settings: MineSettings) -> None:
    plan_mining(settings)
    mine_shard(Run(settings.out), 0)
    mine_shard(Run(settings.out), 2)
    with pytest.raises(RunError, match=r"part-00001\.parquet is missing; run the `boxmine mine` command"):
        finish_mining(Run(settings.out))
    assert record(settings)["state"] == "running"
    assert not (settings.out / "annotations.parquet").exists()


# --- status ----------------------------------------------------------------------------------------------------------


def progress(run: Path) -> tuple[str, int, int, int]:
    """Return state, images, images done and shards done."""
    found = read_status(run)
    return found.state, found.images, found.done, found.shards_done


def test_the_status_shows_the_progress_of_a_run(settings: MineSettings) -> None:
    with lock_run(settings.out):
        plan_mining(settings)
        assert progress(settings.out) == ("running", 5, 0, 0)
        mine_shard(Run(settings.out), 0)
        assert progress(settings.out) == ("running", 5, 2, 1)
        mine_shard(Run(settings.out), 2)
        assert progress(settings.out) == ("running", 5, 3, 2)
        mine_shard(Run(settings.out), 1)
        assert progress(settings.out) == ("running", 5, 5, 3)
        finish_mining(Run(settings.out))
        assert progress(settings.out) == ("finished", 5, 5, 3)


def test_an_unfinished_run_without_a_process_has_the_state_killed(settings: MineSettings) -> None:
    plan_mining(settings)
    assert progress(settings.out) == ("killed", 5, 0, 0)


def test_the_rate_is_computed_from_the_latest_parts(settings: MineSettings) -> None:
    with lock_run(settings.out):
        run = Run(settings.out)
        for shard in plan_mining(settings).shards:
            mine_shard(Run(settings.out), shard)
            os.utime(run.part(shard), (1000 + 10 * shard, 1000 + 10 * shard))
        assert read_status(settings.out).rate == pytest.approx(3 / 20), "3 images in the 20 s after the first part"
        run.part(2).unlink()
        found = read_status(settings.out)
        assert (found.rate, found.seconds_left) == (pytest.approx(2 / 10), pytest.approx(5))
        os.utime(run.part(1), (900, 900))  # as if the clock was set back to before the first part
        os.utime(run.part(0), (900, 900))
        assert read_status(settings.out).rate is None
    assert read_status(settings.out).rate is None, "no process is working on it"


def test_reading_the_status_modifies_no_file(settings: MineSettings) -> None:
    plan_mining(settings)
    mine_shard(Run(settings.out), 0)
    before = contents(settings.out)
    read_status(settings.out)
    assert contents(settings.out) == before


def test_a_run_without_a_corpus_table_has_a_status(settings: MineSettings) -> None:
    plan_mining(settings)
    (settings.out / "corpus.parquet").unlink()
    assert progress(settings.out) == ("killed", 0, 0, 0)


def test_the_status_of_a_folder_that_is_not_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run directory: it has no run\.json"):
        read_status(tmp_path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_is_recorded_as_stopped_and_can_be_resumed(
    settings: MineSettings, stop: type[BaseException]
) -> None:
    with pytest.raises(stop), lock_run(settings.out):
        plan_mining(settings)
        mine_shard(Run(settings.out), 0)
        raise stop
    assert progress(settings.out) == ("stopped", 5, 2, 1)
    assert read_status(settings.out).failed == ("RuntimeError" if stop is RuntimeError else None)
    with lock_run(settings.out):
        mine_and_finish(settings, plan_mining(settings).shards)
    assert read_status(settings.out).state == "finished"


def test_an_error_after_finishing_leaves_the_run_finished(settings: MineSettings) -> None:
    mine_and_finish(settings)
    with pytest.raises(RuntimeError), lock_run(settings.out):
        raise RuntimeError
    assert read_status(settings.out).state == "finished"


def test_two_processes_cannot_work_on_one_run(settings: MineSettings) -> None:
    with lock_run(settings.out):
        plan_mining(settings)
        with pytest.raises(RunError, match="Another process is working on"), lock_run(settings.out):
            raise AssertionError("the lock was granted twice")
    with lock_run(settings.out):
        assert read_status(settings.out).state == "running", "the rejected process did not change the state"


# --- scores ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def truth(settings: MineSettings) -> Path:
    """Ground truth: the rectangle that `write_photos` paints, once per label of each image."""
    categories = {"cat": 1, "dog": 2}
    pairs = [(i, label) for i, name in enumerate(NAMES, 1) for label in LABELS[name].split("|") if label]
    content = {
        "images": [{"id": i, "file_name": name, "width": 128, "height": 96} for i, name in enumerate(NAMES, 1)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": categories[label], "bbox": [32, 19, 57, 53], "area": 3021, "iscrowd": 0}
            for n, (i, label) in enumerate(pairs, 1)
        ],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }  # fmt: skip
    (settings.out.parent / "truth.json").write_text(json.dumps(content))
    return settings.out.parent / "truth.json"


def test_a_finished_run_is_scored_and_keeps_its_scores(settings: MineSettings, truth: Path) -> None:
    mine_and_finish(settings)
    scores = score(ScoreSettings(run=settings.out, truth=truth))
    assert 0 <= scores["corloc"]["value"] <= 1
    assert json.loads((settings.out / "scores.json").read_text()) == scores


@pytest.mark.parametrize("shards", [[], [0, 1, 2]])
def test_an_unfinished_run_is_not_scored(settings: MineSettings, truth: Path, shards: list[int]) -> None:
    plan_mining(settings)
    for shard in shards:
        mine_shard(Run(settings.out), shard)
    with pytest.raises(
        RunError, match=r"is not finished .*Run its `boxmine mine` or `boxmine run` command again to resume it"
    ):
        score(ScoreSettings(run=settings.out, truth=truth))
    assert not (settings.out / "scores.json").exists()


def test_a_folder_that_is_not_a_run_is_not_scored(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        score(ScoreSettings(run=tmp_path, truth=tmp_path / "truth.json"))
