"""The jobs behind the commands, step by step; each step can be done again without harm.

Networks are imported where they are needed: telling where a run stands, or scoring it, does not wait for them.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from mining.config import (
    NO_LABELS,
    CorpusSettings,
    MineOptions,
    MineSection,
    MineSettings,
    parse,
)
from mining.corpus import (
    QUARANTINE_SCHEMA,
    QUARANTINED,
    CorpusSummary,
    CorpusUpdate,
    read_summary,
    shard_count,
    update_corpus,
)
from mining.corpus.image_root import check_output_outside_images
from mining.corpus.scanner import scan_from_settings
from mining.engine.outcome import ImageOutcome
from mining.engine.timing import Timing
from mining.errors import DamagedPartError, InputError, ModelError, RunError, StorageError, did_you_mean
from mining.models.card import CARD_FILE, PRETRAINED, ModelCard, read_card, unknown_classes
from mining.models.class_selection import rename_classes
from mining.redaction import redact
from mining.runs.coco_json import write_coco_json
from mining.runs.event_log import log_event
from mining.runs.part_origins import PartOrigins
from mining.runs.record import need_figures
from mining.runs.repair import reopen, reopen_if_damaged
from mining.runs.run import DIGESTED_FILES, Run
from mining.runs.schema import RANKING_SCHEMA
from mining.runs.shard_files import (
    done_outcomes,
    is_done,
    is_sound,
    merge_curves,
    merge_parts,
    part_timing,
    table_writer,
)
from mining.runs.summaries import MinePlan, MineSummary
from mining.storage.files import sha256_of
from mining.storage.integrity import DIGESTS, compute_digests, digest_matches
from mining.storage.ownership import temporary_path
from mining.storage.provenance import utc_now
from mining.storage.untrusted_files import read_json

M = TypeVar("M", bound=MineSection)

# --- training --------------------------------------------------------------------------------------------------------


# --- mining ----------------------------------------------------------------------------------------------------------


def plan_mining(settings: MineSettings, corpus: Path | None = None) -> MinePlan:
    """Open the run directory: record, model, corpus table; and see what is left to do.

    corpus: a corpus table that is moved into a new run, where the images are not to be listed.
    Raises RunError, CorpusError or ModelError, each with the remedy.
    """
    check_output_outside_images(settings.out, settings.images)
    settings = resolve_thresholds(settings)
    run = Run(settings.out)
    card, _ = _card_and_digest(settings)
    identity = _identity(settings)
    stage = run.begin(settings, identity)
    if stage == "finished" and reopen_if_damaged(run):
        stage = run.begin(settings, identity)
    if stage != "finished" and not run.corpus.exists():
        is_model_in_place = _is_model_of_killed_start(run, card)
        try:
            if corpus is None and card is not None:  # an unknown class is found before a network library is imported
                corpus = _listed(settings, run, card)
            from mining.models.install import install_model

            installed = install_model(settings.model, run.model, settings)
            is_model_in_place = True
            refuse_unknown_thresholds(settings, installed, settings.model)
            run.update(used=effective_settings(settings, installed))
            if corpus is None:
                corpus = _listed(settings, run, _full_card(settings, installed))
            corpus.replace(run.corpus)
        except InputError:
            run.discard_start(with_model=is_model_in_place)
            raise
    plan = _plan(run, finished=stage == "finished")
    if stage != "finished":
        log_event(run.path, "opened" if stage == "new" else "resumed", images=plan.images, shards_left=len(plan.shards))
    return plan


def _is_model_of_killed_start(run: Run, card: ModelCard | None) -> bool:
    """Whether an earlier start has brought the model, or a part of it, into the run directory."""
    if not (run.model / CARD_FILE).is_file():
        return True
    try:
        return card is not None and read_card(run.model).weights_sha256 == card.weights_sha256
    except ModelError:
        return False


def _listed(settings: MineSettings, run: Run, card: ModelCard) -> Path:
    """The corpus table under a temporary name: one that has its own name is one to be mined."""
    corpus = temporary_path(run.corpus)
    list_images(settings, settings.shard_size, rename_classes(card, settings), settings.model, corpus)
    return corpus


def _full_card(settings: MineSettings, installed: ModelCard) -> ModelCard:
    """The model's card with all of its classes under their own names."""
    if installed.selection is None:
        return installed
    from mining.models.pretrained import pretrained_card

    return pretrained_card(settings.model.removeprefix(PRETRAINED))


