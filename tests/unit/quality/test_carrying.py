"""Verdicts of another run of the same images."""

from pathlib import Path

import pytest

from flows.cli.application import run_command
from mining.config.audit import AuditPlanSettings
from mining.errors import InputError
from mining.quality.audit import estimate_audit
from mining.quality.judgements import Judgement
from mining.quality.planning import plan_audit
from mining.quality.recording import record_carried, record_verdicts
from mining.quality.verdicts import open_verdicts
from tests.unit.quality.plan_files import Row, read_rows, write_rows
from tests.unit.quality.small_run import Box, SmallRun

DIGESTS = {"a.jpg": "a" * 64, "b.jpg": "b" * 64, "c.jpg": "c" * 64}


def mined(path: Path, boxes: list[tuple[str, str, Box]], hashes: dict[str, str] = DIGESTS) -> Path:
    run = SmallRun(path, hashes=hashes, states=dict.fromkeys(hashes, "labelled"))
    run.boxes = [(name, category, box, {}) for name, category, box in boxes]
    return run.write().path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An earlier run: two cats on a.jpg, a dog on b.jpg, nothing on c.jpg, with a verdict on everything."""
    run = mined(
        tmp_path / "other",
        [("a.jpg", "cat", (10, 10, 40, 40)), ("a.jpg", "cat", (60, 60, 30, 30)), ("b.jpg", "dog", (10, 10, 50, 50))],
    )
    with open_verdicts(run) as store:
        common = {"plan": "p", "why": "random", "reviewer": "Ada", "time": "2026-01-01T00:00:00+00:00"}
        none = {"new_x": None, "new_y": None, "new_w": None, "new_h": None, "new_category": None}
        drawn = {**none, "new_x": 12.0, "new_y": 10.0, "new_w": 60.0, "new_h": 50.0}
        boxes = [
            {"annotation_id": 1, "file_name": "a.jpg", "category": "cat", "x": 10, "y": 10, "w": 40, "h": 40, "verdict": "correct", **none},
            {"annotation_id": 2, "file_name": "a.jpg", "category": "cat", "x": 60, "y": 60, "w": 30, "h": 30, "verdict": "nothing", **none},
            {"annotation_id": 3, "file_name": "b.jpg", "category": "dog", "x": 10, "y": 10, "w": 50, "h": 50, "verdict": "correct", **drawn},
        ]  # fmt: skip
        store.record([Judgement(**common, content_hash=DIGESTS[str(one["file_name"])], **one) for one in boxes])  # type: ignore[arg-type]
    return run


def verdicts_of(run: Path) -> dict[int, tuple[str, str]]:
    with open_verdicts(run, to_write=False) as store:
        return {one.annotation_id: (one.verdict, one.why) for one in store.judgements()}


def test_a_verdict_goes_to_the_box_that_is_nearly_the_same(tmp_path: Path, other: Path) -> None:
    run = mined(
        tmp_path / "run",
        [
            ("a.jpg", "cat", (10, 10, 40, 41)),  # nearly the first
            ("a.jpg", "cat", (10, 10, 40, 60)),  # IoU 0.67 with it
            ("a.jpg", "dog", (10, 10, 40, 40)),  # of another class
            ("a.jpg", "cat", (60, 60, 30, 30)),  # the second
        ],
    )
    summary = record_carried(run, other)
    assert verdicts_of(run) == {1: ("correct", "carried"), 4: ("nothing", "carried")}
    assert (summary.recorded, summary.unmatched, summary.other_images) == (2, 1, 0)
    assert estimate_audit(run).precision is None


def test_any_box_is_compared_with_an_object_whose_box_was_drawn(tmp_path: Path, other: Path) -> None:
    run = mined(tmp_path / "run", [("b.jpg", "dog", (12, 10, 60, 30)), ("b.jpg", "dog", (12, 10, 60, 20))])
    record_carried(run, other)
    assert verdicts_of(run) == {1: ("correct", "carried")}  # IoU 0.6 with the object; 0.4, which says nothing here
    with open_verdicts(run) as store:
        assert store.judgements()[0].corrected == (12, 10, 60, 50)


def test_an_image_under_another_name_is_the_same_and_one_that_changed_is_not(tmp_path: Path, other: Path) -> None:
    boxes: list[tuple[str, str, Box]] = [("new.jpg", "cat", (10, 10, 40, 40)), ("b.jpg", "dog", (10, 10, 50, 50))]
    run = mined(tmp_path / "run", boxes, {"new.jpg": DIGESTS["a.jpg"], "b.jpg": "f" * 64})
    summary = record_carried(run, other)
    assert summary.other_images == 1
    assert verdicts_of(run) == {1: ("correct", "carried")}


def test_a_verdict_that_the_reviewer_gave_here_is_not_replaced(tmp_path: Path, other: Path) -> None:
    run = mined(tmp_path / "run", [("a.jpg", "cat", (10, 10, 40, 40))])
    plan_audit(AuditPlanSettings(run=run, out=tmp_path / "plan.csv", verdicts=1))
    rows = [{**row, "verdict": "nothing"} for row in read_rows(tmp_path / "plan.csv")]
    record_verdicts(run, write_rows(tmp_path / "filled.csv", rows), "Ada")
    summary = record_carried(run, other)
    assert (summary.recorded, summary.known) == (0, 1)
    assert verdicts_of(run) == {1: ("nothing", "random")}


def test_plans_have_what_is_known_filled_in(tmp_path: Path, other: Path) -> None:
    run = mined(tmp_path / "run", [("a.jpg", "cat", (10, 10, 40, 40)), ("b.jpg", "dog", (10, 10, 50, 51))])
    record_carried(run, other)
    summary = plan_audit(AuditPlanSettings(run=run, out=tmp_path / "plan.csv", verdicts=2))
    assert summary.filled_in == 2
    rows = {row["annotation_id"]: row for row in read_rows(tmp_path / "plan.csv")}
    assert {number: row["verdict"] for number, row in rows.items()} == {"1": "correct", "2": "correct"}
    assert [rows["2"][side] for side in "xywh"] == ["12.00", "10.00", "60.00", "50.00"]
    record_verdicts(run, tmp_path / "plan.csv", "Bob")
    found = estimate_audit(run).precision
    assert found is not None
    assert (found.verdicts, found.value) == (2, 1)
    with open_verdicts(run) as store:
        assert {one.corrected for one in store.judgements() if one.reviewer == "Bob"} == {None, (12, 10, 60, 50)}


def test_whole_images_are_carried_over_where_every_box_is_known(tmp_path: Path) -> None:
    other = mined(tmp_path / "other", [("a.jpg", "cat", (10, 10, 40, 40)), ("b.jpg", "dog", (10, 10, 50, 50))])
    plan_audit(AuditPlanSettings(run=other, out=tmp_path / "plan.csv", recall=True, images=3))
    rows: list[Row] = []
    for row in read_rows(tmp_path / "plan.csv"):
        rows.append({**row, "verdict": "correct" if row["annotation_id"] else "complete"})
        if not row["annotation_id"]:
            rows.append({**row, "verdict": "missed", "category": "cow", "x": "60", "y": "60", "w": "20", "h": "20"})
    record_verdicts(other, write_rows(tmp_path / "filled.csv", rows), "Ada")
    run = mined(
        tmp_path / "run",
        [
            ("a.jpg", "cat", (10, 10, 40, 40)),
            ("a.jpg", "cow", (60, 60, 20, 22)),  # found by now
            ("b.jpg", "dog", (10, 10, 50, 35)),  # it is not known whether it is correct
            ("c.jpg", "dog", (10, 10, 50, 50)),  # no dog was seen there
        ],
    )
    summary = record_carried(run, other)
    assert verdicts_of(run) == {1: ("correct", "carried"), 2: ("correct", "carried"), 4: ("nothing", "carried")}
    assert summary.images == 2
    with open_verdicts(run) as store:
        missed = {
            one.file_name: [(other.category, other.xywh) for other in one.missed] for one in store.image_judgements()
        }
    assert missed == {"a.jpg": [], "c.jpg": [("cow", (60, 60, 20, 20))]}
    plan_audit(AuditPlanSettings(run=run, out=tmp_path / "second.csv", recall=True, images=3))
    words = [
        (row["file_name"], row["verdict"]) for row in read_rows(tmp_path / "second.csv") if not row["annotation_id"]
    ]
    assert sorted(words) == [("a.jpg", "complete"), ("b.jpg", ""), ("c.jpg", "complete"), ("c.jpg", "missed")]


def test_what_cannot_be_carried_over_is_refused(
    tmp_path: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mined(tmp_path / "run", [("x.jpg", "cat", (10, 10, 40, 40))], {"x.jpg": "e" * 64})
    with pytest.raises(InputError, match=r"None of the 2 judged images of .* is in"):
        record_carried(run, other)
    with pytest.raises(InputError, match="has no verdicts"):
        record_carried(other, run)
    with pytest.raises(InputError, match="is the run itself"):
        record_carried(other, other)
    assert run_command(["audit", "record", str(run), str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_the_command_says_what_was_carried_over(
    tmp_path: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mined(tmp_path / "run", [("a.jpg", "cat", (10, 10, 40, 40))])
    assert run_command(["audit", "record", str(run), str(other)]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "1 verdicts carried over. Plans that draw these boxes have them filled in." in printed
    assert "2 verdicts are on boxes that no box of this run is like." in printed
