"""Score a run against ground truth."""

from typing import Any

from mining.config import ScoreSettings
from tasks.scoring import score_boxes


def score(settings: ScoreSettings) -> dict[str, Any]:
    """Return the metrics of a finished run, as scores.json holds them."""
    return score_boxes(settings)
