"""Reliability diagrams of a report: how often boxes of a probability, or of a score, are correct."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Floats
from mining.evaluation.scores import ScoreBin, Scores
from mining.quality.audit import outcomes_at_random
from mining.quality.calibration import Calibration, CalibrationFigures
from mining.quality.estimates import share_interval
from mining.quality.reliability import ReliabilityBin, reliability_bins
from mining.quality.verdicts import VERDICTS_FILE, open_verdicts
from mining.runs.run import Run
from mining.storage.parquet import iter_batches

FEWEST_VERDICTS = 30  # from which on scores are compared with verdicts


@dataclass(frozen=True)
class Point:
    """Boxes of about the same prediction.

    Attributes:
        low: Lowest prediction.
        high: Highest prediction.
        predicted: Their mean prediction.
        observed: Share of them that are correct, or mean IoU.
        ci95: Interval of the share; None of an IoU.
        boxes: Number of judged boxes.
    """

    low: float
    high: float
    predicted: float
    observed: float
    ci95: tuple[float, float] | None
    boxes: int

    @property
    def radius(self) -> float:
        """Of the drawn point, in px: it grows with the number of boxes."""
        return min(9.0, 2.5 + np.sqrt(self.boxes) / 5)


@dataclass(frozen=True)
class Diagram:
    """A reliability diagram.

    Attributes:
        title: Heading.
        across: What is predicted.
        up: What was observed.
        points: Lowest prediction first.
        sentence: What it says.
        is_probability: Whether points of a good prediction lie on the diagonal.
    """

    title: str
    across: str
    up: str
    points: list[Point]
    sentence: str
    is_probability: bool


def build_diagrams(run: Run, scores: Scores | None) -> list[Diagram]:
    """Return the diagrams that verdicts or ground truth allow.

    Args:
        run: A finished run.
        scores: Its scores, if it was scored.

    Returns:
        Of p_correct (and of expected_iou, where it is known) if the run is calibrated; of the score, by ground truth
        or else by verdicts.

    Raises:
        InputError: calibration.json or the verdicts are damaged.
    """
    figures = Calibration.load(run.calibration).figures if run.calibration.is_file() else None
    diagrams = [] if figures is None else _of_calibration(figures)
    of_score = (None if scores is None else _of_truth(scores)) or _of_verdicts(run)
    return [*diagrams, *([of_score] if of_score is not None else [])]


def _of_calibration(figures: CalibrationFigures) -> list[Diagram]:
    sentence = (
        f"Boxes differ from their probability by {100 * figures['ece']:.1f} points on average; by chance alone "
        f"{100 * figures['ece_by_chance']:.1f} points, for {figures['boxes']:,} judged boxes on "
        f"{figures['images']:,} images. Each was predicted without what is known of its image."
    )
    found = [
        Diagram(
            "Calibrated probability", "mean p_correct", "share of correct boxes",
            _points(figures["reliability"], of_share=True), sentence, True,
        )
    ]  # fmt: skip
    if figures["reliability_iou"]:
        points = _points(figures["reliability_iou"], of_share=False)
        found.append(
            Diagram("Expected IoU", "mean expected_iou", "mean IoU", points, "The same of the expected IoU.", True)
        )
    return found


def _points(bins: Sequence[ReliabilityBin | ScoreBin], *, of_share: bool) -> list[Point]:
    return [
        Point(
            one["low"], one["high"], one["predicted"], one["observed"],
            share_interval(one["observed"], one["boxes"]) if of_share else None, one["boxes"],
        )
        for one in bins
    ]  # fmt: skip


def _of_truth(scores: Scores) -> Diagram | None:
    bins = scores.get("precision_by_score")
    return _of_score(_points(bins, of_share=True), f"the ground truth {scores['truth']['file']}") if bins else None


def _of_verdicts(run: Run) -> Diagram | None:
    if not (run.path / VERDICTS_FILE).is_file():
        return None
    with open_verdicts(run.path, to_write=False) as store:
        decided = outcomes_at_random(run, store).decided
    if len(decided) < FEWEST_VERDICTS:
        return None
    scores, is_correct = _scores_of(run, decided)
    points = _points(reliability_bins(scores, is_correct), of_share=True)
    return _of_score(points, f"{len(decided):,} boxes that people judged")


def _scores_of(run: Run, decided: dict[int, bool]) -> tuple[Floats, Floats]:
    selected = pa.array(list(decided), pa.int64())
    scores, is_correct = [], []
    for batch in iter_batches(run.annotations, ["annotation_id", "score"]):
        kept = batch.filter(pc.is_in(batch["annotation_id"], value_set=selected))
        scores += kept["score"].to_pylist()
        is_correct += [decided[one] for one in kept["annotation_id"].to_pylist()]
    return np.array(scores, np.float64), np.array(is_correct, np.float64)


def _of_score(points: list[Point], source: str) -> Diagram:
    first, last = points[0], points[-1]
    sentence = (
        f"Of the boxes that score {first.low:.2f} to {first.high:.2f}, {100 * first.observed:.0f} % are correct; of "
        f"those that score {last.low:.2f} to {last.high:.2f}, {100 * last.observed:.0f} %. By {source}."
    )
    return Diagram("Score", "score", "share of correct boxes", points, sentence, False)
