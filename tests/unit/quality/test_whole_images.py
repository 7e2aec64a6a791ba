"""Images that were looked at whole: from the plan over what a person fills in to the number of objects and the recall."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flows.cli.application import run_command
from mining.config.audit import AuditPlanSettings
from mining.errors import InputError
from mining.quality.audit import AuditEstimate, estimate_audit
from mining.quality.object_estimates import Objects
from mining.quality.planning import plan_audit
from mining.quality.recording import RecordSummary, record_verdicts
from mining.quality.verdicts import open_verdicts
from tests.unit.quality.plan_files import Row, read_rows, write_rows
from tests.unit.quality.small_run import SmallRun

IMAGES = 40


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """40 images: on every second one a correct cat, on every fourth one a wrong dog too; every image misses one cow."""
    small = SmallRun(tmp_path / "run")
    for number in range(IMAGES):
        name = f"{number:02}.jpg"
        small.states[name] = "labelled" if number % 2 == 0 else "no_region"
        if number % 2 == 0:
            small.boxes.append((name, "cat", (10, 10, 20, 20), {"score": 0.9}))
        if number % 4 == 0:
            small.boxes.append((name, "dog", (50, 50, 20, 20), {"score": 0.4}))
    return small.write().path


def planned(run: Path, name: str = "plan.csv", **options: object) -> list[Row]:
    plan_audit(AuditPlanSettings.model_validate({"run": run, "out": run.parent / name, "seed": 0, **options}))
    return read_rows(run.parent / name)


def truth(row: Row) -> list[Row]:
    """What a person makes of a row."""
    if row["annotation_id"]:
        return [{**row, "verdict": "correct" if row["category"] == "cat" else "nothing"}]
    return [{**row, "verdict": "complete"}, {**row, "verdict": "missed", "category": "cow"}]


def record(
    run: Path, rows: list[Row], fill: Callable[[Row], list[Row]] = truth, reviewer: str = "Ada"
) -> RecordSummary:
    filled = write_rows(run.parent / "filled.csv", [one for row in rows for one in fill(row)])
    return record_verdicts(run, filled, reviewer)


def objects_of(estimate: AuditEstimate) -> Objects:
    assert estimate.objects is not None
    assert estimate.objects.objects is not None
    return estimate.objects.objects


# --- plans -----------------------------------------------------------------------------------------------------------


def test_a_plan_of_whole_images_lists_all_boxes_of_each_and_then_the_image(run: Path) -> None:
    rows = planned(run, recall=True, images=12)
    images = [row for row in rows if not row["annotation_id"]]
    assert len(images) == len({row["file_name"] for row in images}) == 12
    assert {row["why"] for row in rows} == {"image"}
    for image in images:
        number = int(image["file_name"][:2])
        listed = [row for row in rows if row["file_name"] == image["file_name"]]
        assert len(listed) == 1 + (number % 2 == 0) + (number % 4 == 0)
        assert listed[-1] == image
        assert len({row["inclusion_probability"] for row in listed}) == 1


def test_images_with_more_boxes_are_drawn_more_often(run: Path) -> None:
    images = [row for row in planned(run, recall=True, images=20) if not row["annotation_id"]]
    share = {int(row["file_name"][:2]) % 4: float(row["inclusion_probability"]) for row in images}
    assert share[0] > share[2] > share[1] == share[3]


def test_a_second_plan_draws_other_images(run: Path) -> None:
    first, second = planned(run, recall=True, images=15), planned(run, "second.csv", recall=True, images=15)
    assert not {row["file_name"] for row in first} & {row["file_name"] for row in second}
    planned(run, "third.csv", recall=True, images=15)
    with pytest.raises(InputError, match=r"All 40 images .* were drawn before"):
        planned(run, "fourth.csv", recall=True)


def test_single_boxes_and_whole_images_can_be_in_one_plan(run: Path) -> None:
    rows = planned(run, recall=True, images=5, verdicts=10)
    assert [row["why"] for row in rows[:10]] == ["random"] * 10
    assert sum(not row["annotation_id"] for row in rows) == 5


def test_a_number_of_images_without_recall_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(run.parent / "plan.csv")
    assert run_command(["audit", "plan", str(run), "--images", "5", "--out", out]) == 2
    assert "give `recall` too" in capsys.readouterr().err


# --- estimates -------------------------------------------------------------------------------------------------------


def test_whole_images_give_the_number_of_objects_and_the_recall(run: Path) -> None:
    summary = record(run, planned(run, recall=True, images=24))
    assert (summary.images, summary.pending, summary.pending_images) == (24, 0, 0)
    estimate = estimate_audit(run)
    assert estimate.precision is None  # boxes of images that were drawn for their boxes are no random draw of boxes
    found = objects_of(estimate)
    assert found.value == pytest.approx(60)
    assert found.ci95[0] <= 60 <= found.ci95[1]
    assert found.recall == pytest.approx(20 / 60)
    per_class = estimate.objects.per_class  # type: ignore[union-attr]
    assert per_class.keys() == {"cat", "cow"}
    assert per_class["cow"].recall == 0  # type: ignore[union-attr]
    assert per_class["cat"].recall == 1  # type: ignore[union-attr]
    assert per_class["cat"].recall_ci95[0] < 1  # type: ignore[union-attr,index]


def test_all_images_leave_no_doubt(run: Path) -> None:
    record(run, planned(run, recall=True, images=IMAGES))
    found = objects_of(estimate_audit(run))
    assert (found.value, found.ci95) == (60, (60, 60))
    assert found.recall_ci95 == pytest.approx((1 / 3, 1 / 3))


def test_a_corrected_box_is_the_object_and_counts_once(run: Path) -> None:
    def fill(row: Row) -> list[Row]:
        if row["category"] == "cat":  # half as large as the object
            return [{**row, "verdict": "too_small", "x": "10", "y": "10", "w": "20", "h": "60"}]
        if row["category"] == "dog":
            return [{**row, "verdict": "wrong_class", "category": "cow"}]
        return [{**row, "verdict": "complete"}]

    record(run, planned(run, recall=True, images=IMAGES), fill)
    estimate = estimate_audit(run)
    assert objects_of(estimate).value == 20 + 10
    assert objects_of(estimate).recall == 0
    with open_verdicts(run) as store:
        assert {one.new_category for one in store.judgements() if one.category == "dog"} == {"cow"}


def test_reviewers_of_the_same_image_are_averaged(run: Path) -> None:
    rows = planned(run, recall=True, images=IMAGES)
    record(run, rows)
    record(run, rows, lambda row: [one for one in truth(row) if one["verdict"] != "missed"], "Bob")
    assert objects_of(estimate_audit(run)).value == pytest.approx(20 + 40 / 2)


def test_images_are_recorded_as_far_as_they_are_complete(run: Path) -> None:
    rows = planned(run, recall=True, images=10)
    names = [row["file_name"] for row in rows if not row["annotation_id"]]

    def fill(row: Row) -> list[Row]:
        if row["file_name"] in names[:6]:
            return truth(row)
        return [] if row["annotation_id"] else [{**row, "verdict": "missed", "category": "cow"}]

    summary = record(run, rows, fill)
    assert (summary.images, summary.pending_images) == (6, 4)
    assert summary.notes == [
        f"Missed objects of images without the verdict complete, left for later: 4, first of {names[6]!r}."
    ]
    estimate = estimate_audit(run)
    assert objects_of(estimate).images == 6
    assert estimate.objects.pending == 4  # type: ignore[union-attr]


def test_the_same_images_recorded_twice_count_once_and_a_later_word_counts(run: Path) -> None:
    rows = planned(run, recall=True, images=20)
    record(run, rows)
    before = estimate_audit(run)
    assert record(run, rows).images == 0
    assert estimate_audit(run) == before
    assert record(run, rows, lambda row: [one for one in truth(row) if one["verdict"] != "missed"]).images == 20
    assert objects_of(estimate_audit(run)).recall == 1


def test_too_few_images_give_no_estimate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(run, planned(run, recall=True, images=4))
    assert estimate_audit(run).objects.objects is None  # type: ignore[union-attr]
    assert run_command(["audit", "estimate", str(run)]) == 0
    assert "Too few images" in capsys.readouterr().err


def test_the_command_prints_objects_and_recall(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(run, planned(run, recall=True, images=IMAGES))
    assert run_command(["audit", "estimate", str(run)]) == 0
    printed = capsys.readouterr()
    assert "33.3 %" in printed.out + printed.err
    assert "From 40 of 40 images" in printed.err


def test_verdicts_are_a_table_too(run: Path) -> None:
    record(run, planned(run, recall=True, images=IMAGES))
    table = pd.read_parquet(run / "verdicts.parquet")
    assert table["verdict"].value_counts().to_dict() == {"complete": 40, "missed": 40, "correct": 20, "nothing": 10}
    assert set(table.loc[table["verdict"] == "missed", "category"]) == {"cow"}
    assert table["annotation_id"].notna().sum() == 30
    assert set(table["why"]) == {"image"}
    record(run, planned(run, "second.csv", verdicts=5), lambda row: [{**row, "verdict": "unsure"}], "Bob")
    assert pd.read_parquet(run / "verdicts.parquet")["reviewer"].value_counts().to_dict() == {"Ada": 110, "Bob": 5}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "complete", "annotation_id": "1"}, "complete is no verdict on a box"),
        ({"verdict": "missed", "category": ""}, "column category: it is empty; give the class"),
        ({"verdict": "missed", "category": "cwo"}, "column category: 'cwo' is no class of the run; did you mean 'cow'"),
        ({"verdict": "missed", "category": "cow", "x": "5"}, "column y: '' is not a number"),
        ({"verdict": "", "category": "cow"}, "column verdict: an object without a box has the verdict missed"),
        ({"verdict": "completed"}, "did you mean 'complete'"),
        ({"verdict": "complete", "file_name": "other.jpg"}, "column file_name: the plan .* has no image 'other.jpg'"),
        ({"verdict": "complete", "file_name": ""}, "column file_name: it is empty"),
    ],
)
def test_an_invalid_row_of_an_image_is_named(run: Path, changes: Row, message: str) -> None:
    rows = planned(run, recall=True, images=10)
    with pytest.raises(InputError, match=message):
        record(run, rows, lambda row: truth(row) if row["annotation_id"] else [*truth(row), {**row, **changes}])
    assert estimate_audit(run).objects.pending == 10  # type: ignore[union-attr]


def test_an_image_with_a_box_without_a_verdict_is_not_complete(run: Path) -> None:
    rows = planned(run, recall=True, images=IMAGES)
    with pytest.raises(InputError, match="is complete, but 1 of its boxes have no verdict, first annotation_id"):
        record(run, rows, lambda row: [] if row["category"] == "dog" else truth(row))