def resolve_thresholds(options: M) -> M:
    """Replace `thresholds_from` by the thresholds that were chosen when that run was scored.

    A record of a run holds the numbers, so that it does not depend on what becomes of the scored run. Settings that
    name no run, or that hold thresholds per class already, are returned as they are.

    Raises:
        RunError: The run has no chosen thresholds, or its scores.json is damaged.
    """
    if options.thresholds_from is None or options.class_thresholds:
        return options
    path = Run(options.thresholds_from).scores
    try:
        scores = read_json(path)
        common = scores["thresholds"]["chosen"]["threshold"]
        per_class = scores["thresholds"]["per_class"]["thresholds"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{path.parent} has no {path.name} with chosen thresholds; mine it with curves, and score it "
            "with `boxmine score`."
        ) from None
    if not digest_matches(scores):
        raise RunError(f"{path} is damaged; run the `boxmine score` command of this run again.")
    threshold = common if options.threshold is None else options.threshold
    return parse(type(options), {**dict(options), "threshold": threshold, "class_thresholds": per_class})


def refuse_unknown_thresholds(settings: MineSection, card: ModelCard, model: str) -> None:
    """Raises ModelError where thresholds are given for a class that the model, told by its name, does not know."""
    unknown = unknown_classes(list(settings.class_thresholds), card)
    if unknown and settings.thresholds_from is None:  # another run's truth may have classes that this model lacks
        raise ModelError(
            f"The model {model} does not know the class {unknown[0]!r} of class_thresholds: "
            f"{did_you_mean(unknown[0], card.class_names)}"
        )


def effective_settings(settings: MineOptions, card: ModelCard) -> dict[str, Any]:
    """What the settings leave to the model, as it comes out."""
    from mining.models.overrides import apply_overrides, extraction_params

    card = apply_overrides(card, settings)
    return {"localizer": card.localizer, "options": card.options, **asdict(extraction_params(card, settings))}


def _card_and_digest(settings: MineSettings) -> tuple[ModelCard | None, str]:
    if settings.model.startswith(PRETRAINED):
        return None, settings.model
    card = read_card(Path(settings.model))
    return card, card.weights_sha256


def refuse_other_mining(settings: MineSettings) -> None:
    """Raises RunError where --out holds a run of other settings or inputs; ModelError without the model."""
    run = Run(settings.out)
    run.refuse_foreign_folder(Path(settings.model))
    if run.has_started():
        settings = resolve_thresholds(settings)
        run.refuse_other_run(run.record, settings, _identity(settings))


def _identity(settings: MineSettings) -> dict[str, Any]:
    """Fingerprints of the model and the labels."""
    return {"model_sha256": _card_and_digest(settings)[1], "labels_sha256": _digest(settings.labels)}


def _digest(labels: Path | None) -> str | None:
    return sha256_of(labels) if labels is not None and labels.is_file() else None


def list_images(
    corpus: CorpusSettings, shard_size: int, card: ModelCard, model: str, out: Path, hashes_kept: Path | None = None
) -> CorpusSummary:
    """Scan a corpus that the model is to mine. hashes_kept: see `scan`; None computes none.

    Raises CorpusError, and ModelError that names a class which the model, told by its name, does not know.
    """
    summary = scan_from_settings(corpus, out, corpus.labels, shard_size, hashes_kept)
    unknown = unknown_classes(list(summary.classes), card)
    if unknown and summary.kind == "classes" and len(unknown) == len(summary.classes):
        # folders that name no class of the model are albums, not labels
        remark = f"The folders ({', '.join(unknown[:3])}, ...) name no class of the model and are not taken as labels."
        summary, unknown = scan_from_settings(corpus, out, NO_LABELS, shard_size, hashes_kept, [remark]), []
    if unknown:
        out.unlink()
        raise ModelError(_unknown_class_sentence(unknown, card, model, corpus))
    return summary


def _unknown_class_sentence(unknown: list[str], card: ModelCard, model: str, corpus: CorpusSettings) -> str:
    return (
        f"The model {model} does not know the class {unknown[0]!r} of {corpus.labels or corpus.images}: "
        f"{did_you_mean(unknown[0], card.class_names)} Mine with --labels none to let the model name the classes."
    )


def _plan(run: Run, *, finished: bool) -> MinePlan:
    images = read_summary(run.corpus).images
    if finished:
        return MinePlan(run.path, images, images, [], True)
    settings = run.settings
    size, total = settings.shard_size, shard_count(run.corpus)
    origins = PartOrigins(run)
    done = {shard for shard in range(total) if is_done(*run.files_of(shard, curves=settings.curves), origins.of(shard))}
    done_images = sum(min(size, images - shard * size) for shard in done)
    return MinePlan(run.path, images, done_images, [s for s in range(total) if s not in done], False)


