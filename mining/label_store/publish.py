"""The last step of a labelling job: build the rows of the next version, check the gates and publish it."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.corpus import read_summary
from mining.errors import DamagedPartError, RunStoppedError
from mining.label_store.changes import compare_snapshots
from mining.label_store.corrections import Corrections, corrected_images, read_corrections
from mining.label_store.delta_table import ConcurrentPublishError, LabelStore, Version
from mining.label_store.diff import SnapshotDiff
from mining.label_store.layout import JobLayout, install_job_model
from mining.label_store.publications import last_publication, record_intention, record_publication, refuse_missing_store
from mining.label_store.quality_gates import Measurements, evaluate_gates
from mining.label_store.schema import IMAGES_PER_BUCKET
from mining.label_store.settings import LabelSettings
from mining.label_store.staleness import settings_that_matter
from mining.label_store.summaries import GateResult, LabelSummary
from mining.label_store.verdict_steps import next_steps
from mining.label_store.version_corloc import corloc_and_drop
from mining.label_store.version_precision import VersionPrecision, precision_of_next_version, precision_record
from mining.label_store.version_rows import Changes, rows_of_next_version, rows_of_run, rows_of_version
from mining.label_store.version_statistics import boxes_dropped, measure_version
from mining.models.card import ModelCard
from mining.redaction import redact
from mining.runs.event_log import log_event
from mining.runs.inputs import effective_settings
from mining.runs.mining_job import discard_damaged_parts
from mining.runs.run import Run
from mining.storage.files import write_json
from mining.storage.integrity import digest_of
from mining.storage.provenance import utc_now

MAX_TRIES = 20  # to publish while other jobs publish, too


class PartsDiscardedError(RunStoppedError):
    """Damaged parts of a run were deleted, and their shards must be mined again; run the same command again."""


def publish_labels(settings: LabelSettings, *, accept: bool = False, new_store: bool = False) -> LabelSummary:
    """Publish what was mined and what changed as a new version, if the gates pass.

    Args:
        settings: The recipe.
        accept: Publish even if a gate does not pass.
        new_store: Start a new store where the one that was published to is missing.

    Raises:
        PartsDiscardedError: Parts of a run were damaged; they were deleted and must be mined again.
        StorageError: The store cannot be reached or written.
        StoreMissingError: The store that was published to is missing.
        RunStoppedError: Other jobs keep publishing to the store.
    """
    card = install_job_model(settings)
    store = LabelStore(settings.store)
    for _ in range(MAX_TRIES):
        try:
            version = store.latest()
            refuse_missing_store(settings, version, new_store=new_store)  # it may have gone while images were mined
            return _publish(settings, store, version, card, accept=accept)
        except ConcurrentPublishError:
            continue
        except DamagedPartError as error:
            finished = [run for run in JobLayout(settings).run_directories() if run.is_finished()]
            if not sum(map(discard_damaged_parts, finished)):
                raise
            raise PartsDiscardedError(str(error)) from error
    raise RunStoppedError(f"{settings.store} keeps changing; run the same command again later.")


@dataclass(frozen=True)
class _NextVersion:
    """The version that would follow `base`.

    Attributes:
        base: The last version.
        used: Runs that new boxes come from.
        buckets: Buckets that change.
        changes: The new rows.
        diff: The comparison that the version is planned from.
        next_image_id: First free image id.
        counts: Images and boxes of the corpus.
        measured: What the gates compare.
        corrections: The corrections that are in the new rows.
    """

    base: Version
    used: list[Run]
    buckets: list[int]
    changes: Changes
    diff: SnapshotDiff
    next_image_id: int
    counts: dict[str, int]
    measured: Measurements
    corrections: Corrections

    @property
    def next_annotation_id(self) -> int:
        """First annotation id that is free in the last version."""
        return int(self.base.record.get("next_annotation_id", 1))

    def rows(self, corpus: str, buckets: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """All rows of some buckets, of all corpora."""
        return rows_of_next_version(self.base, self.diff, self.changes, corpus, buckets, self.next_annotation_id)


def _publish(
    settings: LabelSettings, store: LabelStore, version: Version, card: ModelCard, *, accept: bool
) -> LabelSummary:
    layout = JobLayout(settings)
    shutil.rmtree(layout.changes, ignore_errors=True)
    with compare_snapshots(settings, version, card) as (diff, runs):
        corrections = read_corrections(settings, version, card)
        diff.add_corrected(corrected_images(version, settings.name, corrections))
        new = _prepare(layout, version, diff, runs, corrections)
        corloc, drop = _corloc_and_drop(settings, card, new) if new.buckets else (None, None)
        precision = precision_of_next_version(diff, runs, always=settings.gates.min_precision is not None)
        shown = precision_record(precision or (corrections.precision() if diff.tally.corrected else None))
        measured = replace(
            new.measured, has_truth=settings.truth is not None, corloc=corloc, drop=drop, precision=precision
        )
        gates = evaluate_gates(settings.gates, measured) if new.buckets else []
        is_good = accept or all(gate.passed for gate in gates)
        state = "unchanged" if not new.buckets else "published" if is_good else "staged"
        number = version.number
        if state == "published":
            record = _record_of_next_version(settings, card, new, gates, measured, shown, accept=accept)
            record_intention(new.used, settings, version)
            number = store.publish(version, new.buckets, new.rows(settings.name, new.buckets), record)
            record_publication(new.used, settings, store.latest())
    shutil.rmtree(layout.changes, ignore_errors=True)
    tally = diff.tally
    summary = LabelSummary(
        state, settings.store, None if number < 0 else number, new.counts["images"], new.counts["boxes"],
        asdict(tally), tally.to_mine, measured.new.states.get("quarantined", 0) + tally.absent,
        _first_reasons(new.used), gates, [run.path.name for run in new.used], read_summary(layout.listed).notes,
        settings.name, precision=shown,
        warnings=[*(sentence for run in new.used for sentence in run.record["warnings"]), *corrections.warnings],
        steps=_steps(settings, gates, precision) if state == "staged" else [],
    )  # fmt: skip
    _record_job_result(settings, version, summary)
    return summary


def _prepare(
    layout: JobLayout, version: Version, diff: SnapshotDiff, runs: list[Run], corrections: Corrections
) -> _NextVersion:
    """Write the new rows to the job's folder and count what changes."""
    first_new_id = version.record.get("next_image_id", 1)
    next_image_id = diff.number(first_new_id)
    changes = Changes(layout.changes)
    for number, run in enumerate(runs):
        digest = digest_of(settings_that_matter(run.settings))
        changes.write(map(corrections.apply, rows_of_run(run, number, diff, layout.name, digest)))
    changes.write(map(corrections.apply, rows_of_version(version, diff, layout.name)))
    buckets = diff.buckets(IMAGES_PER_BUCKET)
    used = [run for number, run in enumerate(runs) if diff.uses(number)]
    measured = measure_version(version, changes, diff, layout.name, used, first_new_id)
    dropped = sum(boxes_dropped(version, diff, layout.name, bucket) for bucket in buckets)
    counts = {
        "images": diff.tally.listed - diff.tally.to_mine,
        "boxes": measured.before.boxes + measured.before.human - dropped + changes.boxes,
    }
    return _NextVersion(version, used, buckets, changes, diff, next_image_id, counts, measured, corrections)


