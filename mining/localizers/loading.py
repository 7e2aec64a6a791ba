"""Import the class of a localizer by its name."""

from importlib import import_module
from typing import TYPE_CHECKING

from mining.localizers.registry import LOCALIZERS, refuse_unknown_localizer

if TYPE_CHECKING:
    from mining.localizers.base import Localizer


def localizer_named(name: str) -> "type[Localizer]":
    """Import the class of a localizer.

    Raises:
        ModelError: There is no such localizer; the message has the nearest name and the choices.
    """
    refuse_unknown_localizer(name)
    entry = LOCALIZERS[name]
    kind: type[Localizer] = getattr(import_module(entry.module), entry.class_name)
    return kind
