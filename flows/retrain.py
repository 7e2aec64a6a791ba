"""A new model: once a week, say."""

from flows.run import run
from mining.config import RetrainSettings
from mining.experiments.retraining import RetrainResult
from tasks.comparing import compare_runs
from tasks.retraining import evaluate_retraining, plan_retraining, publish_summary


def retrain(settings: RetrainSettings) -> RetrainResult:
    """Train a model, mine with it, and say whether its boxes are better than those in use; nothing is replaced."""
    new = plan_retraining(settings)
    run(new)
    wanted = settings.comparison(new.out)
    summary, page = (None, None) if wanted is None else compare_runs(wanted)
    found = evaluate_retraining(settings, new.out, summary, page)
    publish_summary(found)
    return found
