"""Mine a corpus: open the run, mine its shards, merge the parts. Each step can be repeated without harm.

Networks are imported where they are needed: the status of a run, or its scores, do not wait for them.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import reduce
from pathlib import Path

import pyarrow as pa

from mining.config import MineSettings
from mining.corpus import QUARANTINE_SCHEMA, QUARANTINED, CorpusUpdate, read_summary, shard_count, update_corpus
from mining.corpus.image_root import check_output_outside_images
from mining.engine.outcome import ImageOutcome
from mining.engine.timing import Timing
from mining.errors import DamagedPartError, InputError, ModelError, RunError, StorageError
from mining.models.card import CARD_FILE, PRETRAINED, ModelCard, is_detector, read_card
from mining.models.class_selection import rename_classes
from mining.redaction import redact
from mining.runs.box_warnings import warn_of_boxes
from mining.runs.coco_json import write_coco_json
from mining.runs.event_log import log_event
from mining.runs.inputs import (
    effective_settings,
    fingerprint_inputs,
    list_images,
    read_model_card,
    refuse_unknown_thresholds,
    resolve_thresholds,
)
from mining.runs.part_origins import PartOrigins
from mining.runs.record import require_figures
from mining.runs.repair import reopen, reopen_if_damaged
from mining.runs.retries import RETRY_PAUSE_S, retry
from mining.runs.run import DIGESTED_FILES, Run
from mining.runs.schema import RANKING_SCHEMA
from mining.runs.shard_files import (
    is_done,
    is_sound,
    merge_curves,
    merge_parts,
    part_timing,
    read_outcomes,
    table_writer,
)
from mining.runs.summaries import MinePlan, MineSummary
from mining.runtimes.requirements import refuse_int8_without_nncf
from mining.storage.integrity import DIGESTS, compute_digests
from mining.storage.ownership import temporary_path
from mining.storage.provenance import utc_now

MineProgress = Callable[[int, int], None]  # images done, and in all


def mine(settings: MineSettings, progress: MineProgress = lambda done, total: None) -> MineSummary:
    """Mine a corpus in this process, or resume it: no flow, no server, no other process.

    `settings.runner` is for flows. A shard is retried after a transient error; after any other error
    the run is resumed by calling this again.

    Args:
        settings: Settings of the run.
        progress: Called with the number of images done and in all.

    Returns:
        The counts of the finished run.

    Raises:
        InputError: Images, labels, model or run directory cannot be used.
        StorageError: The disk refused a file; the run can be resumed.

    Example:
        >>> mine(MineSettings(images="photos", model="models/mine", out="runs/first")).images
        2
    """
    started = time.monotonic()
    with lock_run(settings.out):
        while True:
            plan = plan_mining(settings)
            _mine_shards(plan, progress, settings.retries)
            try:
                return finish_mining(plan.run, time.monotonic() - started)
            except DamagedPartError:
                if not discard_damaged_parts(plan.run):
                    raise


def _mine_shards(plan: MinePlan, progress: MineProgress, retries: int) -> None:
    if not plan.shards:
        return
    from mining.runs.shard_mining import mine_shard

    done = plan.done_images
    progress(done, plan.images)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, plan.images)

    for shard in plan.shards:
        retry(mine_shard, plan.run, shard, advance, tries=retries + 1, pause_s=RETRY_PAUSE_S)


@contextmanager
def lock_run(path: Path) -> Iterator[None]:
    """Keep other processes off a run directory while it is worked on; an exception is recorded as a stop.

    Raises:
        RunError: Another process works on it.
    """
    run = Run(path)
    with run.lock():
        try:
            yield
        except BaseException as error:
            if run.has_started() and not run.is_finished():
                failed = redact(" ".join(str(error).split())) or type(error).__name__
                log_event(run.path, "stopped", why=failed)
                with suppress(StorageError):  # a full disk takes no note either
                    run.update(
                        state="stopped", stopped=utc_now(), failed=failed if isinstance(error, Exception) else None
                    )
            raise


# --- open ------------------------------------------------------------------------------------------------------------


def plan_mining(settings: MineSettings, corpus: Path | None = None) -> MinePlan:
    """Open the run directory (record, model, corpus table) and list the shards that are not mined yet.

    Args:
        settings: Settings of the run.
        corpus: A corpus table to move into a new run instead of listing the images.

    Raises:
        RunError: The folder holds something else.
        CorpusError: The images or the labels cannot be used.
        ModelError: The model cannot be used.
    """
    check_output_outside_images(settings.out, settings.images)
    settings = resolve_thresholds(settings)
    run, card, identity = Run(settings.out), read_model_card(settings), fingerprint_inputs(settings)
    if card is not None and is_detector(card):
        settings = settings.model_copy(update={"curves": False})  # a detector has no maps
    stage = run.begin(settings, identity)
    if stage == "finished" and reopen_if_damaged(run):
        stage = run.begin(settings, identity)
    if stage != "finished" and not run.corpus.exists():
        _bring_inputs(settings, run, card, corpus)
    plan = _open_shards(run, is_finished=stage == "finished")
    if stage != "finished":
        log_event(run.path, "opened" if stage == "new" else "resumed", images=plan.images, shards_left=len(plan.shards))
    return plan


def _bring_inputs(settings: MineSettings, run: Run, card: ModelCard | None, corpus: Path | None) -> None:
    """Put model and corpus table into a run directory; take the start back if they cannot be used."""
    is_model_in_place = _is_model_of_killed_start(run, card)
    try:
        refuse_int8_without_nncf(settings.precision)
        if corpus is None and card is not None:  # an unknown class is found before a network library is imported
            corpus = _list_into_run(settings, run, card)
        from mining.models.install import install_model

        installed = install_model(settings.model, run.model, settings)
        is_model_in_place = True
        refuse_unknown_thresholds(settings, installed, settings.model)
        run.update(used=effective_settings(settings, installed))
        if corpus is None:
            corpus = _list_into_run(settings, run, _card_of_all_classes(settings, installed))
        if settings.precision == "int8":
            from mining.engine.calibration import quantize_for_run

            run.update(calibration_images=quantize_for_run(run.model, settings, corpus))
        corpus.replace(run.corpus)  # last: a run with a corpus table has all that its shards need
    except InputError:
        run.discard_start(with_model=is_model_in_place)
        raise


def _is_model_of_killed_start(run: Run, card: ModelCard | None) -> bool:
    """Return whether an earlier start has brought the model, or a part of it, into the run directory."""
    if not (run.model / CARD_FILE).is_file():
        return True
    try:
        return card is not None and read_card(run.model).weights_sha256 == card.weights_sha256
    except ModelError:
        return False


def _card_of_all_classes(settings: MineSettings, installed: ModelCard) -> ModelCard:
    """Return the model's record with all of its classes under their own names."""
    if installed.selection is None:
        return installed
    from mining.models.pretrained import pretrained_card

    return pretrained_card(settings.model.removeprefix(PRETRAINED), settings)


