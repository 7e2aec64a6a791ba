"""Show the result of a labelling job on Prefect's page."""

from typing import Any

from mining.label_store.summaries import LabelSummary
from mining.label_store.summary_text import GATE_HEADINGS, gate_rows, run_title, summary_sentences
from tasks.orchestration import report

STAGED_EVENT = "boxmine.labels.staged"
PUBLISHED_EVENT = "boxmine.labels.published"
_EVENTS = {"staged": STAGED_EVENT, "published": PUBLISHED_EVENT, "restored": PUBLISHED_EVENT}


def publish_summary(summary: LabelSummary) -> None:
    """Emit an event for automations, write a table of the gates, log the counts, and rename the flow run.

    Does nothing outside of a flow run.
    """
    report(_show, summary)


def _show(summary: LabelSummary) -> None:
    from prefect.artifacts import create_table_artifact
    from prefect.client.orchestration import get_client
    from prefect.events import emit_event
    from prefect.logging import get_run_logger
    from prefect.runtime import flow_run

    event = _EVENTS.get(summary.state)
    if event is not None:
        failed = [gate.gate for gate in summary.gates if not gate.passed]
        emit_event(
            event, resource={"prefect.resource.id": f"boxmine.labels.{summary.store}"},
            payload={"version": summary.version, "images": summary.images, "boxes": summary.boxes, "failed": failed},
        )  # fmt: skip
    create_table_artifact(
        [dict(zip(GATE_HEADINGS, row, strict=True)) for row in gate_rows(summary.gates)],
        key="label-gates", description=" ".join(summary_sentences(summary)),
    )  # fmt: skip
    logger = get_run_logger()
    for line in [*summary.notes, *(gate.line for gate in summary.gates), *summary_sentences(summary), *summary.steps]:
        logger.info(line)
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=run_title(summary))


def staged_state(summary: LabelSummary) -> Any:
    """Return the Prefect state of a flow run that staged its version: of type FAILED, named Staged.

    A run of type FAILED is red on Prefect's page and is found by its filter for failures, and a process that waits for
    the run sees that nothing was published, as it does from exit code 5. The event is `prefect.flow-run.Staged`, so
    that automations which wait for `prefect.flow-run.Failed` are not triggered.
    """
    from prefect.states import Failed

    return Failed(name="Staged", message=summary_sentences(summary)[-1])
