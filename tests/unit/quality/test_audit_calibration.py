"""Calibration by the audit command: from verdicts, from ground truth, from another run."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from flows.cli.application import run_command
from mining.config.audit import AuditPlanSettings
from mining.quality.audit_calibration import calibrate_audit
from mining.quality.planning import plan_audit
from mining.quality.plans import COLUMNS
from mining.quality.recording import record_verdicts
from mining.quality.table import read_quality
from mining.runs.run import Run
from tests.unit.quality.small_run import generated_run


@pytest.fixture
def judged(tmp_path: Path):
    """A run of 240 boxes, and a function that records verdicts on some more of them."""
    small, correct = generated_run(tmp_path / "run")
    run = small.write()

    def record(verdicts: int, **options: object) -> None:
        plan = tmp_path / f"plan-{verdicts}.csv"
        plan_audit(
            AuditPlanSettings.model_validate({"run": run.path, "out": plan, "verdicts": verdicts, "seed": 0, **options})
        )
        with plan.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["verdict"] = "correct" if correct[int(row["annotation_id"]) - 1] else "nothing"
        with plan.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        record_verdicts(run.path, plan, "Ada")

    return run, correct, record


def test_verdicts_calibrate_p_correct_alone(judged) -> None:
    run, correct, record = judged
    record(100)
    found = calibrate_audit(run.path)
    assert found.state == "calibrated"
    assert found.calibration.figures is not None
    assert found.calibration.figures["boxes"] == 100
    quality = read_quality(run)
    assert np.corrcoef(quality["p_correct"].to_numpy(), correct)[0, 1] > 0.5
    assert quality["p_correct"].to_numpy().mean() == pytest.approx(correct.mean(), abs=0.1)
    assert quality["expected_iou"].null_count == 240


def test_suspicious_boxes_do_not_count(judged) -> None:
    run, _, record = judged
    record(40, suspicious=True)
    found = calibrate_audit(run.path)
    assert found.state == "uncalibrated"
    assert found.reason.startswith("40 boxes are judged")
    assert not run.calibration.exists()
    assert read_quality(run)["p_correct"].null_count == 240


def test_the_command_says_that_it_is_uncalibrated(judged, capsys) -> None:
    run, _, record = judged
    record(30)
    assert run_command(["audit", "calibrate", str(run.path)]) == 0
    assert "uncalibrated: 30 boxes are judged" in " ".join(capsys.readouterr().err.split())


def test_the_command_prints_figures_and_json(judged, capsys) -> None:
    run, _, record = judged
    record(100)
    assert run_command(["audit", "calibrate", str(run.path)]) == 0
    out, err = capsys.readouterr()
    assert "share correct" in out
    assert "Expected calibration error" in err
    assert run_command(["audit", "calibrate", str(run.path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["state"] == "calibrated"
    assert sum(printed["judged"].values()) == printed["figures"]["boxes"] == 100


def test_a_calibration_is_carried_or_refused(judged, tmp_path, capsys) -> None:
    run, _, record = judged
    record(100)
    calibrate_audit(run.path)
    alike = generated_run(tmp_path / "alike", seed=5)[0].write()
    assert run_command(["audit", "calibrate", str(alike.path), "--calibration-from", str(run.path)]) == 0
    assert read_quality(alike)["p_correct"].null_count == 0
    small = generated_run(tmp_path / "other", seed=5)[0]
    for *_, values in small.boxes:
        values.update(cut_agreement=None, map_agreement=None, mean_probability=None)
    other = small.write()
    capsys.readouterr()
    command = ["audit", "calibrate", str(other.path), "--calibration-from", str(run.calibration)]
    assert run_command(command) == 2
    assert "does not fit" in " ".join(capsys.readouterr().err.split())
    assert not other.calibration.exists()
    assert run_command([*command, "--truth", "truth.json"]) == 2


def test_a_missing_calibration_is_named(judged, tmp_path, capsys) -> None:
    run, _, _ = judged
    assert run_command(["audit", "calibrate", str(run.path), "--calibration-from", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_the_python_functions_do_the_same(judged) -> None:
    import boxmine

    run, _, record = judged
    record(100)
    assert boxmine.calibrate(os.fspath(run.path)).is_calibrated
    assert boxmine.Run(run.path).signals["p_correct"].notna().all()
    assert Run.open(run.path).calibration.is_file()
    assert boxmine.Run(run.path).carry_calibration(run.calibration) is None


@pytest.mark.parametrize("name", ["chart.svg", "chart.png"])
def test_the_reliability_diagram_is_drawn(judged, tmp_path, name) -> None:
    run, _, record = judged
    record(100)
    assert run_command(["audit", "calibrate", str(run.path), "--chart", str(tmp_path / name)]) == 0
    content = (tmp_path / name).read_bytes()
    assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


def test_a_chart_of_another_kind_is_refused_before_anything_is_stored(judged, tmp_path) -> None:
    run, _, record = judged
    record(100)
    assert run_command(["audit", "calibrate", str(run.path), "--chart", str(tmp_path / "chart.pdf")]) == 2
    assert not run.calibration.exists()
