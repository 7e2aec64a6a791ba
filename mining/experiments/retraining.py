"""Retraining: where the new model goes, and whether its boxes are better than those in use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.config import RetrainSettings, RunSettings
from mining.evaluation.paired_scores import DECISIVE, verdict_of
from mining.runs.run import Run
from mining.storage.files import sha256_of
from mining.storage.integrity import digest_of

_FIGURES = dict(zip(DECISIVE, ("CorLoc", "recall of objects at one false box per image"), strict=True))
_DECISION = "a person decides"


@dataclass(frozen=True)
class RetrainResult:
    """The result of a retraining.

    Attributes:
        model: Folder of the new model.
        run: Run directory that was mined with it.
        page: The comparison with the run in use; None where there is no such run.
        is_better: Whether the new run is better than the one in use; None where that is not known.
        reason: The figures behind `is_better`, or why it is not known.
    """

    model: Path
    run: Path
    page: Path | None
    is_better: bool | None
    reason: str


def plan_retraining(settings: RetrainSettings) -> RunSettings:
    """Return the settings of the run that trains and mines.

    It is the last run of the same settings and labels if that one is not finished, else a new run.
    """
    labels = settings.corpus.labels
    identity = settings.model_dump(mode="json", exclude={"runs", "current"})
    identity["labels_sha256"] = sha256_of(labels) if labels is not None and labels.is_file() else None
    digest = digest_of(identity)[:8]
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
    """Decide whether the new run is better than the one in use.

    Args:
        settings: The recipe.
        run: The new run directory.
        summary: The comparison of both runs (see `mining.evaluation.run_comparison`); None where there is none.
        page: The page of that comparison.
    """
    if summary is None:
        which = "run in use" if settings.current is None else f"run {settings.current}"
        return RetrainResult(run / "model", run, page, None, f"There is no {which} to compare with; {_DECISION}.")
    is_better, reason = decide(summary)
    return RetrainResult(run / "model", run, page, is_better, reason)


def decide(summary: dict[str, Any]) -> tuple[bool | None, str]:
    """Decide from a comparison of two runs (see `mining.evaluation.run_comparison`) whether the second one is better.

    Returns:
        Whether it is better, None where that may be chance or is not known; and the figures behind it in a sentence.
    """
    truth, pairs = summary["truth"], summary["pairs"]
    if truth is None or not truth["pairs"]:
        share = f"{pairs['same']} of {pairs['both']} pairs" if pairs["both"] else "no pair"
        return None, (
            f"Without ground truth it is not known which run is better: {share} have the same box; {_DECISION}."
        )
    figures = {name: truth[key] for key, name in _FIGURES.items()}
    text = f"On {truth['pairs']} pairs: " + "; ".join(_describe(name, figure) for name, figure in figures.items())
    verdict = verdict_of(truth)
    if verdict == "unclear":
        return None, f"{text}. This may be chance; {_DECISION}."
    if verdict == "mixed":
        return None, f"{text}. One is better, the other worse; {_DECISION}."
    return verdict == "better", f"{text}. The new model is {verdict}."


def _describe(name: str, figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    return (
        f"{name} {figure['second']:.1%} against {figure['first']:.1%}, difference {figure['difference']:+.1%} "
        f"({low:+.1%} to {high:+.1%})"
    )
