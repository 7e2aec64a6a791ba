"""The last step of a labelling job: rows, gates, the new version."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.corpus import read_summary
from mining.errors import DamagedPartError, RunStoppedError
from mining.label_store.changes import compared
from mining.label_store.delta_table import ConcurrentPublishError, LabelStore, Version
from mining.label_store.diff import SnapshotDiff
from mining.label_store.layout import JobLayout, model_of
from mining.label_store.publications import last_publication, record_intention, record_publication, refuse_missing_store
from mining.label_store.quality_gates import SURVEYED, Measured, VersionStatistics, evaluate_gates
from mining.label_store.schema import IMAGES_OF_A_BUCKET
from mining.label_store.settings import LabelSettings
from mining.label_store.staleness import settings_that_matter
from mining.label_store.summaries import LabelSummary
from mining.label_store.version_corloc import corloc_and_drop
from mining.label_store.version_rows import Changes, new_rows, rows_of_run, rows_of_version
from mining.models.card import ModelCard
from mining.redaction import redacted
from mining.runs.event_log import log_event
from mining.runs.inputs import effective_settings
from mining.runs.mining_job import discard_damaged_parts
from mining.runs.run import Run
from mining.storage.files import write_json
from mining.storage.integrity import digest_of
from mining.storage.provenance import now

_TRIES = 20  # to publish, while others do


def publish_labels(settings: LabelSettings, *, accept: bool = False, new_store: bool = False) -> LabelSummary | None:
    """Put what was mined and what changed into the store as a new version, if the gates let it through.

    accept: publish in any case. new_store: begin a new store where the one that was published to is gone.
    None: a run's part was damaged and thrown away, and is to be mined again.
    Raises StorageError; StoreMissingError where the store has gone; RunStoppedError where other jobs publish all the
    time.
    """
    card = model_of(settings)
    store = LabelStore(settings.store)
    for _ in range(_TRIES):
        try:
            version = store.latest()
            refuse_missing_store(settings, version, new_store=new_store)  # it may have gone while images were mined
            return _published(settings, store, version, card, accept=accept)
        except ConcurrentPublishError:
            continue
        except DamagedPartError:
            finished = [run for run in JobLayout(settings).run_directories() if run.is_finished()]
            if not sum(map(discard_damaged_parts, finished)):
                raise
            return None
    raise RunStoppedError(f"{settings.store} changes all the time; give the command again later.")


def _published(
    settings: LabelSettings, store: LabelStore, version: Version, card: ModelCard, *, accept: bool
) -> LabelSummary:
    places = JobLayout(settings)
    shutil.rmtree(places.changes, ignore_errors=True)
    before = version.corpus(settings.name)
    with compared(settings, version, card) as (book, runs):
        record = {"next_image_id": 1, "next_annotation_id": 1, "corpora": {}, **version.record}
        next_image_id = book.number(record["next_image_id"])
        changes = Changes(places.changes)
        for number, run in enumerate(runs):
            digest = digest_of(settings_that_matter(run.settings))
            changes.write(rows_of_run(run, number, book, settings.name, digest))
        changes.write(rows_of_version(version, book, settings.name))
        buckets = book.buckets(IMAGES_OF_A_BUCKET)
        tally, used = book.tally, [run for number, run in enumerate(runs) if book.uses(number)]
        measured = _measured(version, changes, book, settings.name, used, record["next_image_id"])
        dropped = sum(_boxes_dropped(version, book, settings.name, bucket) for bucket in buckets)
        counts = {
            "images": tally.listed - tally.to_mine,
            "boxes": measured.before.boxes - dropped + changes.boxes,
        }

        next_annotation_id = record["next_annotation_id"]

        def rows(only: list[int]) -> Iterator[pa.RecordBatch]:
            return new_rows(version, book, changes, settings.name, only, next_annotation_id)

        corloc, drop = _corloc_and_drop(settings, card, version, buckets, rows) if buckets else (None, None)
        measured = replace(measured, has_truth=settings.truth is not None, corloc=corloc, drop=drop)
        verdicts = evaluate_gates(settings.gates, measured) if buckets else []
        is_good = accept or all(verdict.passed for verdict in verdicts)
        state = "unchanged" if not buckets else "published" if is_good else "staged"
        if state == "published":
            record = {
                **record,
                "next_image_id": next_image_id,
                "next_annotation_id": next_annotation_id + changes.unnumbered,
                "corpora": {
                    **record["corpora"],
                    settings.name: {
                        **_record_of(settings, card),
                        "published": [*before.get("published", []), *(run.path.name for run in used)],
                        "settings": {**before.get("settings", {}), **_settings_of(settings, used)},
                        "counts": counts,
                        "tally": asdict(tally),
                        "corloc": corloc,
                        "unjudged": [] if accept else _unjudged(settings, measured, before, used),
                        "gates": [asdict(verdict) for verdict in verdicts],
                        "accepted": accept,
                        "runs": str(places.runs),
                        "at": now(),
                    },
                },
            }
            record_intention(used, settings, version)
            number = store.publish(version, buckets, rows(buckets), record)
            record_publication(used, settings, store.latest())
        else:
            number = version.number
    shutil.rmtree(places.changes, ignore_errors=True)
    summary = LabelSummary(
        state, settings.store, None if number < 0 else number, counts["images"], counts["boxes"], asdict(tally),
        tally.to_mine, measured.new.states.get("quarantined", 0) + tally.absent, _reasons(used), verdicts,
        [run.path.name for run in used], read_summary(places.listed).notes, settings.name,
    )  # fmt: skip
    known = {"store": redacted(settings.store), "version": number} if before or state == "published" else None
    write_json(places.record, {**asdict(summary), "published": known or last_publication(settings), "at": now()})
    log_event(
        places.work, state, corpus=settings.name, version=summary.version, images=summary.images, boxes=summary.boxes,
        failed=[verdict.gate for verdict in verdicts if not verdict.passed], runs=summary.runs,
        gates=[verdict.line for verdict in verdicts],
    )  # fmt: skip
    return summary


def _unjudged(settings: LabelSettings, measured: Measured, before: dict[str, Any], used: list[Run]) -> list[str]:
    """The runs whose images are counted once more with the next night's: all of them together are still too few."""
    if measured.images >= settings.gates.min_images:
        return []
    return [*before.get("unjudged", []), *(run.path.name for run in used)]


