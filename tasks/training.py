"""The task that trains a localizer, in a process of its own where needed."""

from typing import Any

from mining.config import TrainSettings
from mining.training.summary import TrainingSummary
from tasks import trainer
from tasks.orchestration import orchestrated, step
from tasks.progress import Stage
from tasks.training_process import refuse_torchrun, train_in_subprocess


@step(name="train")
def train_localizer(settings: TrainSettings) -> TrainingSummary:
    """Fit the localizer and write the model folder; resumes an unfinished training."""
    stage = Stage("train", settings.epochs)
    return train_in_suitable_process(settings, progress=lambda done, total, text: stage.reach(done, total, text))


def train_in_suitable_process(
    settings: TrainSettings, progress: Any = lambda done, total, text: None
) -> TrainingSummary:
    """Run `mining.training.job.train`, in a process of its own under Prefect and for several devices.

    Under Prefect, loader workers are forked beside Prefect's threads and end with code 1, which the loader takes for a
    failure.

    Args:
        settings: What to train.
        progress: Called after each step with steps done, steps planned and a text.

    Raises:
        InputError: The command was started by torchrun, which starts all processes at once.
        ProcessLostError: The training process ended without a result.
    """
    from mining.training.distributed import is_distributed

    refuse_torchrun()
    if orchestrated() or is_distributed(settings):
        summary: TrainingSummary = train_in_subprocess(
            trainer.train_localizer, settings.model_dump_json(), progress=progress
        )
        return summary
    from mining.training.job import train

    return train(settings, progress)