def _list_into_run(settings: MineSettings, run: Run, card: ModelCard) -> Path:
    """Write the corpus table under a temporary name: one that has its own name is complete."""
    corpus = temporary_path(run.corpus)
    list_images(settings, settings.shard_size, rename_classes(card, settings), settings.model, corpus)
    return corpus


def _open_shards(run: Run, *, is_finished: bool) -> MinePlan:
    images = read_summary(run.corpus).images
    if is_finished:
        return MinePlan(run, images, images, [], True)
    size, total = run.settings.shard_size, shard_count(run.corpus)
    origins, curves = PartOrigins(run), run.settings.curves
    done = {shard for shard in range(total) if is_done(*run.files_of(shard, curves=curves), origins.of(shard))}
    done_images = sum(min(size, images - shard * size) for shard in done)
    return MinePlan(run, images, done_images, [shard for shard in range(total) if shard not in done], False)


# --- finish ----------------------------------------------------------------------------------------------------------


def finish_mining(run: Run, seconds: float = 0.0) -> MineSummary:
    """Merge the parts into the tables and the COCO file, and mark the run finished.

    Args:
        run: The run; a finished one is left as it is.
        seconds: What mining took, for the record.

    Raises:
        DamagedPartError: A part is damaged or of another run; see `discard_damaged_parts`.
        RunError: A part is missing.
    """
    if run.is_finished():
        return summary_of(run)
    started = time.monotonic()
    files = [run.files_of(shard, curves=run.settings.curves) for shard in range(shard_count(run.corpus))]
    parts, curves = [part for part, _ in files], [curve for _, curve in files if curve is not None]
    missing = [part for part in parts if not part.exists()]
    if missing:
        raise RunError(f"{missing[0]} is missing; run the `boxmine mine` command of {run.path} again.")
    run.sweep()  # what workers left that were killed and replaced
    states = _write_outcomes(run, files)
    boxes = merge_parts(parts, run.annotations)
    if curves:
        merge_curves(curves, run.curves)
    card = read_card(run.model)
    classes = card.classes
    timings = list(filter(None, map(part_timing, parts)))
    timing = reduce(Timing.plus, timings) if timings else None
    info = {"description": f"pseudo-annotations of {run.path.name}", "version": run.record["versions"]["boxmine"]}
    write_coco_json(run.coco, corpus=run.corpus, annotations=run.annotations, categories=classes, info=info)
    run.update(
        state="finished", finished=utc_now(),
        counts={"images": sum(states.values()), "boxes": boxes, "classes": len(classes), "states": dict(states)},
        seconds={"mining": round(seconds, 2), "finishing": round(time.monotonic() - started, 2)},
        timing=None if timing is None else asdict(timing), warnings=[*card.warnings, *warn_of_boxes(run.annotations)],
        **{DIGESTS: compute_digests(run.path, DIGESTED_FILES)},
    )  # fmt: skip
    log_event(
        run.path, "finished", images=sum(states.values()), boxes=boxes, seconds=round(time.monotonic() - started, 2)
    )
    return summary_of(run)


