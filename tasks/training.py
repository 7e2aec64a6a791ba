"""Train a localizer."""

from mining.config import TrainSettings
from mining.results import TrainingSummary
from tasks.orchestration import orchestrated, step
from tasks.progress import Stage


@step(name="train")
def train_localizer(settings: TrainSettings) -> TrainingSummary:
    """Fit the localizer and write the model folder; an unfinished training is carried on."""
    from mining import jobs

    if orchestrated():
        # processes forked beside Prefect's threads end with code 1, which the loader takes for a failure
        settings = settings.model_copy(update={"workers": 0})
    stage = Stage("train", settings.epochs)
    return jobs.train(settings, progress=lambda done, total, text: stage.reach(done, total, text))