def finish_mining(run_dir: Path, seconds: float = 0.0) -> MineSummary:
    """Merge the parts into the tables and the COCO file, and close the run. Raises RunError while a part is missing."""
    run = Run(run_dir)
    record = run.record
    if record["state"] == "finished":
        return summary_of(run)
    started = time.monotonic()
    total = shard_count(run.corpus)
    files = [run.files_of(shard, curves=run.settings.curves) for shard in range(total)]
    parts, curves = [part for part, _ in files], [curve for _, curve in files if curve is not None]
    missing = [part for part in parts if not part.exists()]
    if missing:
        raise RunError(f"{missing[0]} is missing; give the `boxmine mine` command of {run_dir} again.")
    run.sweep()  # what workers left that were killed and replaced
    states = _write_what_became_of_images(run, files)
    boxes = merge_parts(parts, run.annotations)
    if curves:
        merge_curves(curves, run.curves)
    card = read_card(run.model)
    timing = None
    for one in filter(None, map(part_timing, parts)):
        timing = one if timing is None else timing.plus(one)
    info = {"description": f"pseudo-annotations of {run.path.name}", "version": record["versions"]["boxmine"]}
    write_coco_json(run.coco, corpus=run.corpus, annotations=run.annotations, categories=card.classes, info=info)
    run.update(
        state="finished", finished=utc_now(),
        counts={"images": sum(states.values()), "boxes": boxes, "classes": len(card.classes), "states": dict(states)},
        seconds={"mining": round(seconds, 2), "finishing": round(time.monotonic() - started, 2)},
        timing=None if timing is None else asdict(timing), **{DIGESTS: compute_digests(run.path, DIGESTED_FILES)},
    )  # fmt: skip
    log_event(
        run.path, "finished", images=sum(states.values()), boxes=boxes, seconds=round(time.monotonic() - started, 2)
    )
    return summary_of(run)


def discard_damaged_parts(run_dir: Path) -> int:
    """Delete the parts that are damaged or of another run, so that their shards are mined again; gives how many.

    A run that is finished is not any more.
    """
    run = Run(run_dir)
    settings, origins, damaged = run.settings, PartOrigins(run), 0
    for shard in range(shard_count(run.corpus)):
        files = run.files_of(shard, curves=settings.curves)
        if files[0].exists() and not is_sound(*files, origins.of(shard)):
            damaged += 1
            for file in filter(None, files):
                file.unlink(missing_ok=True)
    if damaged:
        log_event(run.path, "damaged parts thrown away", parts=damaged)
        reopen(run, f"{damaged} damaged parts were thrown away")
    return damaged


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Keep other processes off the run directory while it is worked on.

    An exception is noted in the run's record as a stop. Raises RunError when another process works on it.
    """
    run = Run(run_dir)
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


def summary_of(run: Run) -> MineSummary:
    """The summary of a finished run, from its record."""
    record = run.require_finished()
    need_figures(record, run.path)
    counts, timing = record["counts"], record.get("timing")
    return MineSummary(
        run.path, counts["images"], counts["boxes"], counts["classes"], counts["states"], record["seconds"]["mining"],
        read_summary(run.corpus).notes, run.first_reasons(), None if timing is None else Timing(**timing),
    )  # fmt: skip


def _write_what_became_of_images(run: Run, files: list[tuple[Path, Path | None]]) -> Counter[str]:
    """Corpus table, quarantine and rankings, for which each part is read once; gives the number of images by state.

    Raises DamagedPartError for a part that is damaged, or that was not made from this run's shard, model and settings.
    """
    states: Counter[str] = Counter()
    origins = PartOrigins(run)
    with (
        table_writer(run.quarantine, QUARANTINE_SCHEMA) as quarantine,
        table_writer(run.rankings, RANKING_SCHEMA) as rankings,
    ):

        def changes() -> Iterator[dict[int, CorpusUpdate]]:
            for shard, (part, curves) in enumerate(files):
                outcomes = done_outcomes(part, curves, origins.of(shard))
                if outcomes is None:
                    raise DamagedPartError(part)
                states.update(outcome.state for outcome in outcomes)
                quarantine(_quarantined(outcomes))
                rankings(_ranked(outcomes))
                yield {
                    one.image_id: CorpusUpdate(one.state, one.width, one.height, _hash_to_keep(one)) for one in outcomes
                }

        update_corpus(run.corpus, run.corpus, changes())
    return states


def _hash_to_keep(outcome: ImageOutcome) -> str | None:
    return None if outcome.replaced else outcome.content_hash


def _quarantined(outcomes: list[ImageOutcome]) -> pa.Table:
    rows = [
        {name: getattr(outcome, name) for name in QUARANTINE_SCHEMA.names}
        for outcome in outcomes
        if outcome.state == QUARANTINED
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def _ranked(outcomes: list[ImageOutcome]) -> pa.Table:
    ranked = [(outcome.image_id, outcome.ranked) for outcome in outcomes if outcome.ranked]
    columns = [
        [image_id for image_id, _ in ranked],
        [[category_id for category_id, _ in classes] for _, classes in ranked],
        [[probability for _, probability in classes] for _, classes in ranked],
    ]
    return pa.table(columns, schema=RANKING_SCHEMA)


# --- scoring ---------------------------------------------------------------------------------------------------------
