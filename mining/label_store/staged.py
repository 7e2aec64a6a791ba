"""Versions that a gate stopped: known from the folders of the jobs that staged them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mining.label_store.layout import LAST_JOB


@dataclass(frozen=True)
class StagedVersion:
    """A version that is staged and waits for a person.

    at: when it was staged. failed: one line per gate that did not pass. images, boxes: of the version. runs: the run
    directories that hold its new boxes and are still there.
    """

    corpus: str
    store: str
    at: str
    failed: list[str]
    images: int
    boxes: int
    runs: list[Path]


def staged_versions_in(runs: Path) -> list[StagedVersion]:
    """The staged versions of the jobs that keep their runs in this folder, by corpus; none where it cannot be read."""
    found = (_staged(path) for path in sorted(runs.glob(f".*/{LAST_JOB}")))
    return [one for one in found if one is not None]


def staged_version_of(store: str, corpus: str, record: dict[str, Any]) -> StagedVersion | None:
    """The staged version that would follow the last one of a corpus, as far as this machine sees the job's folder.

    record: what the store's last version says of the corpus.
    """
    if "runs" not in record:  # of an earlier boxmine
        return None
    for one in staged_versions_in(Path(record["runs"])):
        if (one.store, one.corpus) == (store, corpus) and one.at >= record["at"]:
            return one
    return None


def _staged(path: Path) -> StagedVersion | None:
    try:
        last = orjson.loads(path.read_bytes())
        if last["state"] != "staged":
            return None
        failed = [
            f"{gate['gate']} {gate['value']:.3f} (limit {gate['limit']:.3f})"
            for gate in last["gates"]
            if not gate["passed"]
        ]
        folders = [path.parents[1] / name for name in last["runs"]]
        return StagedVersion(
            path.parent.name.removeprefix("."), last["store"], last["at"], failed, last["images"], last["boxes"],
            [folder for folder in folders if folder.is_dir()],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of nobody's concern but the job's
        return None
