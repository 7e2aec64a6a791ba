"""Run a recipe: from images to scored boxes and their report."""

from flows.mine import mine
from mining.config import RunSettings, ScoreSettings
from mining.evaluation.scores import Scores
from mining.runs.summaries import MineSummary
from tasks.reporting import write_report
from tasks.scoring import score_boxes
from tasks.training import train_localizer


def run(settings: RunSettings) -> tuple[MineSummary, Scores | None]:
    """Train unless the recipe names a model, mine, score if there is ground truth, and write the report."""
    if settings.model is None:
        train_localizer(settings.train_settings())
    summary = mine(settings.mine_settings())
    scores = None
    if settings.truth is not None:
        scores = score_boxes(ScoreSettings(run=settings.out, truth=settings.truth, classes_from=settings.classes_from))
    write_report(settings.out, settings.truth)
    return summary, scores
