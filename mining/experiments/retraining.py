"""A new model for the corpus: where it goes, and whether its boxes are better than those in use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.config import RetrainSettings, RunSettings
from mining.runs.run import Run
from mining.storage.files import sha256_of
from mining.storage.integrity import digest_of

_FIGURE = "corloc_0.5"


@dataclass(frozen=True)
class RetrainResult:
    """What a retraining came to. model: folder of the new model. run: what it mined.

    page: the comparison with the run in use, None where there is none. is_better: than that run; None where a person
    decides, for `reason`.
    """

    model: Path
    run: Path
    page: Path | None
    is_better: bool | None
    reason: str


def plan_retraining(settings: RetrainSettings) -> RunSettings:
    """What to train and mine: the last run of the same settings and labels where it is not finished, else a new one."""
    labels = settings.corpus.labels
    told = settings.model_dump(mode="json", exclude={"runs", "current"})
    told["labels_sha256"] = sha256_of(labels) if labels is not None and labels.is_file() else None
    digest = digest_of(told)[:8]
    earlier = sorted(path for path in settings.runs.glob("*-*") if path.name.partition("-")[0].isdigit())
    same = [path for path in earlier if path.name.endswith(f"-{digest}")]
    if same and not _is_finished(same[-1]):
        return settings.run_settings(same[-1])
    number = 1 + max((int(path.name.partition("-")[0]) for path in earlier), default=0)
    return settings.run_settings(settings.runs / f"{number:05d}-{digest}")


def _is_finished(path: Path) -> bool:
    run = Run(path)
    return run.has_started() and run.is_finished()


def evaluate_retraining(
    settings: RetrainSettings, run: Path, summary: dict[str, Any] | None, page: Path | None
) -> RetrainResult:
    """Whether the new run is better than the one in use.

    summary, page: of their comparison (see `mining.evaluation.run_comparison`), None where there is none.
    """
    if summary is None:
        which = "run in use" if settings.current is None else f"run {settings.current}"
        return RetrainResult(run / "model", run, page, None, f"There is no {which} to compare with; a person decides.")
    better, reason = _verdict(summary)
    return RetrainResult(run / "model", run, page, better, reason)


def _verdict(summary: dict[str, Any]) -> tuple[bool | None, str]:
    truth, pairs = summary["truth"], summary["pairs"]
    if truth is None or not truth["pairs"]:
        share = f"{pairs['same']} of {pairs['both']} pairs" if pairs["both"] else "no pair"
        return None, f"Without truth nothing says which run is better: {share} have the same box; a person decides."
    found = truth[_FIGURE]
    low, high = found["ci95"]
    told = (
        f"CorLoc {found['second']:.1%} against {found['first']:.1%} of {truth['pairs']} pairs, "
        f"difference {found['difference']:+.1%} ({low:+.1%} to {high:+.1%})"
    )
    if not found["is_clear"]:
        return None, f"{told}: this may be chance; a person decides."
    is_better = found["difference"] > 0
    return is_better, f"{told}: the new model is {'better' if is_better else 'worse'}."
