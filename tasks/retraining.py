"""Plan a retraining, and say what came of it."""

from pathlib import Path
from typing import Any

from mining.config import RetrainSettings, RunSettings
from mining.experiments.retraining import RetrainResult
from tasks.orchestration import report, step

RETRAINED_EVENT = "boxmine.retrained"


@step(name="plan retraining")
def plan_retraining(settings: RetrainSettings) -> RunSettings:
    """What to train and mine, and where it goes."""
    from mining.experiments import retraining

    return retraining.plan_retraining(settings)


@step(name="judge")
def evaluate_retraining(
    settings: RetrainSettings, run: Path, summary: dict[str, Any] | None, page: Path | None
) -> RetrainResult:
    """Whether the new run is better than the one in use."""
    from mining.experiments import retraining

    return retraining.evaluate_retraining(settings, run, summary, page)


def publish_summary(found: RetrainResult) -> None:
    """Say on Prefect's page what came of it: an event, which an automation may wait for, and a sentence."""
    report(_show, found)


def _show(found: RetrainResult) -> None:
    from prefect.artifacts import create_markdown_artifact
    from prefect.events import emit_event

    told = {"model": str(found.model), "is_better": found.is_better, "reason": found.reason}
    emit_event(RETRAINED_EVENT, resource={"prefect.resource.id": f"boxmine.run.{found.run}"}, payload=told)
    create_markdown_artifact(f"{found.reason} The new model is `{found.model}`.", key="retrained")
