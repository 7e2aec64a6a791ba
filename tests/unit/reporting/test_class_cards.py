"""One card per class."""

from pathlib import Path

import numpy as np
import pytest

from mining.config import ScoreSettings
from mining.evaluation.job import score
from mining.evaluation.scores import read_scores
from mining.quality.audit import estimate_audit
from mining.quality.calibration import calibrate
from mining.quality.estimates import share_interval
from mining.quality.table import apply_calibration, read_boxes_with_quality
from mining.reporting.class_cards import ClassCard, build_cards, histogram_path, mean_p_correct
from mining.reporting.corpus_counts import CorpusCounts, count_images
from mining.reporting.report_page import write_report
from mining.reporting.statistics import CLASS_CELLS, ClassStatistics, count_boxes
from mining.runs.run import Run
from tests.unit.quality.small_run import SmallRun, generated_run
from tests.unit.reporting.conftest import CLASSES, Mined, mine


def cards_of(run: Run) -> dict[str, ClassCard]:
    statistics = count_boxes(run.annotations)
    counts = count_images(run.corpus, statistics.by_people, most=1)
    return {card.name: card for card in build_cards(run, statistics, counts, read_scores(run), None, {"dog": 4})}


def test_a_card_says_how_many_of_its_images_have_a_box(mined: Mined, model: Path) -> None:
    every = cards_of(Run(mined.run))
    assert [(card.listed, card.found) for card in every.values()] == [(3, 3), (3, 2)], "one image cannot be read"
    assert every["dog"].coverage == pytest.approx(2 / 3)
    assert (every["dog"].pictures, every[CLASSES[0]].pictures) == (4, 0)
    assert every["dog"].precision is every["dog"].corloc is every["dog"].p_correct is None
    none = cards_of(Run(mine(mined.images.parent, model, "empty", min_score=1.0)))
    assert [(card.boxes, card.coverage, card.median, card.histogram) for card in none.values()] == [
        (0, 0, None, "")
    ] * 2


def test_corloc_has_the_interval_of_its_pairs(mined: Mined) -> None:
    score(ScoreSettings(run=mined.run, truth=mined.truth))
    run = Run(mined.run)
    scores = read_scores(run)
    assert scores is not None
    for name, card in cards_of(run).items():
        corloc = scores["corloc"]["per_class"][name]
        assert card.corloc is not None
        assert (card.corloc.value, card.corloc.number) == (corloc["value"], corloc["pairs"])
        assert card.corloc.ci95 == share_interval(corloc["value"], corloc["pairs"])
        assert card.true_precision is not None
        assert card.true_precision.ci95 is None
    write_report(mined.run)
    assert mined.page().text.count("Coverage") == 3, "in both cards and in their explanation"


def test_p_correct_is_the_mean_over_the_boxes_of_the_class(tmp_path: Path) -> None:
    small, is_correct = generated_run(tmp_path / "run")
    run = small.write()
    assert mean_p_correct(run, ["cat", "dog"]) == {}
    signals = read_boxes_with_quality(run)
    calibrated = apply_calibration(
        run, calibrate(signals, is_correct, None, signals["file_name"].to_pylist())
    ).to_pandas()
    expected = calibrated.groupby("category").p_correct.mean().to_dict()
    assert mean_p_correct(run, ["cat", "dog"]) == pytest.approx(expected)
    assert cards_of(run)["cat"].p_correct == pytest.approx(expected["cat"])


def test_a_class_that_nobody_judged_has_no_precision(tmp_path: Path) -> None:
    small = SmallRun(tmp_path / "run")
    small.boxes = [("a.jpg", "cat", (10, 10, 20, 20), {})]
    run = small.write()
    found = build_cards(run, count_boxes(run.annotations), CorpusCounts(), None, estimate_audit(run.path), {})
    assert [(card.name, card.precision, card.coverage) for card in found] == [("cat", None, None)]


def test_the_histogram_has_a_bar_for_every_range_with_a_box() -> None:
    counts = np.zeros(CLASS_CELLS, np.int64)
    counts[[0, 3, 50]] = 1, 999, 1
    path = histogram_path(ClassStatistics(boxes=1001, scores=counts))
    assert path == "M0.5 30v-30.0h9v30.0zM100.5 30v-1.0h9v1.0z"
