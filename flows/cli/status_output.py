"""Status of a run, of the runs in a folder, or of a label store: as plain values, a table and sentences."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from flows.cli.output import relative_to_here

Rows = list[tuple[str, ...]]
_RUN_HEADINGS = ("run", "state", "images", "boxes", "started", "finished", "reason")
_VERSION_HEADINGS = ("version", "at", "corpus", "images", "boxes", "CorLoc", "precision as mined", "what")


class Status(NamedTuple):
    """What `boxmine status` prints.

    Attributes:
        values: The answer as plain values, for JSON.
        rows: The answer as rows of a table.
        headings: Headings of the table.
        sentences: What waits for a decision.
    """

    values: Any
    rows: Rows
    headings: tuple[str, ...]
    sentences: list[str]


def read_status_of(source: str) -> Status:
    """Read the status of a run directory, of a folder of runs, or of a label store."""
    from mining.label_store.sources import is_store
    from mining.runs.run import Run
    from mining.runs.status import read_status

    if is_store(source):
        return _store_status(source)
    if not Run(Path(source)).has_started():
        return _folder_status(Path(source))
    values = asdict(read_status(Path(source)))
    return Status(values, _run_rows(values), ("", ""), [])


def _store_status(source: str) -> Status:
    from mining.label_store.reading import history

    versions = history(source)
    sentences = [line for version in versions if version["waiting"] for line in _staged_lines(version["waiting"])]
    return Status(versions, [_version_row(version) for version in versions], _VERSION_HEADINGS, sentences)


def _folder_status(folder: Path) -> Status:
    from mining.label_store.staged import staged_versions_in
    from mining.runs.listing import runs_in

    runs = [asdict(run) for run in runs_in(folder)]
    places = (folder, *sorted(folder.glob("[!.]*/")))
    waiting = [staged for place in places for staged in staged_versions_in(place)]
    for staged in waiting:
        names = {str(path.relative_to(folder)) for path in staged.runs}
        for run in runs:
            if run["name"] in names:
                run["reason"] = f"staged, not published: {', '.join(staged.failed)}"
    sentences = [line for staged in waiting for line in _staged_lines(asdict(staged))]
    return Status(runs, [_folder_row(run) for run in runs], _RUN_HEADINGS, sentences)


def _folder_row(run: dict[str, Any]) -> tuple[str, ...]:
    done = "-" if run["images"] is None else f"{run['done']} of {run['images']}"
    values = (run["name"], run["state"], done, run["boxes"], run["started"], run["finished"], run["reason"])
    return tuple("-" if value is None else str(value) for value in values)


def _staged_lines(staged: dict[str, Any]) -> list[str]:
    runs = ", ".join(str(run) for run in staged["runs"])
    sentence = (
        f"A version of {staged['corpus']!r} was staged at {staged['at']} and waits for a decision: "
        f"{', '.join(staged['failed'])} did not pass. "
        + (f"Its new boxes are in {runs}. " if runs else "It has no newly mined images. ")
        + "`boxmine label RECIPE --accept` publishes it."
    )
    return [sentence, *map(relative_to_here, staged["steps"])]


def _version_row(version: dict[str, Any]) -> tuple[str, ...]:
    from mining.label_store.summary_text import tally_text

    corloc = "-" if version["corloc"] is None else f"{version['corloc']:.1%}"
    restored = version["restored"]
    what = f"version {restored} restored" if restored is not None else tally_text(version["tally"])
    what += " (accepted by a person)" if version["accepted"] else ""
    counts = str(version["images"]), str(version["boxes"])
    return str(version["version"]), version["at"], version["corpus"], *counts, corloc, _precision(version), what


def _precision(version: dict[str, Any]) -> str:
    found = version["precision"]
    if found is None:
        return "-"
    low, high = found["ci95"]
    return f"{found['value']:.1%} ({low:.1%} to {high:.1%}), {found['verdicts']} verdicts"


def _run_rows(status: dict[str, Any]) -> Rows:
    share = status["done"] / status["images"] if status["images"] else 0.0
    remedy = "; run the same command again to resume" if status["state"] in ("killed", "stopped") else ""
    rows: list[tuple[str, str | None]] = [
        ("run", str(status["run"])),
        ("state", status["state"] + remedy),
        ("images", f"{status['done']} of {status['images']} done ({share:.1%})"),
        ("shards", f"{status['shards_done']} of {status['shards']} done"),
        ("quarantined", str(status["quarantined"])),
        ("failed", status["failed"]),
        ("rate", None if status["rate"] is None else f"{status['rate']:.1f} images/s"),
        ("time left", None if status["seconds_left"] is None else f"{status['seconds_left'] / 60:.1f} min"),
        *(("warning", sentence) for sentence in status["warnings"]),
    ]
    return [(name, value) for name, value in rows if value is not None]
