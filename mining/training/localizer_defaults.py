"""Settings of a training whose default is the localizer's, as far as they are known without torch."""

from mining.config import TrainOptions, TrainSettings
from mining.localizers.option_values import end_of_stage_one, options_of, rate_of_stage_two
from mining.localizers.registry import LOCALIZERS, refuse_unknown_localizer

RESTART_RATE = 0.1  # share of the learning rate that a schedule restarts with


def with_localizer_defaults(settings: TrainSettings) -> TrainSettings:
    """Return the settings with the options, the epochs, and the restart and its rate, that the localizer decides.

    They are recorded with the model, because another default is another training.

    Raises:
        ModelError: The localizer or an option is unknown, or a value is invalid.
    """
    options = options_of(settings.localizer, settings.options)  # the command line's "0.5" is a recipe's 0.5
    restart = settings.restart or None
    if settings.restart is None and settings.schedule != "plateau":
        restart = end_of_stage_one(settings.localizer, options)
    rate = settings.restart_rate or rate_of_stage_two(settings.localizer, options) or RESTART_RATE
    return settings.model_copy(
        update={"options": options, "epochs": epochs_of(settings), "restart": restart, "restart_rate": rate}
    )


def epochs_of(settings: TrainOptions) -> int:
    """Return the number of epochs: the settings' or, if they leave it open, the localizer's.

    Raises:
        ModelError: The localizer is unknown.
    """
    refuse_unknown_localizer(settings.localizer)
    return settings.epochs or LOCALIZERS[settings.localizer].epochs
