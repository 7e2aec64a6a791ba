"""Reliability diagrams: from a calibration, from ground truth, from verdicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mining.config import ScoreSettings
from mining.evaluation.job import score
from mining.evaluation.scores import read_scores
from mining.quality.calibration import calibrate
from mining.quality.judgements import Judgement
from mining.quality.table import apply_calibration, read_boxes_with_quality
from mining.quality.verdicts import open_verdicts
from mining.reporting.reliability_points import FEWEST_VERDICTS, build_diagrams
from mining.reporting.report_page import write_report
from mining.runs.run import Run
from tests.unit.quality.small_run import generated_run
from tests.unit.reporting.conftest import Mined


@pytest.fixture
def generated(tmp_path: Path) -> tuple[Run, np.ndarray]:
    small, is_correct = generated_run(tmp_path / "run", 60)
    return small.write(), is_correct


def judge(run: Run, is_correct: np.ndarray, count: int, why: Any = "random") -> None:
    rows = run.read_annotations().to_pylist()[:count]
    with open_verdicts(run.path) as store:
        store.record(
            Judgement(
                str(why), why, row["annotation_id"], row["file_name"], None, row["category"], row["x"], row["y"], row["w"],
                row["h"], "correct" if right else "nothing", None, None, None, None, None, "Ada", "2026-01-01",
            )
            for row, right in zip(rows, is_correct, strict=False)
        )  # fmt: skip


def test_a_calibrated_run_has_the_points_of_its_calibration(generated: tuple[Run, np.ndarray]) -> None:
    run, is_correct = generated
    signals = read_boxes_with_quality(run)
    calibration = calibrate(signals, is_correct, None, signals["file_name"].to_pylist())
    apply_calibration(run, calibration)
    (diagram,) = build_diagrams(run, None)
    assert calibration.figures is not None
    bins = calibration.figures["reliability"]
    assert diagram.is_probability
    assert [(one.predicted, one.observed, one.boxes) for one in diagram.points] == [
        (one["predicted"], one["observed"], one["boxes"]) for one in bins
    ]
    assert all(one.ci95 and one.ci95[0] <= one.observed <= one.ci95[1] for one in diagram.points)
    assert f"{100 * calibration.figures['ece']:.1f} points on average" in diagram.sentence


def test_scores_are_compared_with_verdicts_on_boxes_drawn_at_random(generated: tuple[Run, np.ndarray]) -> None:
    run, is_correct = generated
    assert build_diagrams(run, None) == []
    judge(run, is_correct, FEWEST_VERDICTS - 1)
    judge(run, is_correct, 100, "suspicious")
    assert build_diagrams(run, None) == [], "doubtful boxes say nothing about others"
    judge(run, is_correct, 100)
    (diagram,) = build_diagrams(run, None)
    scores = run.read_annotations(["score"])["score"].to_numpy()[:100]
    inside = (scores >= 0.5) & (scores < 0.6)
    point = next(one for one in diagram.points if one.low == 0.5)
    assert not diagram.is_probability
    assert point.boxes == inside.sum() > 0
    assert point.observed == pytest.approx(is_correct[:100][inside].mean())
    assert "By 100 boxes that people judged." in diagram.sentence


def test_scores_are_compared_with_ground_truth(mined: Mined) -> None:
    score(ScoreSettings(run=mined.run, truth=mined.truth))
    run = Run(mined.run)
    scores = read_scores(run)
    assert scores is not None
    (diagram,) = build_diagrams(run, scores)
    assert sum(one.boxes for one in diagram.points) == scores["precision"]["boxes"]
    correct = sum(one.boxes * one.observed for one in diagram.points)
    assert round(correct) == scores["precision"]["correct"]
    write_report(mined.run)
    assert len(mined.page().of("svg", "reliability")) == 1
    assert "the points of the diagram" in mined.page().text
