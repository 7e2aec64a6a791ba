"""Label what is new: see what that is, and publish it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mining.config import MineSettings
from mining.label_store.settings import LabelSettings
from mining.label_store.summaries import GateResult, LabelPlan, LabelSummary
from tasks.orchestration import report, step

STAGED_EVENT = "boxmine.labels.staged"
GATE_HEADINGS = ("gate", "value", "limit", "verdict", "meaning")
PUBLISHED_EVENT = "boxmine.labels.published"


@contextmanager
def lock_job(settings: LabelSettings, *, sweeps: bool = True) -> Iterator[None]:
    """Keep other jobs off the same runs. sweeps: delete what a killed one left half written."""
    from mining.label_store import job

    with job.lock_job(settings, sweeps=sweeps):
        yield


@step(name="check store")
def check_store(settings: LabelSettings, new_store: bool = False) -> None:
    """Stop where the store that earlier jobs published to is gone."""
    from mining.label_store import job

    job.check_store(settings, new_store=new_store)


@step(name="carry on")
def find_unfinished_run(settings: LabelSettings) -> MineSettings | None:
    """The run that an earlier job did not finish."""
    from mining.label_store import job

    return job.find_unfinished_run(settings)


@step(name="plan labels")
def plan_labels(settings: LabelSettings) -> LabelPlan:
    """List the images and see which are new, changed, renamed or gone."""
    from mining.label_store import job

    return job.plan_labels(settings)


@step(name="publish labels")
def publish_labels(settings: LabelSettings, accept: bool = False, new_store: bool = False) -> LabelSummary | None:
    """Hold the new labels against the gates, and publish them; None where a part was damaged and is to be made anew."""
    from mining.label_store import publish

    return publish.publish_labels(settings, accept=accept, new_store=new_store)


@step(name="restore labels")
def restore_labels(settings: LabelSettings, version: str) -> LabelSummary:
    """Publish an earlier version once more, by its number or a time."""
    from mining.label_store import restore

    return restore.restore_version(settings, version)


@step(name="clean up")
def clean_up(settings: LabelSettings, keep: int, dry_run: bool = False, needs_store: bool = True) -> Any:
    """Delete what no version is from; gives the mining.label_store.cleanup.Cleaned."""
    from mining.label_store import cleanup

    return cleanup.clean(settings, keep, dry_run=dry_run, needs_store=needs_store)


def publish_summary(summary: LabelSummary) -> None:
    """Say on Prefect's page what came of it: an event, which an automation may wait for, a table, the run's name."""
    report(_show, summary)


def _show(summary: LabelSummary) -> None:
    from prefect.artifacts import create_table_artifact
    from prefect.client.orchestration import get_client
    from prefect.events import emit_event
    from prefect.logging import get_run_logger
    from prefect.runtime import flow_run

    event = {"staged": STAGED_EVENT, "published": PUBLISHED_EVENT, "restored": PUBLISHED_EVENT}.get(summary.state)
    if event is not None:
        failed = [verdict.gate for verdict in summary.gates if not verdict.passed]
        emit_event(
            event, resource={"prefect.resource.id": f"boxmine.labels.{summary.store}"},
            payload={"version": summary.version, "images": summary.images, "boxes": summary.boxes, "failed": failed},
        )  # fmt: skip
    create_table_artifact(
        [dict(zip(GATE_HEADINGS, row, strict=True)) for row in gate_rows(summary.gates)],
        key="label-gates", description=" ".join(label_sentences(summary)),
    )  # fmt: skip
    logger = get_run_logger()
    for line in [*summary.notes, *(gate.line for gate in summary.gates), *label_sentences(summary)]:
        logger.info(line)
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=run_title(summary))


def run_title(summary: LabelSummary) -> str:
    """The name of a flow run that has ended: "label shop: 19 new, 2 gone (staged)"."""
    if summary.restored is not None:
        return f"label {summary.corpus}: version {summary.restored} restored"
    counts = {**summary.tally["reasons"], "gone": summary.tally["retired"], "renamed": summary.tally["moved"]}
    what = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "nothing new"
    return f"label {summary.corpus}: {what}" + (" (staged)" if summary.state == "staged" else "")


def staged_state(summary: LabelSummary) -> Any:
    """The Prefect state of a flow run that staged its version: of the type FAILED, and named Staged.

    A run of that type is red on Prefect's page and is found by its filter for failures, and whoever waits for the run
    sees that nothing was published, as by the exit code 5. Its event is `prefect.flow-run.Staged`, so that it does not
    set off automations that wait for `prefect.flow-run.Failed`.
    """
    from prefect.states import Failed

    return Failed(name="Staged", message=label_sentences(summary)[-1])


def gate_rows(gates: Sequence[GateResult]) -> list[tuple[str, str, str, str, str]]:
    """Rows (gate, value, limit, verdict, meaning) of the gates that are on."""
    return [
        (
            gate.gate,
            "-" if gate.value is None else f"{gate.value:.3f}",
            f"{gate.limit:.3f}",
            gate.outcome,
            gate.meaning,
        )
        for gate in gates
    ]


def label_sentences(summary: LabelSummary) -> list[str]:
    """What was done, in words."""
    if summary.restored is not None:
        return [_restored_in_words(summary)]
    said = [f"{tally_in_words(summary.tally)}."]
    if summary.deferred:
        said.append(f"{summary.deferred} images changed while they were mined; the next job takes them.")
    if summary.state == "published":
        said.append(
            f"Version {summary.version} of {summary.store} is published: "
            f"{summary.boxes} boxes on {summary.images} images."
        )
    elif summary.state == "unchanged":
        said.append(f"Nothing changed: {summary.store} stays at version {summary.version}.")
    else:
        failed = ", ".join(verdict.gate for verdict in summary.gates if not verdict.passed)
        said.append(
            f"Staged, not published: {failed} did not pass. Look at the boxes in "
            f"{', '.join(summary.runs) or 'the store'}; --accept publishes them."
        )
    return said


def _restored_in_words(summary: LabelSummary) -> str:
    if summary.state == "unchanged":
        return (
            f"Nothing changed: {summary.corpus!r} is in version {summary.version} of {summary.store} what it was in "
            f"version {summary.restored}."
        )
    return (
        f"Version {summary.version} of {summary.store} is published: {summary.corpus!r} as in version "
        f"{summary.restored}, {summary.boxes} boxes on {summary.images} images."
    )


def tally_in_words(tally: dict[str, Any]) -> str:
    """What became of the images."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally["reasons"].items()))
    done = [f"{tally['kept']} images as they were"]
    done += [f"labelled: {reasons}"] if reasons else []
    done += [f"{tally[name]} {words}" for name, words in _MOVES.items() if tally.get(name)]
    return "; ".join(done)


_MOVES = {"moved": "renamed or in another split", "copied": "copies of labelled images", "retired": "gone"}
