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


def comparison(difference: float, ci95: list[float]) -> dict[str, Any]:
    figure = {"first": 0.5, "second": 0.5 + difference, "difference": difference, "ci95": ci95}
    clear = {"is_clear": ci95[0] > 0 or ci95[1] < 0}
    return {"pairs": {"both": 4, "same": 3}, "truth": {"pairs": 40, "corloc_0.5": {**figure, **clear}}}


@pytest.mark.parametrize(
    ("difference", "ci95", "better", "words"),
    [
        (0.1, [0.02, 0.2], True, "the new model is better"),
        (-0.1, [-0.2, -0.02], False, "the new model is worse"),
        (0.1, [-0.02, 0.2], None, "may be chance; a person decides"),
    ],
)
def test_a_clear_difference_on_ground_truth_decides(
    settings: RetrainSettings, difference: float, ci95: list[float], better: bool | None, words: str
) -> None:
    result = evaluate_retraining(settings, settings.runs / "new", comparison(difference, ci95), None)
    assert result.is_better is better
    assert words in result.reason


def test_without_ground_truth_or_a_run_in_use_a_person_decides(settings: RetrainSettings) -> None:
    without_truth = {**comparison(0.1, [0.02, 0.2]), "truth": None}
    result = evaluate_retraining(settings, settings.runs / "new", without_truth, None)
    assert (result.is_better, "3 of 4 pairs" in result.reason) == (None, True)
    without_run = evaluate_retraining(settings, settings.runs / "new", None, None)
    assert (without_run.is_better, without_run.reason.endswith("a person decides.")) == (None, True)