def _record_of_next_version(
    settings: LabelSettings, card: ModelCard, new: _NextVersion, gates: list[GateResult], measured: Measurements,
    precision: dict[str, Any] | None, *, accept: bool,
) -> dict[str, Any]:  # fmt: skip
    before = new.base.corpus(settings.name)
    record = {"corpora": {}, **new.base.record}
    return {
        **record,
        "next_image_id": new.next_image_id,
        "next_annotation_id": new.next_annotation_id + new.changes.unnumbered,
        "corpora": {
            **record["corpora"],
            settings.name: {
                **_labelling_record(settings, card),
                "published": [*before.get("published", []), *(run.path.name for run in new.used)],
                "settings": {**before.get("settings", {}), **_settings_by_digest(settings, new.used)},
                "counts": new.counts,
                "tally": asdict(new.diff.tally),
                "corloc": measured.corloc,
                "precision": precision,
                "corrected": {**before.get("corrected", {}), **new.corrections.digests},
                "unjudged": [] if accept else _unjudged_runs(settings, new.measured, before, new.used),
                "gates": [asdict(gate) for gate in gates],
                "accepted": accept,
                "runs": str(settings.runs),
                "new_runs": [run.path.name for run in new.used],
                "at": utc_now(),
            },
        },
    }


def _record_job_result(settings: LabelSettings, before: Version, summary: LabelSummary) -> None:
    """Write the result of the job to its folder and its log."""
    layout = JobLayout(settings)
    is_in_store = bool(before.corpus(settings.name)) or summary.state == "published"
    publication = {"store": redact(settings.store), "version": summary.version} if is_in_store else None
    record = {**asdict(summary), "published": publication or last_publication(settings), "at": utc_now()}
    write_json(layout.record, record)
    log_event(
        layout.work, summary.state, corpus=settings.name, version=summary.version, images=summary.images,
        boxes=summary.boxes, failed=[gate.gate for gate in summary.gates if not gate.passed], runs=summary.runs,
        gates=[gate.line for gate in summary.gates],
    )  # fmt: skip


