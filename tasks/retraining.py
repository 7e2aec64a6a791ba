"""Show the result of a retraining on Prefect's page."""

from mining.experiments.retraining import RetrainResult
from tasks.orchestration import report

RETRAINED_EVENT = "boxmine.retrained"


def publish_summary(result: RetrainResult) -> None:
    """Emit an event for automations and write the result as an artifact; does nothing outside of a flow run."""
    report(_show, result)


def _show(result: RetrainResult) -> None:
    from prefect.artifacts import create_markdown_artifact
    from prefect.events import emit_event

    payload = {"model": str(result.model), "is_better": result.is_better, "reason": result.reason}
    emit_event(RETRAINED_EVENT, resource={"prefect.resource.id": f"boxmine.run.{result.run}"}, payload=payload)
    create_markdown_artifact(f"{result.reason} The new model is `{result.model}`.", key="retrained")
