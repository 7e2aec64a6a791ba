"""Flags such as `difficult` as files write them."""

from typing import Any


def is_set(value: Any) -> bool:
    """Whether a flag is on: 1, true or yes, as VOC's tools mean it. Everything else, such as 'Unspecified', is off."""
    if not value:
        return False
    if isinstance(value, str):
        return value.strip().lower() in ("1", "true", "yes")
    return isinstance(value, bool | int | float) and value == 1
