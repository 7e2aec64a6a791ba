"""Score a run against a truth."""

from typing import Any

from mining.config import ScoreSettings
from tasks.orchestration import report, step
from tasks.progress import Stage


@step(name="score")
def score_boxes(settings: ScoreSettings) -> dict[str, Any]:
    """CorLoc and COCO figures, written to scores.json."""
    from mining.evaluation import job as evaluation_job

    scores = evaluation_job.score(settings, Stage("maps", 1).reach) if settings.maps else evaluation_job.score(settings)
    report(_show_table, scores)
    return scores


def _show_table(scores: dict[str, Any]) -> None:
    from prefect.artifacts import create_table_artifact

    from mining.evaluation import table_rows

    rows = [dict(zip(("figure", "value", "meaning"), row, strict=True)) for row in table_rows(scores)]
    create_table_artifact(rows, key="scores", description="Scores against the truth")


def score_table(scores: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (figure, value, meaning) for a terminal."""
    from mining.evaluation import table_rows

    return table_rows(scores)
