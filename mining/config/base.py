"""Base class of all settings, and messages for invalid values."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from mining.config.checks import check_storable, format_value
from mining.config.recipes import MayBePath, resolve_setting
from mining.errors import InputError, did_you_mean

S = TypeVar("S", bound="Settings")
Objective = Literal["single", "multi"]
Options = dict[str, Any]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Settings(BaseModel):
    """Base class of all settings: unknown names are refused, and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _resolve_recipe_paths(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        marks = {name: path_mark(field) for name, field in cls.model_fields.items()}
        return {
            name: resolve_setting(value, mark) if (mark := marks.get(name)) else value for name, value in values.items()
        }

    @field_validator("*")
    @classmethod
    def _check_storable(cls, value: Any) -> Any:
        check_storable(value)
        return value


def path_mark(field: FieldInfo) -> MayBePath | None:
    """Return how to decide whether a text for the field is a path; None if it never is one."""
    for part in (field.annotation, *get_args(field.annotation), *field.metadata):
        marks = [part, *get_args(part)]
        if mark := next((mark for mark in marks if isinstance(mark, MayBePath)), None):
            return mark
    return MayBePath() if Path in (field.annotation, *get_args(field.annotation)) else None


def resolve_path(path: Path) -> Path:
    """Return the absolute path without links, so that a command resumes from any working directory."""
    return Path(os.path.realpath(path))


def parse(kind: type[S], values: dict[str, Any]) -> S:
    """Validate `values`. Raises InputError with one sentence per error."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(format_validation_errors(kind, error)) from None


def format_validation_errors(kind: type[Settings], error: ValidationError) -> str:
    """Return one sentence per error, with the value and, for unknown names, the nearest known name."""
    faults = error.errors()
    places = [fault["loc"] for fault in faults]

    def follows_from_another(fault: Any) -> bool:
        """Whether a list is too short because pydantic leaves out wrong items, which have an error of their own."""
        length = len(fault["loc"])
        return fault["type"] == "too_short" and any(len(p) > length and p[:length] == fault["loc"] for p in places)

    return " ".join(_format_error(kind, fault) for fault in faults if not follows_from_another(fault))


def _format_error(kind: type[Settings], fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or kind.__name__
    if fault["type"] == "extra_forbidden":
        return f"Unknown setting {place!r}: {did_you_mean(str(fault['loc'][-1]), _names_at(kind, fault['loc'][:-1]))}"
    reason = re.sub(r"^Value error, ", "", fault["msg"])
    if not fault["loc"]:  # about several settings together
        return f"{reason[:1].upper()}{reason[1:].rstrip('.')}."
    given = "" if fault["type"] == "missing" else f" (got {format_value(fault['input'])})"
    return f"Setting {place!r}: {reason}{given}."


def _names_at(kind: type[Settings], path: tuple[str | int, ...]) -> list[str]:
    for part in path:
        inner = kind.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            kind = inner
    return list(kind.model_fields)


@dataclass(frozen=True)
class EarlierVersions:
    """Mark a setting whose default is not what the versions did that lacked it.

    Attributes:
        value: The value that stands for what they did.
    """

    value: Any


def setting_or_default(kind: type[Settings], record: Mapping[str, Any], name: str) -> Any:
    """Return a setting of a record; if the record is older than the setting, the value that stands for what it meant.

    That is the present default, unless the setting is marked with `EarlierVersions`.
    """
    if name in record or name not in kind.model_fields:
        return record.get(name)
    earlier = _values_of_earlier_versions(kind)
    default = earlier[name] if name in earlier else kind.model_fields[name].get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default  # as JSON has it


def parse_record(kind: type[S], record: Mapping[str, Any]) -> S:
    """Parse recorded settings; those that the record lacks have the values of its version, see `setting_or_default`.

    Raises:
        InputError: See `parse`.
    """
    return parse(kind, {**_values_of_earlier_versions(kind), **record})


def _values_of_earlier_versions(kind: type[Settings]) -> dict[str, Any]:
    return {
        name: mark.value
        for name, field in kind.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, EarlierVersions)
    }
