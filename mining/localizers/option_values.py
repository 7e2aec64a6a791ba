"""Values of a localizer's options: checked, completed by presets, and recorded with a model; imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from mining.config import EarlierVersions, Objective
from mining.errors import ModelError, did_you_mean
from mining.localizers.options import OPTIONS
from mining.localizers.registry import refuse_unknown_localizer

C = TypeVar("C", bound=Any)  # a frozen dataclass


def build_config(kind: type[C], options: Mapping[str, Any]) -> C:
    """Build a localizer's frozen config from options, each checked against the type of its field.

    Options that are not given have the defaults of the preset, where the config has presets.

    Raises:
        ModelError: An option is unknown (the message has the nearest name) or its value is invalid.
    """
    names = [field.name for field in fields(kind)]
    for name in options:
        if name not in names:
            raise ModelError(f"Unknown option {name!r} of the localizer: {did_you_mean(name, names)}")
    try:
        return TypeAdapter(kind).validate_python({**_preset(kind, options), **options})
    except ValidationError as error:
        fault = error.errors()[0]
        raise ModelError(
            f"Option {fault['loc'][0]!r} of the localizer: {fault['msg']} (got {fault['input']!r})."
        ) from None


def _preset(kind: type[Any], options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The defaults of the preset that the options name."""
    presets: Mapping[str, Mapping[str, Any]] = getattr(kind, "PRESETS", {})
    return next((defaults for name, defaults in presets.items() if name == options.get("preset")), {})


def options_of(localizer: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as a training records them: those given, and those whose default has changed.

    Args:
        localizer: Its name.
        options: The options given.

    Returns:
        Values by name, each converted to the type of its field.

    Raises:
        ModelError: The localizer or an option is unknown, or a value is invalid.
    """
    refuse_unknown_localizer(localizer)
    config = build_config(OPTIONS[localizer], options)
    return {name: getattr(config, name) for name in with_changed_defaults(localizer, options)}


def end_of_stage_one(localizer: str, options: Mapping[str, Any]) -> float | None:
    """Return the share of the epochs after which a training enters its second stage; None if it has one stage only."""
    share: float | None = getattr(build_config(OPTIONS[localizer], options), "end_of_stage_one", None)
    return share


def rate_of_stage_two(localizer: str, options: Mapping[str, Any]) -> float | None:
    """Return the share of the learning rate that a training's second stage begins with; None if it has one only."""
    rate: float | None = getattr(build_config(OPTIONS[localizer], options), "rate_of_stage_two", None)
    return rate


def with_changed_defaults(localizer: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, and the present default of each changed one that is not given."""
    present = {**asdict(OPTIONS[localizer]()), **_preset(OPTIONS[localizer], options)} if localizer in OPTIONS else {}
    return {**{name: present[name] for name in earlier_defaults(localizer)}, **options}


def recorded_options(localizer: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a record, with the earlier default of each changed one that the record lacks."""
    return {**earlier_defaults(localizer), **options}


def options_for_objective(localizer: str, options: Mapping[str, Any], objective: Objective) -> dict[str, Any]:
    """Return the options, with those that images with several labels need unless they are given."""
    needed = getattr(OPTIONS.get(localizer), "SEVERAL_LABELS", {}) if objective == "multi" else {}
    return {**needed, **options}


@cache
def earlier_defaults(localizer: str) -> dict[str, Any]:
    """Return the earlier default of each option whose default has changed, by name; none of an unknown localizer."""
    return {
        name: mark.value
        for name, hint in get_type_hints(OPTIONS.get(localizer, object), include_extras=True).items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, EarlierVersions)
    }
