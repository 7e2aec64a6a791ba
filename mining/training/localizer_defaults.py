"""Settings of a training whose default is the localizer's, as far as they are known without torch."""

from mining.config import TrainOptions, TrainSettings
from mining.localizers.option_values import end_of_stage_one, options_of, rate_of_stage_two

RESTART_RATE = 0.1  # share of the learning rate that a schedule restarts with


def with_localizer_defaults(settings: TrainSettings) -> TrainSettings:
    """Return the settings with the options, and the restart and its rate, that the localizer decides.

    They are recorded with the model, because another default is another training.

    Raises:
        ModelError: The localizer or an option is unknown, or a value is invalid.
    """
    options = options_of(settings.localizer, settings.options)  # the command line's "0.5" is a recipe's 0.5
    restart = settings.restart or None
    if settings.restart is None and settings.schedule != "plateau":
        restart = end_of_stage_one(settings.localizer, options)
    return settings.model_copy(
        update={"options": options, "restart": restart, "restart_rate": restart_rate_of(settings)}
    )


def restart_rate_of(settings: TrainOptions) -> float:
    """Return the share of the learning rate that a schedule restarts with, in (0, 1].

    Raises:
        ModelError: The localizer or an option is unknown, or a value is invalid.
    """
    return settings.restart_rate or rate_of_stage_two(settings.localizer, settings.options) or RESTART_RATE
