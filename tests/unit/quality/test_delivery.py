"""Subsets of boxes that keep a promised precision."""

import json
from pathlib import Path

import numpy as np
import pytest

from mining.errors import InputError
from mining.export import export
from mining.quality.delivery import largest_subset, subset_of_run
from mining.quality.estimates import Sample
from mining.quality.recording import record_verdicts
from mining.quality.sampling import draw_boxes, stratify
from tests.unit.quality.test_audit import fill, mined_run, planned, truth
from tests.unit.quality.test_sampling import population


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return mined_run(tmp_path)


@pytest.mark.parametrize(("precision", "least"), [(0.6, 0.75), (0.75, 0.3)])
def test_the_promise_is_kept_and_subsets_are_large(precision: float, least: float) -> None:
    category, score = population(2000)
    is_correct = np.random.default_rng(1).random(2000) < 0.3 + 0.7 * score
    strata, random = stratify(category, score, 200), np.random.default_rng(2)
    kept, shares = [], []
    for _ in range(200):
        drawn = draw_boxes(strata, 200, random)
        subset, _tested = largest_subset(score, Sample(0.3 + 0.7 * score, drawn, is_correct[drawn]), precision)
        inside = score >= (2 if subset is None else subset.min_score)
        kept.append(subset is None or is_correct[inside].mean() >= precision)
        shares.append(inside.mean())
        assert subset is None or subset.boxes == inside.sum()
    assert np.mean(kept) >= 0.95
    assert np.mean(shares) > least


@pytest.mark.parametrize("verdicts", [60, 200])
def test_the_promise_is_kept_where_the_score_says_nothing(verdicts: int) -> None:
    """All subsets have about the same precision, a little below what is asked for."""
    category, score = population(5000)
    is_correct = np.random.default_rng(1).random(5000) < 0.8
    strata, random, kept = stratify(category, score, verdicts), np.random.default_rng(2), []
    for _ in range(300):
        drawn = draw_boxes(strata, verdicts, random)
        subset, _tested = largest_subset(score, Sample(np.full(5000, 0.8), drawn, is_correct[drawn]), 0.81)
        inside = score >= (2 if subset is None else subset.min_score)
        kept.append(subset is None or is_correct[inside].mean() >= 0.81)
    assert np.mean(kept) >= 0.95


def test_all_boxes_are_delivered_where_all_are_good_and_none_where_none_is() -> None:
    category, score = population(1000)
    drawn = draw_boxes(stratify(category, score, 200), 200, np.random.default_rng(0))
    subset, tested = largest_subset(score, Sample(score, drawn, np.ones(200, bool)), 0.9)
    assert subset is not None
    assert (subset.min_score, subset.boxes) == (0, 1000)
    sizes = [one.boxes for one in tested]
    assert sizes == sorted(sizes)
    assert sizes[0] == pytest.approx(300, abs=5)
    assert largest_subset(score, Sample(score, drawn, np.zeros(200, bool)), 0.1)[0] is None


def test_the_first_subset_has_enough_verdicts_to_pass_with_some_that_are_wrong() -> None:
    category, score = population(5000)
    for verdicts, precision in ((50, 0.9), (100, 0.9), (200, 0.95), (2000, 0.9), (30, 0.99)):
        drawn = draw_boxes(stratify(category, score, verdicts), verdicts, np.random.default_rng(0))
        _subset, tested = largest_subset(score, Sample(score, drawn, np.ones(verdicts, bool)), precision)
        first = tested[0].precision
        assert first.ci95[0] > precision + 0.3 * (1 - precision) or first.verdicts == verdicts


def test_an_export_has_the_subset_and_says_what_was_promised(run: Path) -> None:
    record_verdicts(run, fill(planned(run, verdicts=120), truth), "Ada")
    subset = subset_of_run(run, 0.6)
    summary = export(run, "coco", run.parent / "set", min_precision=0.6)
    assert summary.boxes == subset.boxes < 120
    assert subset.precision.ci95 == pytest.approx((subset.precision.value,) * 2)  # every box was judged
    assert "a precision of at least 0.6 with 95 % confidence" in " ".join(summary.notes)
    readme = (run.parent / "set" / "README.md").read_text()
    assert "at least 0.6 with 95 % confidence" in " ".join(readme.split())


def test_a_promise_that_cannot_be_made_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match="too few verdicts"):
        export(run, "coco", run.parent / "set", min_precision=0.9)
    record_verdicts(run, fill(planned(run, verdicts=40), truth), "Ada")
    with pytest.raises(InputError, match=r"No subset .* at least 0\.99 .* from 40 verdicts\. Nearest: the \d+ boxes"):
        export(run, "coco", run.parent / "set", min_precision=0.99)
    with pytest.raises(InputError, match="between 0 and 1"):
        export(run, "coco", run.parent / "set", min_precision=90)
    with pytest.raises(InputError, match="not both"):
        export(run, "coco", run.parent / "set", min_precision=0.5, min_score=0.2)
    assert not (run.parent / "set").exists()
    assert json.loads((run / "run.json").read_text())["state"] == "finished"


def test_a_refusal_names_a_number_of_verdicts_only_if_some_subset_is_good_enough(run: Path) -> None:
    record_verdicts(run, fill(planned(run, verdicts=60), truth), "Ada")
    with pytest.raises(InputError, match=r"About \d+ verdicts might be enough"):  # the best-scored quarter is correct
        subset_of_run(run, 0.97)
    record_verdicts(run, fill(planned(run, "second.csv", verdicts=60), lambda _: "nothing", "other.csv"), "Bea")
    record_verdicts(run, fill(run.parent / "plan.csv", lambda _: "nothing"), "Ada")
    with pytest.raises(InputError, match="More verdicts will hardly change that"):
        subset_of_run(run, 0.97)