def _settings_of(settings: LabelSettings, runs: list[Run]) -> dict[str, dict[str, Any]]:
    every = [settings_that_matter(settings.mine), *(settings_that_matter(run.settings) for run in runs)]
    return {digest_of(one): one for one in every}


def _measured(
    version: Version, changes: Changes, book: SnapshotDiff, corpus: str, used: list[Run], first_new_id: int
) -> Measured:
    """What these runs mined, beside what the last version has; images with an id below `first_new_id` are known."""
    new, before, earlier = VersionStatistics(), VersionStatistics(), VersionStatistics()
    runs = pa.array([run.path.name for run in used], pa.string())
    unjudged = pa.array(version.corpus(corpus).get("unjudged", []), pa.string())
    for batch in changes.batches([*SURVEYED, "run", "content_hash"]):
        is_missing = pc.and_(pc.is_null(batch["content_hash"]), pc.less(batch["image_id"], first_new_id))
        new.add(batch.filter(pc.and_(pc.is_in(batch["run"], value_set=runs), pc.invert(is_missing))))
        earlier.add(batch.filter(pc.is_in(batch["run"], value_set=unjudged)))
    for bucket in version.buckets():
        dropped = pa.array(_dropped(book, bucket), pa.int64())
        for batch in version.rows(corpus, [*SURVEYED, "run"], [bucket]):
            before.add(batch)
            stays = pc.invert(pc.is_in(batch["image_id"], value_set=dropped))
            earlier.add(batch.filter(pc.and_(pc.is_in(batch["run"], value_set=unjudged), stays)))
    return Measured(new, before, book.tally, earlier)


def _dropped(book: SnapshotDiff, bucket: int) -> list[int]:
    first = bucket * IMAGES_OF_A_BUCKET
    return sorted(book.dropped(first, first + IMAGES_OF_A_BUCKET - 1))


def _boxes_dropped(version: Version, book: SnapshotDiff, corpus: str, bucket: int) -> int:
    dropped = pa.array(_dropped(book, bucket), pa.int64())
    count = 0
    for batch in version.rows(corpus, ["image_id", "annotation_id"], [bucket]):
        is_box = batch["annotation_id"].is_valid()
        count += pc.and_(is_box, pc.is_in(batch["image_id"], value_set=dropped)).true_count
    return count


def _corloc_and_drop(
    settings: LabelSettings, card: ModelCard, version: Version, buckets: list[int], rows: Any
) -> tuple[float | None, float | None]:
    """Of the version to come, and below the last one's; both None where there is no truth."""
    if settings.truth is None:
        return None, None

    def after() -> Iterator[pa.RecordBatch]:
        for one in sorted({*version.buckets(), *buckets}):
            found = rows([one]) if one in buckets else version.rows(settings.name, buckets=[one])
            yield from (batch.filter(pc.equal(batch["corpus"], settings.name)) for batch in found)

    record, folder = _record_of(settings, card), JobLayout(settings).view
    return corloc_and_drop(version.rows(settings.name), after(), record, settings.truth, folder)


def _record_of(settings: LabelSettings, card: ModelCard) -> dict[str, Any]:
    """What a version says of how its images are labelled now."""
    return {
        "images": str(settings.corpus.images),
        "settings_now": settings_that_matter(settings.mine),
        "used": effective_settings(settings.mine, card),
        "model": asdict(card),
    }


def _reasons(runs: list[Run]) -> list[str]:
    return [reason for run in runs for reason in run.first_reasons()][:3]
