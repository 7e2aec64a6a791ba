"""Score a run against a ground truth."""

from mining.config import ScoreSettings
from mining.evaluation.scores import Scores
from tasks.orchestration import report, step
from tasks.progress import Stage


@step(name="score")
def score_boxes(settings: ScoreSettings) -> Scores:
    """Compute CorLoc, precision, COCO figures and more, and write them to scores.json."""
    from mining.evaluation import job as evaluation_job

    scores = evaluation_job.score(settings, Stage("maps", 1).reach) if settings.maps else evaluation_job.score(settings)
    report(_show_scores, scores)
    return scores


def _show_scores(scores: Scores) -> None:
    from prefect.artifacts import create_table_artifact

    from mining.reporting.score_rows import HEADINGS, score_rows, verdict

    rows = [dict(zip(HEADINGS, row, strict=True)) for row in score_rows(scores)]
    create_table_artifact(rows, key="scores", description=verdict(scores))
