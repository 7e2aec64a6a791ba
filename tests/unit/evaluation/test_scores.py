"""The types, the writer and the checked reader of scores.json."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mining.errors import RunError
from mining.evaluation import read_scores, score_run, write_scores
from mining.runs.run import Run
from tests.unit.evaluation.conftest import World


@pytest.fixture
def scored(world: World) -> Path:
    run, truth = world.write()
    write_scores(run, score_run(run, truth, resamples=20))
    return run


def test_what_is_written_is_read_back(scored: Path) -> None:
    assert read_scores(Run(scored)) == json.loads((scored / "scores.json").read_text())


def test_a_run_that_was_not_scored_has_none(world: World) -> None:
    run, _ = world.write()
    assert read_scores(Run(run)) is None


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda scores: scores.pop("corloc"), "corloc: Field required"),
        (lambda scores: scores["corloc"].update(value="high"), "corloc.value"),
        (lambda scores: scores["precision_by_min_score"].append({}), r"precision_by_min_score\.\d+\.min_score"),
        (lambda scores: scores.update(notes=None), "notes"),
    ],
)
def test_a_file_that_is_not_as_written_is_refused_with_the_place(
    scored: Path, change: Callable[[dict[str, Any]], Any], where: str
) -> None:
    scores = json.loads((scored / "scores.json").read_text())
    change(scores)
    (scored / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(RunError, match=rf"scores\.json is damaged \({where}.*run the `boxmine score` command again"):
        read_scores(Run(scored))


def test_parts_that_earlier_versions_did_not_write_may_be_missing(scored: Path) -> None:
    scores = json.loads((scored / "scores.json").read_text())
    for name in ("precision", "precision_by_min_score", "voc", "breakdown", "charts", "thresholds", "localization"):
        scores.pop(name)
    scores["truth"].pop("path")
    (scored / "scores.json").write_text(json.dumps(scores))
    assert read_scores(Run(scored)) == scores


def test_both_engines_give_equal_scores(world: World) -> None:
    run, truth = world.write()
    ours, reference = (score_run(run, truth, engine=engine, resamples=20) for engine in ("boxmine", "pycocotools"))
    reference["notes"] = [note for note in reference["notes"] if "computed by pycocotools" not in note]
    assert ours == reference