def summary_of(run: Run) -> MineSummary:
    """Return the summary of a finished run, from its record. Raises RunError for another one."""
    record = run.require_finished()
    require_figures(record, run.path)
    counts, timing = record["counts"], record.get("timing")
    return MineSummary(
        run.path, counts["images"], counts["boxes"], counts["classes"], counts["states"], record["seconds"]["mining"],
        read_summary(run.corpus).notes, run.first_reasons(), None if timing is None else Timing.from_record(timing),
        list(record["warnings"]),
    )  # fmt: skip


def discard_damaged_parts(run: Run) -> int:
    """Delete the parts that are damaged or of another run, so that their shards are mined again.

    A finished run becomes unfinished.

    Returns:
        The number of parts deleted.
    """
    settings, origins, damaged = run.settings, PartOrigins(run), 0
    for shard in range(shard_count(run.corpus)):
        files = run.files_of(shard, curves=settings.curves)
        if files[0].exists() and not is_sound(*files, origins.of(shard)):
            damaged += 1
            for file in filter(None, files):
                file.unlink(missing_ok=True)
    if damaged:
        log_event(run.path, "damaged parts discarded", parts=damaged)
        reopen(run, f"{damaged} damaged parts were discarded")
    return damaged


def _write_outcomes(run: Run, files: list[tuple[Path, Path | None]]) -> Counter[str]:
    """Write corpus table, quarantine and rankings, reading each part once; return the number of images by state.

    Raises DamagedPartError for a part that is damaged, or that was not made from this run's shard, model and settings.
    """
    states: Counter[str] = Counter()
    origins = PartOrigins(run)
    with (
        table_writer(run.quarantine, QUARANTINE_SCHEMA) as add_quarantined,
        table_writer(run.rankings, RANKING_SCHEMA) as add_rankings,
    ):

        def changes() -> Iterator[dict[int, CorpusUpdate]]:
            for shard, (part, curves) in enumerate(files):
                outcomes = read_outcomes(part, curves, origins.of(shard))
                if outcomes is None:
                    raise DamagedPartError(part)
                states.update(outcome.state for outcome in outcomes)
                add_quarantined(_quarantine_rows(outcomes))
                add_rankings(_ranking_rows(outcomes))
                yield {outcome.image_id: _corpus_change(outcome) for outcome in outcomes}

        update_corpus(run.corpus, run.corpus, changes())
    return states


def _corpus_change(outcome: ImageOutcome) -> CorpusUpdate:
    content_hash = None if outcome.replaced else outcome.content_hash
    return CorpusUpdate(outcome.state, outcome.width, outcome.height, content_hash)


def _quarantine_rows(outcomes: list[ImageOutcome]) -> pa.Table:
    rows = [
        {name: getattr(outcome, name) for name in QUARANTINE_SCHEMA.names}
        for outcome in outcomes
        if outcome.state == QUARANTINED
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def _ranking_rows(outcomes: list[ImageOutcome]) -> pa.Table:
    ranked = [(outcome.image_id, outcome.ranked) for outcome in outcomes if outcome.ranked]
    columns = [
        [image_id for image_id, _ in ranked],
        [[category_id for category_id, _ in classes] for _, classes in ranked],
        [[probability for _, probability in classes] for _, classes in ranked],
    ]
    return pa.table(columns, schema=RANKING_SCHEMA)
