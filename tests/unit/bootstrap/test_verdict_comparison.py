"""Two runs, compared by the verdicts on a draw of each."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from mining.bootstrap.verdict_comparison import VerdictComparison, compare, compare_by_verdicts
from mining.config.audit import AuditPlanSettings
from mining.quality.estimates import Precision
from mining.quality.planning import plan_audit
from mining.quality.recording import record_verdicts
from mining.runs.run import Run
from tests.unit.export.conftest import Painted
from tests.unit.fusion.conftest import DOG, run_of

BEST, SECOND = (DOG, 0, 0, 20, 20, 0.9), (DOG, 35, 15, 20, 20, 0.4)


def judged(folder: Path, best: list[bool], second: str) -> Run:
    """A run with two dogs an image, the best of which are correct as given, and the others have one verdict."""
    images = tuple(Painted(f"{number:02}.png", (BEST, SECOND), labels=("dog",)) for number in range(len(best)))
    run = run_of(folder, images)
    plan = folder / "plan.csv"
    plan_audit(AuditPlanSettings(run=run.path, out=plan, verdicts=1000))
    rows = list(csv.DictReader(plan.open()))
    for row in rows:
        is_best, number = float(row["score"]) > 0.5, int(row["file_name"][:2])
        row["verdict"] = ("correct" if best[number] else "nothing") if is_best else second
    with plan.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    record_verdicts(run.path, plan, reviewer="Ada")
    return run


def test_only_the_best_box_of_an_image_and_class_counts(tmp_path: Path) -> None:
    before = judged(tmp_path / "before", [True] * 10 + [False] * 10, "correct")
    after = judged(tmp_path / "after", [True] * 15 + [False] * 5, "nothing")
    found = compare_by_verdicts(before, after)
    assert found is not None
    assert (found.before.value, found.after.value) == (pytest.approx(0.5), pytest.approx(0.75))
    assert (found.before.verdicts, found.before.boxes) == (20, 20)
    assert found.is_better is True, "all boxes are judged, so that nothing is left to chance"
    assert "75.0% are correct against 50.0%" in found.text


def test_nothing_is_known_without_verdicts_on_both(tmp_path: Path) -> None:
    one = judged(tmp_path / "one", [True, False], "nothing")
    other = run_of(tmp_path / "other", (Painted("a.png", (BEST,), labels=("dog",)),))
    assert compare_by_verdicts(one, other) is None
    assert compare_by_verdicts(other, one) is None


def estimated(value: float, low: float, high: float) -> Precision:
    return Precision(value, (low, high), None, 100, 1000)


@pytest.mark.parametrize(
    ("after", "low", "high", "is_better"),
    [
        (estimated(0.6, 0.5, 0.7), -0.141, 0.141, None),
        (estimated(0.9, 0.8, 0.95), 0.3 - 0.141, 0.3 + 0.112, True),
        (estimated(0.3, 0.2, 0.4), -0.3 - 0.141, -0.3 + 0.141, False),
    ],
)
def test_the_interval_of_the_difference_is_that_of_two_independent_draws(
    after: Precision, low: float, high: float, is_better: bool | None
) -> None:
    found = compare(estimated(0.6, 0.5, 0.7), after)
    assert found.ci95 == pytest.approx((low, high), abs=1e-3)
    assert found.is_better is is_better
    assert replace(found, ci95=(0.0, 0.1)).is_better is None
    assert isinstance(found, VerdictComparison)
