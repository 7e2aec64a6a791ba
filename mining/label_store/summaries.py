"""Results of a labelling job."""

from dataclasses import dataclass, field
from typing import Any

from mining.config import MineSettings


@dataclass(frozen=True)
class GateResult:
    """The result of one quality gate.

    Attributes:
        gate: Name of the gate in the recipe.
        value: What was measured; None where there was nothing to measure.
        limit: What the value was compared with.
        passed: Whether the version may be published, as far as this gate is concerned.
        meaning: What the value measures.
        note: Why the gate passes without having been judged; None where it was judged.
    """

    gate: str
    value: float | None
    limit: float
    passed: bool
    meaning: str
    note: str | None = None

    @property
    def outcome(self) -> str:
        """The text of the result: passed, FAILED, or why the gate was not judged."""
        return "FAILED" if not self.passed else "passed" if self.note is None else self.note

    @property
    def value_text(self) -> str:
        """The value as text; "-" where there is none."""
        return "-" if self.value is None else f"{self.value:.3f}"

    @property
    def line(self) -> str:
        """The gate in one line, for a log."""
        return f"{self.gate} {self.value_text} (limit {self.limit:.3f}): {self.outcome}; {self.meaning}"


@dataclass(frozen=True)
class LabelPlan:
    """The plan of a labelling job.

    Attributes:
        run: Settings of the run that mines the new images; None where there is nothing to mine.
        tally: Counts of a `mining.label_store.diff.Tally`.
    """

    run: MineSettings | None
    tally: dict[str, Any]


@dataclass(frozen=True)
class LabelSummary:
    """The result of a labelling job.

    Attributes:
        state: published, staged (a gate did not pass, nothing was published), restored or unchanged.
        store: Address of the label store.
        version: The store's last version now; None where there is none.
        images: Images of the corpus, as the job would publish it.
        boxes: Boxes of the corpus, as the job would publish it.
        tally: Counts of a `mining.label_store.diff.Tally`.
        deferred: Images that changed while they were mined; the next job takes them.
        quarantined: Images that this job mined and that could not be used.
        reasons: Why the first of them could not be used.
        gates: Results of the gates that are on.
        runs: Names of the runs that the new boxes come from.
        notes: Remarks on the listing of the images.
        corpus: Name of the corpus in the store.
        restored: The earlier version that was restored; None for other jobs.
        warnings: Those of the runs, see `mining.runs.summaries.MineSummary`.
        precision: Precision of the new boxes by verdicts of people, see
            `mining.label_store.version_precision.VersionPrecision`; None where there are none.
        steps: What a person can do next if the gate min_precision did not pass.
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
    warnings: list[str] = field(default_factory=list)
    precision: dict[str, Any] | None = None
    steps: list[str] = field(default_factory=list)
