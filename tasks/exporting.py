"""Write a run as another tool's data set."""

from pathlib import Path
from typing import Any


def export_run(run: Path, format: str, out: Path, **options: Any) -> Any:
    """Export a finished run; gives the mining.annotations.ExportSummary."""
    from mining.annotations import export

    return export(run, format, out, **options)
