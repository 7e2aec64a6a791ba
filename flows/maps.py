"""Show localizers side by side on the same images."""

from typing import Any

from mining.config import MapsSettings
from tasks.reporting import write_maps


def maps(settings: MapsSettings) -> Any:
    """Write the page, and return its summary."""
    return write_maps(settings)
