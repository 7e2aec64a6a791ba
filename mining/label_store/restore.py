"""An earlier version of a corpus published once more, as the newest one."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.errors import InputError, RunStoppedError
from mining.label_store.delta_table import ConcurrentPublishError, LabelStore, Version
from mining.label_store.diff import Tally
from mining.label_store.layout import JobLayout
from mining.label_store.schema import STORE_SCHEMA
from mining.label_store.settings import LabelSettings
from mining.label_store.summaries import LabelSummary
from mining.runs.event_log import log_event
from mining.storage.provenance import utc_now

_TRIES = 20  # to publish, while others do


def restore_version(settings: LabelSettings, moment: str) -> LabelSummary:
    """Publish the corpus as an earlier version has it, in one commit against the newest version.

    Other corpora of the store stay as they are, and so does every version. Runs that were published since are not used
    again: what they labelled is new to the next job. Where the corpus already is as that version has it, nothing is
    written.

    moment: the version's number, or a time (ISO 8601).
    Raises InputError where there is no such version or it lacks the corpus, StorageError, RunStoppedError.
    """
    store = LabelStore(settings.store)
    wanted = store.as_of(moment, option="--restore")
    if not wanted.corpus(settings.name):
        raise InputError(
            f"Version {wanted.number} of {settings.store} holds no labels of {settings.name!r}; "
            f"`boxmine status {settings.store}` lists the versions that do."
        )
    for _ in range(_TRIES):
        try:
            return _restored(settings, store, store.latest(), wanted)
        except ConcurrentPublishError:
            continue
    raise RunStoppedError(f"{settings.store} changes all the time; run the same command again later.")


def _restored(settings: LabelSettings, store: LabelStore, latest: Version, wanted: Version) -> LabelSummary:
    was, new = latest.corpus(settings.name), wanted.corpus(settings.name)
    number, state = latest.number, "unchanged"
    if not _is_the_same(was, new, wanted.number):
        buckets = sorted({*latest.buckets(), *wanted.buckets()})
        record = {
            **latest.record,  # with its next ids: no number is ever given twice
            "corpora": {**latest.record["corpora"], settings.name: _record(was, new, wanted.number, settings)},
        }
        number = store.publish(latest, buckets, _rows(settings.name, latest, wanted, buckets), record)
        state = "restored"
    counts = new["counts"]
    tally = asdict(Tally(listed=counts["images"], kept=counts["images"]))
    summary = LabelSummary(
        state, settings.store, number, counts["images"], counts["boxes"], tally, 0, 0, [], [], [],
        corpus=settings.name, restored=wanted.number,
    )  # fmt: skip
    log_event(JobLayout(settings).work, state, corpus=settings.name, version=number, restored=wanted.number,
         images=summary.images, boxes=summary.boxes)  # fmt: skip
    return summary


def _is_the_same(was: dict[str, Any], new: dict[str, Any], version: int) -> bool:
    return was == new or was.get("restored") == version


def _record(was: dict[str, Any], new: dict[str, Any], version: int, settings: LabelSettings) -> dict[str, Any]:
    """What the restored version says of the corpus: how its images are labelled is what the earlier one said."""
    published = dict.fromkeys([*new.get("published", []), *was.get("published", [])])
    return {
        **new,
        "published": list(published),
        "settings": {**was.get("settings", {}), **new.get("settings", {})},
        "tally": asdict(Tally(listed=new["counts"]["images"], kept=new["counts"]["images"])),
        "gates": [],
        "accepted": False,
        "runs": str(settings.runs),
        "restored": version,
        "at": utc_now(),
    }


def _rows(corpus: str, latest: Version, wanted: Version, buckets: list[int]) -> Iterator[pa.RecordBatch]:
    """The earlier version's rows of the corpus, and the newest one's of all others, bucket by bucket."""
    for bucket in buckets:
        others = pa.Table.from_batches(latest.rows(None, buckets=[bucket]), STORE_SCHEMA)
        others = others.filter(pc.not_equal(others["corpus"], corpus))
        own = pa.Table.from_batches(wanted.rows(corpus, buckets=[bucket]), STORE_SCHEMA)
        yield from pa.concat_tables([others, own]).combine_chunks().sort_by("image_id").to_batches()
