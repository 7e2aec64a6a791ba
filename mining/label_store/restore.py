"""Restore an earlier version of a corpus by publishing it again as the newest version."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.errors import InputError, RunStoppedError
from mining.label_store.delta_table import ConcurrentPublishError, LabelStore, Version
from mining.label_store.diff import Tally
from mining.label_store.layout import JobLayout
from mining.label_store.publish import MAX_TRIES
from mining.label_store.schema import STORE_SCHEMA
from mining.label_store.settings import LabelSettings
from mining.label_store.summaries import LabelSummary
from mining.runs.event_log import log_event
from mining.storage.provenance import utc_now


def restore_version(settings: LabelSettings, moment: str) -> LabelSummary:
    """Publish the corpus as it is in an earlier version, in one commit on top of the newest version.

    Other corpora of the store and all versions stay as they are. Runs that were published since are not used again:
    the images they labelled are new to the next job. Nothing is written if the corpus already is as in that version.

    Args:
        settings: The recipe.
        moment: Number of the version, or a time (ISO 8601).

    Raises:
        InputError: There is no such version, or the corpus is not in it.
        StorageError: The store cannot be reached or written.
        RunStoppedError: Other jobs keep publishing to the store.
    """
    store = LabelStore(settings.store)
    wanted = store.as_of(moment, option="--restore")
    if not wanted.corpus(settings.name):
        raise InputError(
            f"Version {wanted.number} of {settings.store} holds no labels of {settings.name!r}; "
            f"`boxmine status {settings.store}` lists the versions that do."
        )
    for _ in range(MAX_TRIES):
        try:
            return _restore(settings, store, store.latest(), wanted)
        except ConcurrentPublishError:
            continue
    raise RunStoppedError(f"{settings.store} keeps changing; run the same command again later.")


def _restore(settings: LabelSettings, store: LabelStore, latest: Version, wanted: Version) -> LabelSummary:
    current, earlier = latest.corpus(settings.name), wanted.corpus(settings.name)
    number, state = latest.number, "unchanged"
    if current != earlier and current.get("restored") != wanted.number:
        buckets = sorted({*latest.buckets(), *wanted.buckets()})
        restored = _restored_record(current, earlier, wanted.number, settings)
        record = {
            **latest.record,  # with its next ids: no id is ever given twice
            "corpora": {**latest.record["corpora"], settings.name: restored},
        }
        number = store.publish(latest, buckets, _rows(settings.name, latest, wanted, buckets), record)
        state = "restored"
    counts = earlier["counts"]
    tally = asdict(Tally(listed=counts["images"], kept=counts["images"]))
    summary = LabelSummary(
        state, settings.store, number, counts["images"], counts["boxes"], tally, 0, 0, [], [], [],
        corpus=settings.name, restored=wanted.number,
    )  # fmt: skip
    log_event(
        JobLayout(settings).work, state, corpus=settings.name, version=number, restored=wanted.number,
        images=summary.images, boxes=summary.boxes,
    )  # fmt: skip
    return summary


def _restored_record(
    current: dict[str, Any], earlier: dict[str, Any], version: int, settings: LabelSettings
) -> dict[str, Any]:
    """The record of the earlier version, with the published runs and the settings of both.

    Corrections that were published since are not published again, unless people change them.
    """
    published = dict.fromkeys([*earlier.get("published", []), *current.get("published", [])])
    return {
        **earlier,
        "published": list(published),
        "settings": {**current.get("settings", {}), **earlier.get("settings", {})},
        "tally": asdict(Tally(listed=earlier["counts"]["images"], kept=earlier["counts"]["images"])),
        "corrected": current.get("corrected", {}),
        "gates": [],
        "accepted": False,
        "runs": str(settings.runs),
        "restored": version,
        "at": utc_now(),
    }


def _rows(corpus: str, latest: Version, wanted: Version, buckets: list[int]) -> Iterator[pa.RecordBatch]:
    """The corpus' rows of the wanted version, and the other corpora's rows of the latest, bucket by bucket."""
    for bucket in buckets:
        others = pa.Table.from_batches(latest.rows(None, buckets=[bucket]), STORE_SCHEMA)
        others = others.filter(pc.not_equal(others["corpus"], corpus))
        own = pa.Table.from_batches(wanted.rows(corpus, buckets=[bucket]), STORE_SCHEMA)
        yield from pa.concat_tables([others, own]).combine_chunks().sort_by("image_id").to_batches()
