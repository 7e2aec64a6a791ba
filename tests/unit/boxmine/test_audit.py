"""An audit from Python."""

from pathlib import Path

import pytest

import boxmine
from tests.unit.quality.plan_files import read_rows, write_rows
from tests.unit.quality.small_run import SmallRun


@pytest.fixture
def run(tmp_path: Path) -> boxmine.Run:
    small = SmallRun(tmp_path / "run")
    for number in range(30):
        small.boxes.append((f"{number:02}.jpg", "cat", (10, 10, 20, 20), {"score": 0.3 + number / 60}))
    return boxmine.Run(small.write().path)


def test_from_a_plan_to_corrected_boxes(run: boxmine.Run, tmp_path: Path) -> None:
    summary = run.plan_audit(tmp_path / "plan.csv", verdicts=12, images=10, seed=0)
    assert (summary.random, summary.images) == (12, 10)
    rows = read_rows(tmp_path / "plan.csv")
    for row in rows:
        is_good = row["file_name"] >= "10.jpg"
        row["verdict"] = ("correct" if is_good else "nothing") if row["annotation_id"] else "complete"
    recorded = run.record_verdicts(write_rows(tmp_path / "filled.csv", rows), "Ada")
    assert (recorded.recorded, recorded.images) == (22, 10)
    found = run.estimate()
    assert found.precision is not None
    assert found.precision.verdicts == 12
    assert found.objects is not None
    assert found.objects.objects is not None
    assert found.objects.objects.recall == 1
    second = run.apply_verdicts(tmp_path / "second")
    rejected = {row["annotation_id"] for row in rows if row["verdict"] == "nothing"}
    assert len(second.boxes) == 30 - len(rejected)
    assert len(run.boxes) == 30


def test_what_cannot_be_done_is_refused(run: boxmine.Run, tmp_path: Path) -> None:
    assert run.estimate().precision is None
    with pytest.raises(boxmine.InputError, match="No verdict"):
        run.apply_verdicts()
    with pytest.raises(boxmine.InputError, match="Cannot read"):
        run.record_verdicts(tmp_path / "none.csv", "Ada")
    with pytest.raises(boxmine.InputError, match="verdicts"):
        run.plan_audit(tmp_path / "plan.csv", verdicts=0)
