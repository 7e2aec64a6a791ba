"""Write a run, or a version of a label store, as another tool's data set."""

from pathlib import Path
from typing import Any, NamedTuple

from mining.errors import InputError


class VersionChoice(NamedTuple):
    """Which version of a label store: its number or a time, the corpus' name, where its images lie here."""

    as_of: str | None
    corpus: str | None
    images: Path | None


def export_labels(source: str, format: str, out: Path, choice: VersionChoice, **options: Any) -> Any:
    """Export a finished run or a version; gives the mining.annotations.ExportSummary, None for a version as a run."""
    from mining.annotations import export
    from mining.store.reading import is_store, version_as_run

    if not is_store(source):
        if format == "run":
            raise InputError(f"{source} is a run directory already.")
        given = [name for name, value in zip(choice._fields, choice, strict=True) if value is not None]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} goes with a label store, and {source} is none.")
        return export(Path(source), format, out, **options)
    with version_as_run(source, *choice, out=out if format == "run" else None) as run:
        return None if format == "run" else export(run, format, out, **options)
