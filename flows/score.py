"""Score a run against a truth."""

from mining.config import ScoreSettings
from mining.evaluation.scores import Scores
from tasks.scoring import score_boxes


def score(settings: ScoreSettings) -> Scores:
    """CorLoc and COCO figures of a finished run."""
    return score_boxes(settings)
