"""Label what is new: once a night, say."""

from flows.mine import mine
from mining.label_store.settings import LabelSettings
from mining.runs.inputs import resolve_thresholds
from tasks.labelling import (
    LabelSummary,
    check_store,
    clean_up,
    find_unfinished_run,
    lock_job,
    plan_labels,
    publish_labels,
    publish_summary,
    restore_labels,
)


def label(
    settings: LabelSettings, accept: bool = False, restore: str | None = None, new_store: bool = False
) -> LabelSummary:
    """Finish what an earlier job left, mine what is new or changed, and publish it if the gates let it through.

    restore: instead, publish the version of this number or time once more. new_store: begin a new store where the one
    that earlier jobs published to is gone.
    """
    with lock_job(settings):
        if restore is not None:
            summary = restore_labels(settings, restore)
            publish_summary(summary)
            return summary
        settings = settings.model_copy(update={"mine": resolve_thresholds(settings.mine)})
        check_store(settings, new_store)
        summary = None
        while summary is None:
            left = find_unfinished_run(settings)
            if left is not None:
                mine(left)
            plan = plan_labels(settings)
            if plan.run is not None:
                mine(plan.run)
            summary = publish_labels(settings, accept, new_store)
        publish_summary(summary)
        if settings.keep_runs is not None:
            clean_up(settings, settings.keep_runs, needs_store=False)
    return summary
