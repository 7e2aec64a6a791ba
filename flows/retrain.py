"""A new model: once a week, say."""

from flows.run import run
from mining.config import RetrainSettings
from mining.experiments.retraining import Retrained
from tasks.comparing import compare_runs
from tasks.retraining import judge, plan_retraining, tell


def retrain(settings: RetrainSettings) -> Retrained:
    """Train a model, mine with it, and say whether its boxes are better than those in use; nothing is replaced."""
    new = plan_retraining(settings)
    run(new)
    wanted = settings.comparison(new.out)
    summary, page = (None, None) if wanted is None else compare_runs(wanted)
    found = judge(settings, new.out, summary, page)
    tell(found)
    return found
