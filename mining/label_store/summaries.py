"""What a labelling job gives back."""

from dataclasses import dataclass, field
from typing import Any

from mining.config import MineSettings


@dataclass(frozen=True)
class GateResult:
    """The result of one gate.

    value: None where there was nothing to measure. limit: what the value was compared with. note: why the gate passes
    without having been judged, None where it was judged.
    """

    gate: str
    value: float | None
    limit: float
    passed: bool
    meaning: str
    note: str | None = None

    @property
    def outcome(self) -> str:
        """ "passed", "FAILED", or why it was not judged."""
        return "FAILED" if not self.passed else "passed" if self.note is None else self.note

    @property
    def line(self) -> str:
        """The gate in one line, for a log."""
        value = "-" if self.value is None else f"{self.value:.3f}"
        return f"{self.gate} {value} (limit {self.limit:.3f}): {self.outcome}; {self.meaning}"


@dataclass(frozen=True)
class LabelPlan:
    """What a job found. run: how to mine what is new, None where nothing is. tally: see `ledger.Tally`."""

    run: MineSettings | None
    tally: dict[str, Any]


@dataclass(frozen=True)
class LabelSummary:
    """What a job came to.

    state: published, staged (a gate did not pass; nothing was published), restored or unchanged. version: the
    store's last one now, None where there is none. images, boxes: of the corpus as the job has it. tally: see
    `ledger.Tally`.
    deferred: images that changed while they were mined; the next job takes them. quarantined, reasons: of what the
    job mined. runs: their names. corpus: its name in the store. restored: the earlier version that was restored.
    """

    state: str
    store: str
    version: int | None
    images: int
    boxes: int
    tally: dict[str, Any]
    deferred: int
    quarantined: int
    reasons: list[str]
    gates: list[GateResult]
    runs: list[str]
    notes: list[str] = field(default_factory=list)
    corpus: str = ""
    restored: int | None = None
