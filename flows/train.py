"""Train a localizer from image-level labels."""

from mining.config import TrainSettings
from mining.training.summary import TrainingSummary
from tasks.training import train_localizer


def train(settings: TrainSettings) -> TrainingSummary:
    """Train the localizer and write the model folder."""
    return train_localizer(settings)
