"""The first lines of a report."""

from pathlib import Path

import pytest

from mining.quality.audit import AuditEstimate
from mining.quality.estimates import Precision
from mining.quality.image_outcomes import ObjectAudit
from mining.quality.object_estimates import Objects
from mining.reporting.first_lines import audit_of, first_lines
from mining.runs.run import Run
from tests.unit.quality.small_run import SmallRun

RECORD = {"counts": {"images": 40, "boxes": 1200, "states": {"labelled": 38, "no_class": 2}}}
PRECISION = Precision(0.8, (0.737, 0.85), (0.7, 0.9), 200, 1200)


def audit(precision: Precision | None, objects: ObjectAudit | None = None) -> AuditEstimate:
    return AuditEstimate(precision, {}, 0, 0, 0, objects=objects)


def test_nobody_has_looked_yet() -> None:
    found = first_lines(RECORD, 1, None, None)
    assert found.mined == "1,200 boxes of 1 class on 38 of 40 images."
    assert found.quality.startswith("Nobody has looked yet")
    assert found.command == "boxmine audit RUN"


def test_verdicts_state_precision_and_recall_and_what_can_be_promised() -> None:
    objects = Objects(1500, (1400, 1600), 0.75, (0.7, 0.8), 60, 30, 40)
    found = first_lines(RECORD, 3, None, audit(PRECISION, ObjectAudit(objects, {}, 0, 0)))
    assert found.quality == (
        "80.0 % (95 %: 73.7 to 85.0) of the boxes are correct, by 200 verdicts of people on boxes drawn at random. "
        "75.0 % (95 %: 70.0 to 80.0) of the objects were found, by 30 images that people looked at whole."
    )
    assert found.command == "boxmine export RUN --format coco --min-precision 0.7 --out DIR"


def test_few_verdicts_promise_nothing() -> None:
    few = Precision(0.8, (0.5, 0.95), None, 8, 1200)
    assert first_lines(RECORD, 3, None, audit(few)).command == "boxmine audit RUN"


def test_a_run_without_boxes_asks_why() -> None:
    record = {"counts": {"images": 3, "boxes": 0, "states": {"no_region": 3}}}
    found = first_lines(record, 0, None, None)
    assert found.mined == "0 boxes of 0 classes on 0 of 3 images."
    assert "why there is no box" in found.next_step
    assert not found.command


def test_a_version_of_a_label_store_has_its_own_precision() -> None:
    record = {**RECORD, "precision": {"value": 0.9, "ci95": [0.85, 0.94]}}
    assert first_lines(record, 3, None, None).quality == (
        "90.0 % (95 %: 85.0 to 94.0) of the boxes are correct as mined, by verdicts of people."
    )


def test_a_run_without_verdicts_has_no_audit(tmp_path: Path) -> None:
    small = SmallRun(tmp_path / "run")
    small.boxes = [("a.jpg", "cat", (10, 10, 20, 20), {})]
    run: Run = small.write()
    assert audit_of(run) is None
    (run.path / "verdicts.sqlite").write_bytes(b"no database at all, but some bytes")
    with pytest.raises(Exception, match="is damaged"):
        audit_of(run)
