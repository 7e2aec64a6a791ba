"""Label new and changed images and publish the next version of a label store, for example every night."""

from flows.mine import mine
from mining.label_store.settings import LabelSettings
from mining.label_store.summaries import LabelSummary
from mining.runs.inputs import resolve_thresholds
from tasks.labelling import publish_summary
from tasks.orchestration import step


def label(
    settings: LabelSettings, accept: bool = False, restore: str | None = None, new_store: bool = False
) -> LabelSummary:
    """Resume what an earlier job left, mine what is new or changed, and publish it if the gates pass.

    Args:
        settings: The recipe.
        accept: Publish even if a gate does not pass.
        restore: Mine nothing; publish the version of this number or time again.
        new_store: Start a new store where the one that earlier jobs published to is missing.
    """
    from mining.label_store import cleanup, job
    from mining.label_store import restore as restoring

    with job.lock_job(settings):
        if restore is not None:
            summary = step(name="restore labels")(restoring.restore_version)(settings, restore)
            publish_summary(summary)
            return summary
        settings = settings.model_copy(update={"mine": resolve_thresholds(settings.mine)})
        step(name="check store")(job.check_store)(settings, new_store=new_store)
        summary = _label_new_images(settings, accept=accept, new_store=new_store)
        publish_summary(summary)
        if settings.keep_runs is not None:
            step(name="clean up")(cleanup.clean)(settings, settings.keep_runs, needs_store=False)
    return summary


def _label_new_images(settings: LabelSettings, *, accept: bool, new_store: bool) -> LabelSummary:
    from mining.label_store import job, publish

    while True:
        unfinished = step(name="find unfinished run")(job.find_unfinished_run)(settings)
        if unfinished is not None:
            mine(unfinished)
        plan = step(name="plan labels")(job.plan_labels)(settings)
        if plan.run is not None:
            mine(plan.run)
        try:
            return step(name="publish labels")(publish.publish_labels)(settings, accept=accept, new_store=new_store)
        except publish.PartsDiscardedError:  # the next round mines them again
            continue
