"""A retraining resumes its own unfinished run, and its decision follows from the comparison."""

from pathlib import Path
from typing import Any

import pytest

from mining.config import RetrainSettings
from mining.experiments.retraining import evaluate_retraining, plan_retraining
from mining.runs.run import FORMAT
from mining.storage.files import write_json


@pytest.fixture
def settings(tmp_path: Path) -> RetrainSettings:
    (tmp_path / "labels.csv").write_text("file_name,labels\na.jpg,cat\n")
    corpus = {"images": tmp_path / "photos", "labels": tmp_path / "labels.csv"}
    return RetrainSettings(runs=tmp_path / "runs", corpus=corpus)


def write_finished_run(run: Path) -> None:
    run.mkdir(parents=True)
    write_json(run / "run.json", {"format": FORMAT, "state": "finished"})


def test_each_retraining_has_a_run_of_its_own(settings: RetrainSettings) -> None:
    first = plan_retraining(settings).out
    write_finished_run(first)
    second = plan_retraining(settings).out
    assert (first.name[:6], second.name[:6]) == ("00001-", "00002-")


def test_an_unfinished_run_is_resumed(settings: RetrainSettings) -> None:
    first = plan_retraining(settings).out
    (first / "model").mkdir(parents=True)
    assert plan_retraining(settings).out == first
    assert plan_retraining(settings.model_copy(update={"current": settings.runs / "used"})).out == first


def test_other_labels_or_settings_start_a_new_run(settings: RetrainSettings, tmp_path: Path) -> None:
    first = plan_retraining(settings).out
    (first / "model").mkdir(parents=True)
    other = RetrainSettings(**{**dict(settings), "train": {"epochs": 3}})
    assert plan_retraining(other).out.name.startswith("00002-")
    (tmp_path / "labels.csv").write_text("file_name,labels\nb.jpg,cat\n")
    assert plan_retraining(settings).out.name.startswith("00002-")


HIGHER, LOWER, UNCLEAR = (0.02, 0.2), (-0.2, -0.02), (-0.02, 0.2)


def comparison(corloc: tuple[float, float], recall: tuple[float, float]) -> dict[str, Any]:
    """A comparison in which the differences have these intervals."""

    def figure(low: float, high: float) -> dict[str, Any]:
        middle = (low + high) / 2
        clear = low > 0 or high < 0
        return {"first": 0.5, "second": 0.5 + middle, "difference": middle, "ci95": [low, high], "is_clear": clear}

    truth = {"pairs": 40, "corloc_0.5": figure(*corloc), "instance_recall_at_1_fp": figure(*recall)}
    return {"pairs": {"both": 4, "same": 3}, "truth": truth}


@pytest.mark.parametrize(
    ("corloc", "recall", "better", "words"),
    [
        (HIGHER, UNCLEAR, True, "The new model is better."),
        (HIGHER, HIGHER, True, "The new model is better."),
        (UNCLEAR, HIGHER, True, "The new model is better."),
        (LOWER, UNCLEAR, False, "The new model is worse."),
        (UNCLEAR, LOWER, False, "The new model is worse."),
        (HIGHER, LOWER, None, "One is better, the other worse; a person decides."),
        (LOWER, HIGHER, None, "One is better, the other worse; a person decides."),
        (UNCLEAR, UNCLEAR, None, "This may be chance; a person decides."),
    ],
)
def test_a_clear_difference_on_ground_truth_decides(
    settings: RetrainSettings,
    corloc: tuple[float, float],
    recall: tuple[float, float],
    better: bool | None,
    words: str,
) -> None:
    result = evaluate_retraining(settings, settings.runs / "new", comparison(corloc, recall), None)
    assert result.is_better is better
    assert words in result.reason


def test_the_decision_names_both_figures_with_their_intervals(settings: RetrainSettings) -> None:
    reason = evaluate_retraining(settings, settings.runs / "new", comparison(HIGHER, UNCLEAR), None).reason
    assert reason.startswith("On 40 pairs: CorLoc 61.0% against 50.0%, difference +11.0% (+2.0% to +20.0%); recall of")
    assert "at one false box per image 59.0% against 50.0%, difference +9.0% (-2.0% to +20.0%)" in reason


def test_without_ground_truth_or_a_run_in_use_a_person_decides(settings: RetrainSettings) -> None:
    without_truth = {**comparison(HIGHER, HIGHER), "truth": None}
    result = evaluate_retraining(settings, settings.runs / "new", without_truth, None)
    assert (result.is_better, "3 of 4 pairs" in result.reason) == (None, True)
    without_run = evaluate_retraining(settings, settings.runs / "new", None, None)
    assert (without_run.is_better, without_run.reason.endswith("a person decides.")) == (None, True)
