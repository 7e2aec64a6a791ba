"""The options of mining that a detector has, and those that are for localizers alone."""

from mining.config import MapOptions, MineOptions
from mining.errors import ModelError
from mining.models.card import ModelCard, is_detector

_OF_DETECTORS = {"classes", "map"}
_OF_LOCALIZERS = {*MapOptions.model_fields, "threshold", "class_thresholds", "rank_by", "parts"} - _OF_DETECTORS


def refuse_map_options(options: MineOptions, card: ModelCard) -> None:
    """Raise ModelError if an option of activation maps is set and the model is a detector, which has none."""
    if not is_detector(card):
        return
    fields = type(options).model_fields
    defaults = {name: fields[name].get_default(call_default_factory=True) for name in fields if name in _OF_LOCALIZERS}
    given = [name for name, default in defaults.items() if getattr(options, name) != default]
    if given:
        raise ModelError(
            f"--{given[0].replace('_', '-')} is for localizers: the model is a detector ({card.localizer}), which has "
            "no activation maps."
        )
