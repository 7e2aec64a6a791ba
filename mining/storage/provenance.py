"""Versions of what computes the boxes, and the time."""

import platform
from datetime import UTC, datetime
from importlib import metadata

from mining import __version__

_VERSIONS = ("torch", "torchvision", "timm", "opencv-python-headless", "numpy", "pyarrow", "prefect")


def package_versions() -> dict[str, str]:
    """Of boxmine, Python and what computes the boxes."""
    found = {"boxmine": __version__, "python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
