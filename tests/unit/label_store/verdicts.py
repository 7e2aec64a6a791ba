"""Verdicts of people on the boxes of a label project's runs."""

import csv
from collections.abc import Callable
from pathlib import Path

from mining.config.audit import AuditPlanSettings
from mining.quality.planning import plan_audit
from mining.quality.recording import RecordSummary, record_verdicts

Row = dict[str, str]


def all_correct(_: Row) -> str:
    """Find every box correct."""
    return "correct"


def draw(run: Path, name: str = "plan.csv", **options: object) -> list[Row]:
    """Draw boxes of a run, and return the rows of the plan."""
    out = run.parent.parent / f"{run.name}-{name}"
    plan_audit(AuditPlanSettings.model_validate({"run": run, "out": out, "seed": 0, **options}))
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def record(run: Path, rows: list[Row], verdict: Callable[[Row], str] = all_correct) -> RecordSummary:
    """Record verdicts on the rows of a plan; an empty verdict leaves the row for later."""
    filled = run.parent.parent / f"{run.name}-filled.csv"
    with filled.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "verdict": verdict(row)} for row in rows)
    return record_verdicts(run, filled, "Ada")


def judge(run: Path, verdict: Callable[[Row], str] = all_correct, verdicts: int = 200) -> None:
    """Draw boxes of a run and record what a person says."""
    record(run, draw(run, verdicts=verdicts), verdict)
