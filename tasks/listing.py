"""The status of runs and label stores."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

Rows = list[tuple[str, ...]]


def status_of(source: str) -> tuple[Any, Rows, tuple[str, ...], list[str]]:
    """How a run stands, a label store's last versions, or the runs in a folder.

    Gives it as plain values, as a table's rows and headings, and sentences on what waits for a person.
    """
    from mining.label_store.reading import history, is_store
    from mining.runs.run import Run

    if is_store(source):
        versions = history(source)
        waiting = [one["waiting"] for one in versions if one["waiting"]]
        return versions, [_version_row(one) for one in versions], _VERSION_HEADINGS, list(map(_waits, waiting))
    if not Run(Path(source)).has_started():
        return _runs_in(Path(source))
    from mining.runs.status import read_status

    found = asdict(read_status(Path(source)))
    return found, _standing_rows(found), ("", ""), []


def _runs_in(folder: Path) -> tuple[Any, Rows, tuple[str, ...], list[str]]:
    from mining.label_store.staged import staged_versions_in
    from mining.runs.listing import runs_in

    runs = [asdict(run) for run in runs_in(folder)]
    waiting = [one for place in (folder, *sorted(folder.glob("[!.]*/"))) for one in staged_versions_in(place)]
    for staged in waiting:
        names = {str(path.relative_to(folder)) for path in staged.runs}
        for run in runs:
            if run["name"] in names:
                run["reason"] = f"staged, not published: {', '.join(staged.failed)}"
    return runs, list(map(_run_row, runs)), _RUN_HEADINGS, [_waits(asdict(one)) for one in waiting]


_RUN_HEADINGS = ("run", "state", "images", "boxes", "started", "finished", "reason")


def _run_row(run: dict[str, Any]) -> tuple[str, ...]:
    done = "-" if run["images"] is None else f"{run['done']} of {run['images']}"
    values = (run["name"], run["state"], done, run["boxes"], run["started"], run["finished"], run["reason"])
    return tuple("-" if value is None else str(value) for value in values)


def _waits(staged: dict[str, Any]) -> str:
    runs = ", ".join(str(run) for run in staged["runs"])
    return (
        f"A version of {staged['corpus']!r} waits, staged at {staged['at']}: "
        f"{', '.join(staged['failed'])} did not pass. "
        + (f"Its new boxes are in {runs}. " if runs else "It mines nothing new. ")
        + "`boxmine label RECIPE --accept` publishes it."
    )


_VERSION_HEADINGS = ("version", "at", "corpus", "images", "boxes", "CorLoc", "what")


def _version_row(one: dict[str, Any]) -> tuple[str, ...]:
    from tasks.labelling import tally_in_words

    corloc = "-" if one["corloc"] is None else f"{one['corloc']:.1%}"
    restored = one["restored"]
    what = f"version {restored} restored" if restored is not None else tally_in_words(one["tally"])
    what += " (accepted by a person)" if one["accepted"] else ""
    return str(one["version"]), one["at"], one["corpus"], str(one["images"]), str(one["boxes"]), corloc, what


def _standing_rows(found: dict[str, Any]) -> Rows:
    share = found["done"] / found["images"] if found["images"] else 0.0
    remedy = "; give its command again to carry on" if found["state"] in ("killed", "stopped") else ""
    rows: list[tuple[str, str | None]] = [
        ("run", str(found["run"])),
        ("state", found["state"] + remedy),
        ("images", f"{found['done']} of {found['images']} done ({share:.1%})"),
        ("shards", f"{found['shards_done']} of {found['shards']} done"),
        ("quarantined", str(found["quarantined"])),
        ("failed", found["failed"]),
        ("rate", None if found["rate"] is None else f"{found['rate']:.1f} images/s"),
        ("time left", None if found["seconds_left"] is None else f"{found['seconds_left'] / 60:.1f} min"),
    ]
    return [(name, value) for name, value in rows if value is not None]
