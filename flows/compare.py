"""Compare two runs."""

from pathlib import Path
from typing import Any

from mining.config import CompareSettings
from tasks.comparing import compare_runs


def compare(settings: CompareSettings) -> tuple[dict[str, Any], Path]:
    """Return what changed from the first run to the second, and the page that shows it."""
    return compare_runs(settings)
