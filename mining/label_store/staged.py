"""Versions that a gate kept from being published, read from the folders of the jobs that staged them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mining.errors import BoxmineError
from mining.label_store.layout import LAST_JOB
from mining.label_store.summaries import GateResult
from mining.quality.verdicts import open_verdicts


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
        existing = [folder for folder in folders if folder.is_dir()]
        return StagedVersion(
            path.parent.name.removeprefix("."), last["store"], last["at"], failed, last["images"], last["boxes"],
            existing, _steps(last.get("steps", []), existing, last["at"]),
        )  # fmt: skip
    except (
        BoxmineError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ):  # a damaged file matters to its job alone
        return None


def _steps(steps: list[str], runs: list[Path], staged_at: str) -> list[str]:
    """What a person can do next: the job's steps, until verdicts are recorded."""
    if steps and any(_was_judged_since(run, staged_at) for run in runs):
        return ["Verdicts were recorded since: run `boxmine label RECIPE` again."]
    return steps


def _was_judged_since(run: Path, moment: str) -> bool:
    try:
        with open_verdicts(run, to_write=False) as store:
            return any(one.time >= moment for one in store.judgements())
    except BoxmineError:  # damaged verdicts stop the job, which says so
        return False
