"""Verdicts that come back as corrected boxes, in a new run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

import boxmine
from flows.cli.application import run_command
from mining.config.audit import AuditPlanSettings
from mining.errors import InputError
from mining.quality.corrected_run import ApplySummary, apply_verdicts
from mining.quality.correctness import judge_by_truth
from mining.quality.planning import plan_audit
from mining.quality.recording import record_verdicts
from mining.runs.run import Run
from mining.storage.integrity import check_file
from tests.unit.quality.plan_files import Row, read_rows, write_rows
from tests.unit.quality.small_run import SmallRun

Fill = Callable[[Row], list[Row]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three images: a cat; a cat and a dog; nothing."""
    small = SmallRun(tmp_path / "run")
    small.boxes = [
        ("a.jpg", "cat", (10, 10, 20, 20), {"score": 0.9}),
        ("b.jpg", "cat", (10, 10, 20, 20), {"score": 0.8}),
        ("b.jpg", "dog", (50, 50, 20, 20), {"score": 0.7}),
    ]
    small.states = {"c.jpg": "no_region"}
    return small.write().path


def record(run: Path, fill: Fill, reviewer: str = "Ada") -> None:
    """Fill in a plan of all images, which is drawn at the first call."""
    plan = run.parent / "plan.csv"
    if not plan.exists():
        plan_audit(AuditPlanSettings(run=run, out=plan, recall=True, images=3))
    filled = write_rows(run.parent / "filled.csv", [one for row in read_rows(plan) for one in fill(row)])
    record_verdicts(run, filled, reviewer)


def all_correct(row: Row) -> list[Row]:
    return [{**row, "verdict": "correct" if row["annotation_id"] else "complete"}]


def changed(box: int, **values: str) -> Fill:
    """All is correct but one box."""
    return lambda row: [{**row, **values}] if row["annotation_id"] == str(box) else all_correct(row)


def boxes_of(summary: ApplySummary) -> list[tuple[int, str, str, tuple[float, ...], str]]:
    rows = Run.open(summary.out, finished=True).read_annotations().to_pylist()
    return [
        (row["annotation_id"], row["file_name"], row["category"], tuple(row[side] for side in "xywh"), row["source"])
        for row in rows
    ]


CAT_A = (1, "a.jpg", "cat", (10, 10, 20, 20), "label")
CAT_B = (2, "b.jpg", "cat", (10, 10, 20, 20), "label")
DOG_B = (3, "b.jpg", "dog", (50, 50, 20, 20), "label")


def test_rejected_boxes_are_left_out(run: Path) -> None:
    record(run, changed(3, verdict="nothing"))
    summary = apply_verdicts(run)
    assert summary.out == run.parent / "run-corrected"
    assert boxes_of(summary) == [CAT_A, CAT_B]
    assert (summary.confirmed, summary.rejected, summary.corrected, summary.added) == (2, 1, 0, 0)


def test_a_corrected_box_keeps_its_id_and_is_of_a_human(run: Path) -> None:
    record(run, changed(2, verdict="correct", x="12", y="8", w="24", h="20"))
    summary = apply_verdicts(run)
    assert boxes_of(summary) == [CAT_A, (2, "b.jpg", "cat", (12, 8, 24, 20), "human"), DOG_B]
    row = Run(summary.out).read_annotations().to_pylist()[1]
    assert (row["score"], row["localizer"], row["area"], row["scales"]) == (1, "human", 480, [])
    assert np.isnan(row["peak"])
    assert row["cut_agreement"] is None


def test_a_wrong_box_that_was_moved_or_renamed_is_replaced(run: Path) -> None:
    def fill(row: Row) -> list[Row]:
        if row["annotation_id"] == "2":
            return [{**row, "verdict": "too_small", "x": "5", "y": "5", "w": "60", "h": "60"}]
        if row["annotation_id"] == "3":
            return [{**row, "verdict": "wrong_class", "category": "cow"}]
        return all_correct(row)

    record(run, fill)
    summary = apply_verdicts(run)
    assert boxes_of(summary)[1:] == [
        (2, "b.jpg", "cat", (5, 5, 60, 60), "human"),
        (3, "b.jpg", "cow", (50, 50, 20, 20), "human"),
    ]
    assert summary.corrected == 2


def test_a_wrong_box_that_was_moved_onto_another_box_is_left_out(run: Path) -> None:
    record(run, changed(3, verdict="wrong_class", category="cat", x="11", y="11", w="20", h="20"))
    summary = apply_verdicts(run)
    assert boxes_of(summary) == [CAT_A, CAT_B]
    assert summary.rejected == 1


def test_missed_objects_are_added_once_and_clipped_to_the_image(run: Path) -> None:
    def fill(row: Row) -> list[Row]:
        missed = {**row, "verdict": "missed", "category": "cow", "x": "80", "y": "-5", "w": "40", "h": "25"}
        return [*all_correct(row), missed] if row["file_name"] == "c.jpg" else all_correct(row)

    for reviewer in ("Ada", "Bob"):
        record(run, fill, reviewer)
    summary = apply_verdicts(run)
    assert boxes_of(summary)[-1] == (4, "c.jpg", "cow", (80, 0, 20, 20), "human")
    assert summary.added == 1
    corpus = Run(summary.out).read_corpus().to_pylist()
    assert [row["state"] for row in corpus] == ["labelled"] * 3
    assert [row["labels"] for row in corpus] == [["cat"], ["cat", "dog"], ["cow"]]


