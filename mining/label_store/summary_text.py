"""Describe what a labelling job did, for the command line and for Prefect's artifacts and logs."""

from collections.abc import Mapping, Sequence
from typing import Any

from mining.label_store.summaries import GateResult, LabelSummary

GATE_HEADINGS = ("gate", "value", "limit", "verdict", "meaning")
_CHANGES = {
    "corrected": "corrected by people",
    "moved": "renamed or in another split",
    "copied": "copies of labelled images",
    "retired": "gone",
}


def gate_rows(gates: Sequence[GateResult]) -> list[tuple[str, str, str, str, str]]:
    """Return one row per gate, in the columns GATE_HEADINGS."""
    return [(gate.gate, gate.value_text, f"{gate.limit:.3f}", gate.outcome, gate.meaning) for gate in gates]


def summary_sentences(summary: LabelSummary) -> list[str]:
    """Return sentences that say what the job did; the last one says what became of the version."""
    if summary.restored is not None:
        return [_restored_sentence(summary)]
    sentences = [f"{tally_text(summary.tally)}."]
    if summary.deferred:
        sentences.append(f"{summary.deferred} images changed while they were mined; the next job takes them.")
    if summary.precision is not None:
        sentences.append(f"Precision of the boxes as they were mined: {precision_text(summary.precision)}.")
    return [*sentences, _version_sentence(summary)]


def precision_text(found: Mapping[str, Any]) -> str:
    """Return the figures of a `mining.label_store.version_precision.VersionPrecision` as text."""
    low, high = found["ci95"]
    return (
        f"{100 * found['value']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %) by {found['verdicts']} "
        f"verdicts on {found['boxes']} boxes"
    )


def _version_sentence(summary: LabelSummary) -> str:
    if summary.state == "published":
        return (
            f"Version {summary.version} of {summary.store} is published: "
            f"{summary.boxes} boxes on {summary.images} images."
        )
    if summary.state == "unchanged":
        return f"Nothing changed: {summary.store} stays at version {summary.version}."
    failed = ", ".join(gate.gate for gate in summary.gates if not gate.passed)
    where = ", ".join(summary.runs) or "the store"
    return f"Staged, not published: {failed} did not pass. Check the boxes in {where}; --accept publishes them."


def _restored_sentence(summary: LabelSummary) -> str:
    if summary.state == "unchanged":
        return (
            f"Nothing changed: {summary.corpus!r} is the same in version {summary.version} of {summary.store} as in "
            f"version {summary.restored}."
        )
    return (
        f"Version {summary.version} of {summary.store} is published: {summary.corpus!r} as in version "
        f"{summary.restored}, {summary.boxes} boxes on {summary.images} images."
    )


def tally_text(tally: Mapping[str, Any]) -> str:
    """Return the counts of a `mining.label_store.diff.Tally` as text."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally["reasons"].items()))
    parts = [f"{tally['kept']} images unchanged"]
    parts += [f"labelled: {reasons}"] if reasons else []
    parts += [f"{tally[name]} {text}" for name, text in _CHANGES.items() if tally.get(name)]
    return "; ".join(parts)


def run_title(summary: LabelSummary) -> str:
    """Return the name of a finished flow run, such as "label shop: 19 new, 2 gone (staged)"."""
    if summary.restored is not None:
        return f"label {summary.corpus}: version {summary.restored} restored"
    counts = {
        **summary.tally["reasons"],
        "corrected": summary.tally.get("corrected", 0),
        "gone": summary.tally["retired"],
        "renamed": summary.tally["moved"],
    }
    what = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "nothing new"
    return f"label {summary.corpus}: {what}" + (" (staged)" if summary.state == "staged" else "")
