"""The options of a localizer in words, from the fields of its config; imports no network library."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from mining.localizers.options import OPTIONS
from mining.localizers.registry import refuse_unknown_localizer


class OptionDescription(NamedTuple):
    """An option of a localizer, as `boxmine localizers NAME` shows it.

    Attributes:
        name: Name of the option.
        type: The values that it takes.
        default: Its default value, as on the command line; "-" where it depends on the network (see meaning).
        meaning: One or two sentences.
    """

    name: str
    type: str
    default: str
    meaning: str


def describe_options(localizer: str) -> list[OptionDescription]:
    """Describe the options of a localizer, in the order of its config.

    Raises:
        ModelError: The localizer is unknown.

    Example:
        >>> describe_options("cam")[1][:3]
        ('dropout', 'number in [0, 1)', '0.2')
    """
    refuse_unknown_localizer(localizer)
    kind = OPTIONS[localizer]
    schemas = TypeAdapter(kind).json_schema()["properties"]
    config = kind()
    return [
        OptionDescription(
            field.name,
            _type_text(schemas[field.name]),
            _default_text(getattr(config, field.name)),
            schemas[field.name]["description"],
        )
        for field in fields(kind)
    ]


def _type_text(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_type_text(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return " | ".join(schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        parts = schema.get("prefixItems")
        return ", ".join(map(_type_text, parts)) if parts else f"{_type_text(schema['items'])}, ..."
    if schema["type"] == "boolean":
        return "true | false"
    return f"{schema['type']}{_range_text(schema)}"


def _range_text(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    high = schema.get("exclusiveMaximum") if high is None else high
    is_open_below, is_open_above = "exclusiveMinimum" in schema, "exclusiveMaximum" in schema
    if low is not None and high is not None:
        return f" in {'(' if is_open_below else '['}{low:g}, {high:g}{')' if is_open_above else ']'}"
    if low is not None:
        return f" {'>' if is_open_below else '>='} {low:g}"
    return ""


def _default_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