def test_an_image_without_any_object_is_known_to_be_empty(run: Path) -> None:
    record(run, changed(1, verdict="nothing"))
    summary = apply_verdicts(run)
    corpus = Run(summary.out).read_corpus().to_pylist()
    assert [row["state"] for row in corpus] == ["no_box", "labelled", "no_region"]
    assert [row["labels"] for row in corpus] == [[], ["cat", "dog"], []]


def test_the_majority_decides_and_without_one_the_box_stays(run: Path) -> None:
    record(run, changed(3, verdict="nothing"))
    record(run, all_correct, "Bob")
    record(run, changed(1, verdict="nothing"), "Cy")
    record(run, changed(1, verdict="nothing"), "Di")
    summary = apply_verdicts(run)
    assert boxes_of(summary) == [CAT_A, CAT_B, DOG_B]  # box 1: two against two, box 3: three for it
    assert (summary.confirmed, summary.known_images) == (2, 2)  # of a.jpg it is not known what is right


def test_an_object_without_a_box_is_named_and_its_image_is_no_ground_truth(run: Path) -> None:
    def fill(row: Row) -> list[Row]:
        missed = {**row, "verdict": "missed", "category": "cow"}
        return (
            [*all_correct(row), missed]
            if row["file_name"] == "c.jpg" and not row["annotation_id"]
            else all_correct(row)
        )

    record(run, fill)
    summary = apply_verdicts(run)
    assert summary.notes == ["Images with a missed object whose box is not known: 1; the object could not be added."]
    assert (summary.added, summary.known_images) == (0, 2)


def test_whole_images_are_ground_truth_for_other_runs(run: Path) -> None:
    def fill(row: Row) -> list[Row]:
        if row["annotation_id"] == "3":
            return [{**row, "verdict": "too_large", "x": "50", "y": "50", "w": "10", "h": "10"}]
        return all_correct(row)

    record(run, fill)
    out = apply_verdicts(run).out
    truth = COCO(out / "truth.json")
    assert [one["bbox"] for one in truth.dataset["annotations"]] == [
        [10, 10, 20, 20],
        [10, 10, 20, 20],
        [50, 50, 10, 10],
    ]
    assert len(truth.dataset["images"]) == 3
    found = judge_by_truth(Run(run), out)
    assert found.is_correct.tolist() == [1, 1, 0]
    assert found.iou[2] == pytest.approx(0.25)
    assert boxmine.score(run, truth=out).corloc == pytest.approx(2 / 3)


def test_a_run_without_corrections_is_no_ground_truth(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["score", str(run), "--truth", str(run)]) == 2
    assert "give the directory that `boxmine audit apply` made" in capsys.readouterr().err


def test_the_new_run_is_a_run_like_any_other(run: Path) -> None:
    record(run, changed(2, verdict="correct", x="12", y="8", w="24", h="20"))
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    summary = apply_verdicts(run, run.parent / "second")
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    new = Run.open(summary.out, finished=True)
    for name in ("annotations.parquet", "corpus.parquet", "annotations.json"):
        check_file(new.path / name)
    assert new.record["corrected"]["corrected"] == 1
    assert new.record["counts"]["boxes"] == 3
    assert [one["id"] for one in json.loads(new.coco.read_text())["annotations"]] == [1, 2, 3]
    assert [one["source"] for one in json.loads(new.coco.read_text())["annotations"]] == ["label", "human", "label"]
    (run.parent / "plan.csv").unlink()
    record(new.path, changed(1, verdict="nothing"))
    assert len(boxes_of(apply_verdicts(new.path))) == 2


def test_verdicts_on_an_image_that_changed_are_not_applied(run: Path, tmp_path: Path) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    record_file = run / "run.json"
    values = json.loads(record_file.read_text())
    record_file.write_text(json.dumps({**values, "config": {"images": str(images), "model": "m", "out": "o"}}))
    record(run, lambda row: [{**row, "verdict": "nothing" if row["annotation_id"] else "complete"}])
    (images / "a.jpg").write_bytes(b"another file than was mined")
    summary = apply_verdicts(run)
    assert (summary.rejected, summary.changed) == (2, 2)  # a box and the image itself
    assert [row[1] for row in boxes_of(summary)] == ["a.jpg"]


def test_nothing_to_apply_and_an_occupied_folder_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match=r"No verdict in .* changes a box"):
        apply_verdicts(run)
    record(run, all_correct)
    (run.parent / "run-corrected").mkdir()
    (run.parent / "run-corrected" / "mine.txt").touch()
    with pytest.raises(InputError, match="is not an empty folder"):
        apply_verdicts(run)
    assert (run.parent / "run-corrected" / "mine.txt").exists()


def test_the_command_says_what_became_of_the_boxes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(run, changed(3, verdict="nothing"))
    out = run.parent / "second"
    assert run_command(["audit", "apply", str(run), "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert f"1 boxes rejected, 0 corrected, 0 added, 2 confirmed: 2 boxes in {out}" in printed
    assert "The objects of 3 images are all known" in printed
