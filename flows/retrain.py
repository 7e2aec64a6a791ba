"""A new model: once a week, say."""

from flows.run import run
from mining.config import RetrainSettings
from mining.results import Retrained
from tasks.comparing import compare_runs
from tasks.retraining import in_use, judge, plan_retraining, tell


def retrain(settings: RetrainSettings) -> Retrained:
    """Train a model, mine with it, and say whether its boxes are better than those in use; nothing is replaced."""
    new = plan_retraining(settings)
    run(new)
    summary, page = None, None
    if in_use(settings):
        summary, page = compare_runs(settings.comparison(new.out))
    found = judge(settings, new.out, summary, page)
    tell(found)
    return found
