"""Write a run, or a version of a label store, as another tool's data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.export import export


def export_labels(source: str, format: str, out: Path, chosen: Mapping[str, Any], **options: Any) -> Any:
    """Export a finished run or a version; gives the mining.export.ExportSummary, None for a version as a run.

    chosen: which version of a label store, see mining.label_store.reading.VersionChoice; None where nothing is chosen.
    """
    from mining.label_store.reading import VersionChoice, export_as_run, is_store, version_as_run

    if not is_store(source):
        if format == "run":
            raise InputError(f"{source} is a run directory already.")
        given = [name for name, value in chosen.items() if value is not None]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} goes with a label store, and {source} is none.")
        return export(Path(source), format, out, **options)
    choice = VersionChoice(**chosen)
    if format == "run":
        return export_as_run(source, choice, out)
    with version_as_run(source, choice) as run:
        return export(run, format, out, **options)
