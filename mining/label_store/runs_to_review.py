"""The runs that the boxes of a label store are from, newest first, so that people can judge what is new."""

from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.label_store.delta_table import LabelStore
from mining.label_store.settings import address
from mining.label_store.staged import staged_version_of

MOST_RUNS = 100


def runs_to_review(where: str, corpus: str | None = None) -> list[tuple[Path, str]]:
    """Return the runs on this machine that have boxes of a label store.

    Args:
        where: Address of the store.
        corpus: Only runs of this corpus; None for all.

    Returns:
        Run directory and title of each: those of staged versions first, then those of each version, newest first; at
        most MOST_RUNS.

    Raises:
        InputError: There is none on this machine, or the store holds no labels yet.
        StorageError: The store cannot be reached.
    """
    records = LabelStore(where).records()
    titles: dict[Path, str] = {}
    for name, one in _corpora(records[0], corpus):
        staged = staged_version_of(address(where), name, one)
        for path in () if staged is None else staged.runs:
            titles[path] = f"{name}, staged and not published: {path.name}"
    # a run is listed until the next version of its corpus: the oldest of these versions took its boxes
    versions: dict[Path, tuple[int, str]] = {}
    for record in records:
        for name, one in _corpora(record, corpus):
            for run in one.get("new_runs", []):
                title = f"{name}, new in version {record['version']} of {one['at'][:10]}: {run}"
                versions[Path(one["runs"]) / run] = record["version"], title
    for path, (_, title) in sorted(versions.items(), key=lambda item: item[1], reverse=True):
        titles.setdefault(path, title)
    found = [(path, title) for path, title in titles.items() if (path / "run.json").is_file()]
    if not found:
        example = f", e.g. {next(iter(titles))}" if titles else ""
        raise InputError(
            f"None of the runs that {where} has boxes from is on this machine{example}. Boxes are judged where "
            "they were mined."
        )
    return found[:MOST_RUNS]


def _corpora(record: dict[str, Any], corpus: str | None) -> list[tuple[str, dict[str, Any]]]:
    return [(name, one) for name, one in sorted(record["corpora"].items()) if corpus in (None, name)]
