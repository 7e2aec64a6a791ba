"""Package versions and timestamps, as records keep them."""

import platform
from datetime import UTC, datetime
from importlib import metadata

from mining import __version__

_PACKAGES = ("torch", "torchvision", "timm", "opencv-python-headless", "numpy", "pyarrow", "prefect")


def package_versions() -> dict[str, str]:
    """Versions of boxmine, Python and the installed packages that compute the boxes, by name."""
    versions = {"boxmine": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def utc_now() -> str:
    """The current time in UTC, in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
