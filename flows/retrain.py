"""Train a new model and compare it with the one in use, for example every week."""

from flows.run import run
from mining.config import RetrainSettings
from mining.experiments.retraining import RetrainResult
from tasks.comparing import compare_runs
from tasks.orchestration import step
from tasks.retraining import publish_summary


def retrain(settings: RetrainSettings) -> RetrainResult:
    """Train a model, mine with it, and say whether its boxes are better than those in use; nothing is replaced."""
    from mining.experiments import retraining

    run_settings = step(name="plan retraining")(retraining.plan_retraining)(settings)
    run(run_settings)
    comparison = settings.comparison(run_settings.out)
    summary, page = (None, None) if comparison is None else compare_runs(comparison)
    result = step(name="judge")(retraining.evaluate_retraining)(settings, run_settings.out, summary, page)
    publish_summary(result)
    return result
