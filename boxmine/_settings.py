"""Checks of arguments that several functions share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boxmine._keywords import AnyPath
from mining.errors import InputError

_OTHER_PROCESSES = ("runner", "runner_workers", "gpus_per_worker", "ray_address")


def path_values(**paths: AnyPath | None) -> dict[str, Any]:
    """Return the paths as Path objects; None stays None."""
    return {name: None if path is None else Path(path) for name, path in paths.items()}


def check_settings(settings: Any) -> None:
    """Make the checks that a command makes before it imports a network library."""
    from mining.preflight import check

    check(settings)


def refuse_other_processes(options: Mapping[str, Any]) -> None:
    """Raise InputError for an option that asks for other processes."""
    given = next((name for name in _OTHER_PROCESSES if name in options), None)
    if given is not None:
        raise InputError(
            f"{given!r} is an option of the command line: Python functions mine in this process. Use `boxmine mine` "
            "for several GPUs or machines."
        )
