"""Score a run against a truth."""

from typing import Any

from mining.config import ScoreSettings
from tasks.scoring import score_boxes


def score(settings: ScoreSettings) -> dict[str, Any]:
    """CorLoc and COCO figures of a finished run."""
    return score_boxes(settings)
