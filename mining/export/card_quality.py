"""How good the boxes of an export are, as far as it is known: verdicts of people, ground truth, a label store."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mining.export.card_text import counted, interval, percent, plain, sentence, table
from mining.quality.audit import METHOD, METHOD_OF_RECALL, AuditEstimate, JudgedBoxes, estimate_audit, judged_boxes
from mining.quality.estimates import Precision, estimate_precision
from mining.quality.judgements import VERDICTS
from mining.quality.verdicts import VERDICTS_FILE
from mining.runs.box_warnings import lower_bound
from mining.runs.run import Run

_NOBODY = (
    "Nobody has looked at a sample of these boxes yet, so their precision is not known. `boxmine audit RUN` shows "
    "boxes that were drawn at random; with verdicts on them, a new export states the precision here."
)


@dataclass(frozen=True)
class SetQuality:
    """What is known of the quality of a run's boxes.

    Attributes:
        run: The run.
        min_score: Minimum score of the exported boxes.
        promise: Sentence of an export that promises a precision, empty for others.
    """

    run: Run
    min_score: float
    promise: str = ""

    @cached_property
    def judged(self) -> JudgedBoxes | None:
        """The verdicts on boxes drawn at random; None for a run without a record of verdicts."""
        return judged_boxes(self.run.path) if (self.run.path / VERDICTS_FILE).is_file() else None

    @cached_property
    def audit(self) -> AuditEstimate | None:
        """What they say of all boxes of the run."""
        return None if self.judged is None else estimate_audit(self.run.path)

    @cached_property
    def scores(self) -> dict[str, Any] | None:
        """The scores of the run against ground truth, if it was scored."""
        return self.run.read_scores()

    def lines(self) -> list[str]:
        """Return the lines of the section."""
        rows, methods = [*self._audit_rows(), *self._score_rows()], [*self._audit_notes(), *self._score_notes()]
        store = self.run.record.get("precision")
        if isinstance(store, Mapping) and store.get("value") is not None:
            verdicts = counted(int(store["verdicts"]), "verdict")
            rows.append(("precision of the newest boxes of the label store's version", percent(store["value"]),
                         interval(store["ci95"]), verdicts))  # fmt: skip
        if not rows and not self.promise:
            return [*([f"- {one}" for one in methods] + [""] if methods else []), _NOBODY]
        found = table(("estimate", "value", "95 % interval", "from"), rows) if rows else []
        notes = [*([sentence(self.promise)] if self.promise else []), *methods]
        return [*found, *([""] if found and notes else []), *(f"- {note}" for note in notes)]

    def precision_of(self, category: str) -> str:
        """Return the precision of a class, with its interval if there is one; empty if it is not known."""
        found = None if self.audit is None else self.audit.per_class.get(category)
        if found is not None:
            return f"{percent(found.value)} ({interval(found.ci95)})"
        if self.audit is not None and self.audit.precision is not None:
            return ""
        one = self._scored_classes().get(category)
        return "" if one is None else f"{percent(one['value'])} of {counted(one['boxes'], 'box', 'boxes')}"

    def imprecise_classes(self) -> list[str]:
        """List classes whose precision is, by its interval, below that of all boxes."""
        if self.audit is not None and self.audit.precision is not None:
            value = self.audit.precision.value
            found = self.audit.per_class.items()
            return [name for name, one in found if one is not None and one.ci95[1] < value]
        every = ((self.scores or {}).get("precision") or {}).get("value")
        if every is None:
            return []
        scored = self._scored_classes().items()
        return [name for name, one in scored if 1 - lower_bound(1 - one["value"], one["boxes"]) < every]

    def verdict_counts(self) -> Counter[str]:
        """Count the verdicts on boxes drawn at random, by their word."""
        return Counter(one.verdict for one in self.judged.verdicts) if self.judged is not None else Counter()

    def _scored_classes(self) -> dict[str, Any]:
        found = ((self.scores or {}).get("precision") or {}).get("per_class") or {}
        return {name: one for name, one in found.items() if one.get("value") is not None and one.get("boxes")}

    def _audit_rows(self) -> list[tuple[str, ...]]:
        audit = self.audit
        if audit is None:
            return []
        rows = [] if audit.precision is None else [_row(f"precision of all {audit.precision.boxes} boxes of the run",
                                                         audit.precision)]  # fmt: skip
        exported = self._exported_precision()
        if exported is not None:
            rows.append(
                _row(f"precision of the {exported.boxes} boxes that score {self.min_score:g} or more", exported)
            )
        objects = None if audit.objects is None else audit.objects.objects
        if objects is not None and objects.recall is not None:
            what = f"recall: share of the objects in the {objects.of_images} images of the run that have a correct box"
            images = counted(objects.images, "image")
            rows.append((what, percent(objects.recall), interval(objects.recall_ci95), f"{images} looked at whole"))
        return rows

    def _exported_precision(self) -> Precision | None:
        """Precision of the boxes above the minimum score, unless the verdicts chose it."""
        if self.judged is None or not self.min_score or self.promise:
            return None
        return estimate_precision(self.judged.sample.of(self.judged.score >= float(np.float32(self.min_score))))

    def _audit_notes(self) -> list[str]:
        audit, judged = self.audit, self.judged
        if audit is None or judged is None:
            return []
        notes = []
        if audit.precision is not None:
            people = counted(len({one.reviewer for one in judged.verdicts}), "person", "people")
            counts = self.verdict_counts()
            words = ", ".join(f"{counts[one]} {one.replace('_', ' ')}" for one in VERDICTS if counts[one])
            notes += [f"Boxes were drawn at random and judged by {people}: {words}. Precision: {METHOD}."]
        elif judged.verdicts:
            notes.append("There are too few verdicts on boxes drawn at random to estimate the precision.")
        if audit.pending:
            wide = None if audit.precision is None else audit.precision.ci95_any_time
            valid = "" if wide is None else f" The interval that is valid at any time is {interval(wide)}."
            notes.append(f"{counted(audit.pending, 'box', 'boxes')} of the draw had no verdict yet.{valid}")
        if audit.kappa:
            notes.append(f"Agreement of the reviewers (Cohen's kappa): at least {min(audit.kappa.values()):.2f}.")
        if audit.objects is not None and audit.objects.objects is not None:
            notes.append(f"Recall: {METHOD_OF_RECALL}.")
        return notes

    def _score_rows(self) -> list[tuple[str, ...]]:
        scores = self.scores
        if scores is None:
            return []
        origin = _truth_of(scores)
        rows: list[tuple[str, ...]] = []
        precision, corloc = scores.get("precision") or {}, scores.get("corloc") or {}
        if precision.get("value") is not None:
            what = f"precision of {precision['boxes']} boxes of the run, at IoU 0.5"
            rows.append((what, percent(precision["value"]), interval(precision.get("ci95")), origin))
        if corloc.get("instance_recall") is not None:
            rows.append(("recall: share of the true objects that have a box, at IoU 0.5",
                         percent(corloc["instance_recall"]), "", origin))  # fmt: skip
        if corloc.get("value") is not None:
            rows.append(("CorLoc at IoU 0.5", percent(corloc["value"]), interval(corloc.get("ci95")), origin))
        return rows

    def _score_notes(self) -> list[str]:
        scores = self.scores
        if scores is None:
            return []
        images = scores.get("images") or {}
        share = f" {images['scored']} of the run's {images['corpus']} images are in it." if "scored" in images else ""
        return [f"The run was scored against the ground truth {plain(scores['truth']['file'])}.{share}"]


def _row(what: str, found: Precision) -> tuple[str, ...]:
    return what, percent(found.value), interval(found.ci95), counted(found.verdicts, "verdict")


def _truth_of(scores: Mapping[str, Any]) -> str:
    return f"ground truth {scores['truth']['file']}"
