"""Label what is new: once a night, say."""

from flows.mine import mine
from mining.label_store.settings import LabelSettings
from tasks.labelling import (
    LabelSummary,
    carry_on,
    check_store,
    clean_up,
    held,
    plan_labels,
    publish_labels,
    restore_labels,
    tell,
)


def label(
    settings: LabelSettings, accept: bool = False, restore: str | None = None, new_store: bool = False
) -> LabelSummary:
    """Finish what an earlier job left, mine what is new or changed, and publish it if the gates let it through.

    restore: instead, publish the version of this number or time once more. new_store: begin a new store where the one
    that earlier jobs published to is gone.
    """
    with held(settings):
        if restore is not None:
            summary = restore_labels(settings, restore)
            tell(summary)
            return summary
        check_store(settings, new_store)
        summary = None
        while summary is None:
            left = carry_on(settings)
            if left is not None:
                mine(left)
            plan = plan_labels(settings)
            if plan.run is not None:
                mine(plan.run)
            summary = publish_labels(settings, accept, new_store)
        tell(summary)
        if settings.keep_runs is not None:
            clean_up(settings, settings.keep_runs, needs_store=False)
    return summary
