"""Export a finished run or a version of a label store."""

from pathlib import Path
from typing import Any

from mining.export import ExportSummary
from mining.label_store.settings import VersionChoice
from tasks.progress import Stage


def export_source(source: str, format: str, out: Path, choice: VersionChoice, **options: Any) -> ExportSummary | None:
    """Export a run or version; see `mining.label_store.sources.export_source`."""
    from mining.label_store.sources import export_source as export

    stages: list[Stage] = []

    def reach(done: int, total: int) -> None:
        if not stages:
            stages.append(Stage("near-duplicates", total))
        stages[0].reach(done)

    return export(source, format, out, choice, progress=reach, **options)
