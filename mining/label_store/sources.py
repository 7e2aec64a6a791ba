"""Commands that take a run directory or a label store; deltalake is imported for a label store alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.export import ExportSummary, export
from mining.label_store.settings import VersionChoice, is_remote

RUN_FORMAT = "run"  # of an export: a version of a label store as a run directory


def is_store(source: str) -> bool:
    """Whether this is the address of a label store rather than a run directory."""
    return is_remote(source) or (Path(source) / "_delta_log").is_dir()


def refuse_store_options(source: str, options: Mapping[str, Any]) -> None:
    """Raise InputError if an option of label stores is set for a run directory."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} is for label stores, and {source} is not one.")


def export_source(source: str, format: str, out: Path, choice: VersionChoice, **options: Any) -> ExportSummary | None:
    """Export a finished run, or a version of a label store.

    Args:
        source: Run directory, or address of a label store.
        format: A key of `mining.export.EXPORTERS`, or "run" for a label store's version as a run directory.
        out: Folder to write, new or empty.
        choice: The version; nothing may be chosen for a run directory.
        options: Options of `mining.export.export`.

    Returns:
        What was exported; None for the format "run".

    Raises:
        InputError: An option does not fit the source, or `out` is taken.
    """
    if not is_store(source):
        if format == RUN_FORMAT:
            raise InputError(f"{source} is a run directory already.")
        refuse_store_options(source, choice._asdict())
        return export(Path(source), format, out, **options)
    from mining.label_store.reading import export_as_run, version_as_run

    if format == RUN_FORMAT:
        export_as_run(source, choice, out)
        return None
    with version_as_run(source, choice) as run:
        return export(run, format, out, **options)
