"""Score a run against ground truth."""

from mining.config import ScoreSettings
from mining.evaluation.scores import Scores
from tasks.scoring import score_boxes


def score(settings: ScoreSettings) -> Scores:
    """Return the metrics of a finished run."""
    return score_boxes(settings)
