"""Versions that a gate kept from being published, read from the folders of the jobs that staged them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mining.label_store.layout import LAST_JOB
from mining.label_store.summaries import GateResult


@dataclass(frozen=True)
class StagedVersion:
    """A staged version, which waits for a decision.

    Attributes:
        corpus: Name of the corpus.
        store: Address of the store.
        at: When it was staged.
        failed: One line per gate that did not pass.
        images: Images of the version.
        boxes: Boxes of the version.
        runs: Run directories that hold its new boxes and still exist.
        steps: What a person can do next, see `mining.label_store.summaries.LabelSummary`.
    """

    corpus: str
    store: str
    at: str
    failed: list[str]
    images: int
    boxes: int
    runs: list[Path]
    steps: list[str]


def staged_versions_in(runs: Path) -> list[StagedVersion]:
    """Return the staged versions of jobs that keep their runs in this folder; empty if it cannot be read."""
    versions = (_read_staged(path) for path in sorted(runs.glob(f".*/{LAST_JOB}")))
    return [version for version in versions if version is not None]


def staged_version_of(store: str, corpus: str, record: dict[str, Any]) -> StagedVersion | None:
    """Return the staged version that would follow the last one of a corpus, if the job's folder is on this machine.

    Args:
        store: Address of the store.
        corpus: Name of the corpus.
        record: Record of the corpus in the last version.
    """
    if "runs" not in record:  # written by an earlier version of boxmine
        return None
    for version in staged_versions_in(Path(record["runs"])):
        if (version.store, version.corpus) == (store, corpus) and version.at >= record["at"]:
            return version
    return None


def _read_staged(path: Path) -> StagedVersion | None:
    try:
        last = orjson.loads(path.read_bytes())
        if last["state"] != "staged":
            return None
        gates = [GateResult(**gate) for gate in last["gates"]]
        failed = [f"{gate.gate} {gate.value_text} (limit {gate.limit:.3f})" for gate in gates if not gate.passed]
        folders = [path.parents[1] / name for name in last["runs"]]
        return StagedVersion(
            path.parent.name.removeprefix("."), last["store"], last["at"], failed, last["images"], last["boxes"],
            [folder for folder in folders if folder.is_dir()], last.get("steps", []),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a damaged file matters to its job alone
        return None
