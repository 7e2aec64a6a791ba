"""Look at what a flow is given before anything is started."""

from typing import Any


def check_inputs(settings: Any) -> None:
    """Raise the InputError that the flow would end with, where that takes no network library to know."""
    from mining.preflight import check

    check(settings)