def _unjudged_runs(
    settings: LabelSettings, measured: Measurements, before: dict[str, Any], used: list[Run]
) -> list[str]:
    """Runs whose images are counted again with those of the next night, because they are too few to be judged."""
    if measured.images >= settings.gates.min_images:
        return []
    return [*before.get("unjudged", []), *(run.path.name for run in used)]


def _settings_by_digest(settings: LabelSettings, runs: list[Run]) -> dict[str, dict[str, Any]]:
    options = [settings_that_matter(settings.mine), *(settings_that_matter(run.settings) for run in runs)]
    return {digest_of(one): one for one in options}


def _corloc_and_drop(settings: LabelSettings, card: ModelCard, new: _NextVersion) -> tuple[float | None, float | None]:
    """CorLoc of the next version and its drop since the last one; both None if there is no ground truth."""
    if settings.truth is None:
        return None, None
    version = new.base

    def next_rows() -> Iterator[pa.RecordBatch]:
        for bucket in sorted({*version.buckets(), *new.buckets}):
            is_changed = bucket in new.buckets
            rows = new.rows(settings.name, [bucket]) if is_changed else version.rows(settings.name, buckets=[bucket])
            yield from (batch.filter(pc.equal(batch["corpus"], settings.name)) for batch in rows)

    record, folder = _labelling_record(settings, card), JobLayout(settings).view
    return corloc_and_drop(version.rows(settings.name), next_rows(), record, settings.truth, folder)


def _steps(settings: LabelSettings, gates: list[GateResult], precision: VersionPrecision | None) -> list[str]:
    limit = settings.gates.min_precision
    is_failed = any(gate.gate == "min_precision" and not gate.passed for gate in gates)
    if not is_failed or precision is None or limit is None:
        return []
    return next_steps(precision, limit, settings.runs)


def _labelling_record(settings: LabelSettings, card: ModelCard) -> dict[str, Any]:
    """How the images are labelled by this job, for the record of a version."""
    return {
        "images": str(settings.corpus.images),
        "settings_now": settings_that_matter(settings.mine),
        "used": effective_settings(settings.mine, card),
        "model": card.to_record(),
    }


def _first_reasons(runs: list[Run]) -> list[str]:
    return [reason for run in runs for reason in run.first_reasons()][:3]
