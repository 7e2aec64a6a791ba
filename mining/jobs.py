"""The jobs behind the commands, step by step; each step can be done again without harm.

Networks are imported where they are needed: telling where a run stands, or scoring it, does not wait for them.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from mining.addresses import redacted
from mining.annotations import write_coco_json
from mining.annotations.schema import RANKING_SCHEMA
from mining.cards import CARD_FILE, CHECKPOINTS, PRETRAINED, ModelCard, read_card, unknown_classes
from mining.catalogue import refuse_unknown_localizer
from mining.config import (
    NO_LABELS,
    CompareSettings,
    CorpusSettings,
    ListedCorpus,
    MineOptions,
    MineSettings,
    ScoreSettings,
    TrainSettings,
    recorded,
)
from mining.corpus import (
    QUARANTINE_SCHEMA,
    QUARANTINED,
    Change,
    CorpusSummary,
    read_shard,
    read_summary,
    scan,
    shard_count,
    update,
)
from mining.distributed import is_first
from mining.errors import DamagedPartError, InputError, ModelError, RunError, StorageError, did_you_mean
from mining.files import sha256_of, write_json
from mining.folder_names import slug
from mining.integrity import DIGESTS, digests_of, with_digest
from mining.localizer_options import options_of
from mining.locks import lock_folder
from mining.logs import note
from mining.origins import Origins
from mining.output_folders import refuse_inside_images
from mining.ownership import temporary_path
from mining.parts import (
    ImageOutcome,
    done_outcomes,
    gathered,
    is_done,
    is_sound,
    merge_curves,
    merge_parts,
    part_timing,
)
from mining.repair import reopen, reopen_if_damaged
from mining.results import MinePlan, MineSummary, Timing, TrainingSummary
from mining.run_record import need_figures
from mining.runs import CORPUS_FILE, DIGESTED_FILES, RunDirectory, now
from mining.training_folder import (
    TRAINING_FILE,
    begin_training,
    discard_false_start,
    end_training,
    read_training,
    refuse_foreign_folder,
)

NO_MATTER_IN_TRAINING = {"out", "min_present", "workers", "accelerator", "devices", "strategy"}


# --- training --------------------------------------------------------------------------------------------------------


def train(settings: TrainSettings, progress: Any = lambda done, total, text: None) -> TrainingSummary:
    """Scan the corpus and fit the localizer; an unfinished training of the same settings is carried on.

    Raises ModelError when --out holds another model, CorpusError when the images or labels cannot be used.
    """
    refuse_unknown_localizer(settings.localizer)
    refuse_inside_images(settings.out, settings.images)
    from mining.localizers import localizer_named

    kind = localizer_named(settings.localizer)
    options = options_of(settings.localizer, settings.options)  # "0.5" of a command line is a recipe's 0.5
    settings = settings.model_copy(update={"options": options})
    if settings.learning_rate is None:  # put into the record: another default is another training
        settings = settings.model_copy(update={"learning_rate": kind.learning_rate})
    out = settings.out
    if not is_first():
        return _trained(settings, progress)
    asked = settings.model_dump(mode="json", exclude=NO_MATTER_IN_TRAINING)
    refuse_foreign_folder(out)
    done = _earlier_training(out, asked)
    if done is None:
        with lock_folder(out):
            refuse_foreign_folder(out)  # once more: another process may just have ended its training here
            done = _earlier_training(out, asked)
            if done is None:
                return _trained_in_own_folder(settings, asked, progress)
    elif (out / TRAINING_FILE).exists() and read_training(out) == asked:  # killed just before it was tidied up
        with lock_folder(out):
            end_training(out)
    return TrainingSummary(
        folder=out, **{k: done[k] for k in TrainingSummary.__dataclass_fields__ if k != "folder" and k in done}
    )


def _trained_in_own_folder(settings: TrainSettings, asked: dict[str, Any], progress: Any) -> TrainingSummary:
    out = settings.out
    begin_training(out)
    write_json(out / TRAINING_FILE, asked)
    try:
        summary = _trained(settings, progress)
    except InputError:
        discard_false_start(out)
        raise
    end_training(out)
    return summary


def _trained(settings: TrainSettings, progress: Any) -> TrainingSummary:
    from mining.training import fit

    corpus = settings.out / CHECKPOINTS / CORPUS_FILE
    summary = _scanned(settings, corpus, settings.labels) if is_first() else read_summary(corpus)
    objective = settings.objective
    if objective == "auto":
        objective = "single" if summary.single_label else "multi"
    return fit(
        settings, corpus, objective=objective, category_ids=summary.category_ids, notes=summary.notes,
        missing=summary.missing, progress=progress,
    )  # fmt: skip


def refuse_other_training(settings: TrainSettings) -> None:
    """Raises ModelError where --out holds a model or a training of other settings, as far as is known without torch."""
    options = options_of(settings.localizer, settings.options)
    asked = settings.model_copy(update={"options": options}).model_dump(mode="json", exclude=NO_MATTER_IN_TRAINING)
    if settings.learning_rate is None:  # the localizer's
        del asked["learning_rate"]
    refuse_foreign_folder(settings.out)
    _earlier_training(settings.out, asked)


def _earlier_training(out: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    if (out / CARD_FILE).exists():
        training = read_card(out).training
        found = {k: v for k, v in training.get("settings", {}).items() if k not in NO_MATTER_IN_TRAINING}
        _refuse_difference(out, found, asked, "a finished model")
        return training
    if (out / TRAINING_FILE).exists():
        _refuse_difference(out, read_training(out), asked, "an unfinished training")
    return None


def _refuse_difference(out: Path, found: dict[str, Any], asked: dict[str, Any], what: str) -> None:
    for name in asked:
        its = recorded(TrainSettings, found, name)
        if its != asked[name]:
            raise ModelError(
                f"{out} holds {what} of other settings: its {name} is {its!r}, "
                f"this command's is {asked[name]!r}. Give another --out, or delete the folder."
            )


# --- mining ----------------------------------------------------------------------------------------------------------


def plan_mining(settings: MineSettings, corpus: Path | None = None) -> MinePlan:
    """Open the run directory: record, model, corpus table; and see what is left to do.

    corpus: a corpus table that is moved into a new run, where the images are not to be listed.
    Raises RunError, CorpusError or ModelError, each with the remedy.
    """
    refuse_inside_images(settings.out, settings.images)
    run = RunDirectory(settings.out)
    card, _ = _card_and_digest(settings)
    identity = _identity(settings)
    stage = run.open(settings, identity)
    if stage == "finished" and reopen_if_damaged(run):
        stage = run.open(settings, identity)
    if stage != "finished" and not run.corpus.exists():
        is_model_in_place = _is_model_of_killed_start(run, card)
        try:
            if corpus is None and card is not None:  # an unknown class is found before a network library is imported
                corpus = _listed(settings, run, card)
            from mining.models import put_model

            put_model(settings.model, run.model)
            is_model_in_place = True
            refuse_unknown_thresholds(settings, card or read_card(run.model), settings.model)
            run.update(used=used_by(settings, card or read_card(run.model)))
            if corpus is None:
                corpus = _listed(settings, run, read_card(run.model))
            corpus.replace(run.corpus)
        except InputError:
            run.discard_start(with_model=is_model_in_place)
            raise
    plan = _plan(run, finished=stage == "finished")
    if stage != "finished":
        note(run.path, "opened" if stage == "new" else "resumed", images=plan.images, shards_left=len(plan.shards))
    return plan


def _is_model_of_killed_start(run: RunDirectory, card: ModelCard | None) -> bool:
    """Whether an earlier start has brought the model, or a part of it, into the run directory."""
    if not (run.model / CARD_FILE).is_file():
        return True
    try:
        return card is not None and read_card(run.model).weights_sha256 == card.weights_sha256
    except ModelError:
        return False


def _listed(settings: MineSettings, run: RunDirectory, card: ModelCard) -> Path:
    """The corpus table under a temporary name: one that has its own name is one to be mined."""
    corpus = temporary_path(run.corpus)
    list_images(settings, settings.shard_size, card, settings.model, corpus)
    return corpus


def refuse_unknown_thresholds(settings: MineOptions, card: ModelCard, model: str) -> None:
    """Raises ModelError where thresholds are given for a class that the model, told by its name, does not know."""
    unknown = unknown_classes(list(settings.class_thresholds), card)
    if unknown and settings.thresholds_from is None:  # another run's truth may have classes that this model lacks
        raise ModelError(
            f"The model {model} does not know the class {unknown[0]!r} of class_thresholds: "
            f"{did_you_mean(unknown[0], card.class_names)}"
        )


def used_by(settings: MineOptions, card: ModelCard) -> dict[str, Any]:
    """What the settings leave to the model, as it comes out."""
    from mining.models import card_to_mine_by, cut_of

    card = card_to_mine_by(card, settings)
    return {"localizer": card.localizer, "options": card.options, **asdict(cut_of(card, settings))}


def _card_and_digest(settings: MineSettings) -> tuple[ModelCard | None, str]:
    if settings.model.startswith(PRETRAINED):
        return None, settings.model
    card = read_card(Path(settings.model))
    return card, card.weights_sha256


def refuse_other_mining(settings: MineSettings) -> None:
    """Raises RunError where --out holds a run of other settings or inputs; ModelError without the model."""
    run = RunDirectory(settings.out)
    run.refuse_foreign_folder(Path(settings.model))
    if run.has_started():
        run.refuse_other_run(run.read(), settings, _identity(settings))


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
    summary = _scanned(corpus, out, corpus.labels, shard_size, hashes_kept)
    unknown = unknown_classes(list(summary.classes), card)
    if unknown and summary.kind == "classes" and len(unknown) == len(summary.classes):
        # folders that name no class of the model are albums, not labels
        remark = f"The folders ({', '.join(unknown[:3])}, ...) name no class of the model and are not taken as labels."
        summary, unknown = _scanned(corpus, out, NO_LABELS, shard_size, hashes_kept, [remark]), []
    if unknown:
        out.unlink()
        raise ModelError(_unknown_class_sentence(unknown, card, model, corpus))
    return summary


def _scanned(
    settings: CorpusSettings,
    out: Path,
    labels: Path | None,
    shard_size: int = 256,
    hashes_kept: Path | None = None,
    remarks: Sequence[str] = (),
) -> CorpusSummary:
    listing: Path | Literal["none"] | None = "none" if labels == NO_LABELS else labels
    return scan(
        settings.images, listing, out, split=settings.split, shard_size=shard_size,
        hashes=hashes_kept is not None, hashes_kept=hashes_kept, remarks=remarks,
        min_present=settings.min_present if isinstance(settings, ListedCorpus) else 0.0,
    )  # fmt: skip


def _unknown_class_sentence(unknown: list[str], card: ModelCard, model: str, corpus: CorpusSettings) -> str:
    return (
        f"The model {model} does not know the class {unknown[0]!r} of {corpus.labels or corpus.images}: "
        f"{did_you_mean(unknown[0], card.class_names)} Mine with --labels none to let the model name the classes."
    )


def _plan(run: RunDirectory, *, finished: bool) -> MinePlan:
    images = read_summary(run.corpus).images
    if finished:
        return MinePlan(run.path, images, images, [], True)
    settings = run.settings()
    size, total = settings.shard_size, shard_count(run.corpus)
    origins = Origins(run)
    done = {shard for shard in range(total) if is_done(*run.files_of(shard, curves=settings.curves), origins.of(shard))}
    done_images = sum(min(size, images - shard * size) for shard in done)
    return MinePlan(run.path, images, done_images, [s for s in range(total) if s not in done], False)


def finish_mining(run_dir: Path, seconds: float = 0.0) -> MineSummary:
    """Merge the parts into the tables and the COCO file, and close the run. Raises RunError while a part is missing."""
    run = RunDirectory(run_dir)
    record = run.read()
    if record["state"] == "finished":
        return summary_of(run)
    started = time.monotonic()
    total = shard_count(run.corpus)
    files = [run.files_of(shard, curves=run.settings().curves) for shard in range(total)]
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
        state="finished", finished=now(),
        counts={"images": sum(states.values()), "boxes": boxes, "classes": len(card.classes), "states": dict(states)},
        seconds={"mining": round(seconds, 2), "finishing": round(time.monotonic() - started, 2)},
        timing=None if timing is None else asdict(timing), **{DIGESTS: digests_of(run.path, DIGESTED_FILES)},
    )  # fmt: skip
    note(run.path, "finished", images=sum(states.values()), boxes=boxes, seconds=round(time.monotonic() - started, 2))
    return summary_of(run)


def discard_damaged_parts(run_dir: Path) -> int:
    """Delete the parts that are damaged or of another run, so that their shards are mined again; gives how many.

    A run that is finished is not any more.
    """
    run = RunDirectory(run_dir)
    settings, origins, damaged = run.settings(), Origins(run), 0
    for shard in range(shard_count(run.corpus)):
        files = run.files_of(shard, curves=settings.curves)
        if files[0].exists() and not is_sound(*files, origins.of(shard)):
            damaged += 1
            for file in filter(None, files):
                file.unlink(missing_ok=True)
    if damaged:
        note(run.path, "damaged parts thrown away", parts=damaged)
        reopen(run, f"{damaged} damaged parts were thrown away")
    return damaged


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keep other processes off the run directory while it is worked on.

    An exception is noted in the run's record as a stop. Raises RunError when another process works on it.
    """
    run = RunDirectory(run_dir)
    with run.lock():
        try:
            yield
        except BaseException as error:
            if run.has_started() and not run.is_finished():
                failed = redacted(" ".join(str(error).split())) or type(error).__name__
                note(run.path, "stopped", why=failed)
                with suppress(StorageError):  # a full disk takes no note either
                    run.update(state="stopped", stopped=now(), failed=failed if isinstance(error, Exception) else None)
            raise


def summary_of(run: RunDirectory) -> MineSummary:
    """The summary of a finished run, from its record."""
    record = run.need_finished()
    need_figures(record, run.path)
    counts, timing = record["counts"], record.get("timing")
    return MineSummary(
        run.path, counts["images"], counts["boxes"], counts["classes"], counts["states"], record["seconds"]["mining"],
        read_summary(run.corpus).notes, run.first_reasons(), None if timing is None else Timing(**timing),
    )  # fmt: skip


def _write_what_became_of_images(run: RunDirectory, files: list[tuple[Path, Path | None]]) -> Counter[str]:
    """Corpus table, quarantine and rankings, for which each part is read once; gives the number of images by state.

    Raises DamagedPartError for a part that is damaged, or that was not made from this run's shard, model and settings.
    """
    states: Counter[str] = Counter()
    origins = Origins(run)
    with gathered(run.quarantine, QUARANTINE_SCHEMA) as quarantine, gathered(run.rankings, RANKING_SCHEMA) as rankings:

        def changes() -> Iterator[dict[int, Change]]:
            for shard, (part, curves) in enumerate(files):
                outcomes = done_outcomes(part, curves, origins.of(shard))
                if outcomes is None:
                    raise DamagedPartError(part)
                states.update(outcome.state for outcome in outcomes)
                quarantine(_quarantined(outcomes))
                rankings(_ranked(outcomes))
                yield {one.image_id: Change(one.state, one.width, one.height, _hash_to_keep(one)) for one in outcomes}

        update(run.corpus, run.corpus, changes())
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


def score(settings: ScoreSettings, progress: Any = lambda done, total: None) -> dict[str, Any]:
    """Score a finished run against a truth and write scores.json. Raises RunError or ScoringError.

    progress: called with the images whose maps were drawn again and how many there are, where that is asked for.
    """
    from mining.scoring import score_run, write_scores

    run = RunDirectory(settings.run)
    run.need_finished()
    scores = score_run(settings.run, settings.truth)
    scores["maps"] = None
    if settings.maps:
        scores["maps"], changed = _map_scores(run, settings.truth, progress)
        if changed:
            scores["notes"].append(f"{changed} images changed since the run or are gone; no map of them was drawn.")
    scores = with_digest(scores)
    write_scores(settings.run, scores)
    return scores


def _map_scores(run: RunDirectory, truth: Path, progress: Any) -> tuple[dict[str, Any], int]:
    """Figures of the run's maps, drawn again, and the number of images that are not those of the run any more."""
    from mining.engine import Miner
    from mining.models import load_model
    from mining.scoring import read_truth
    from mining.scoring.of_maps import MapScores, map_figures
    from mining.scoring.region_accuracy import RegionAccuracy
    from mining.scoring.wsoleval import BoxAccuracy

    settings = run.settings().model_copy(update={"curves": False})
    miner = Miner(*load_model(run.model, settings), settings)
    protocol, own = BoxAccuracy(), RegionAccuracy(normalise=miner.cutter.cut.normalise)
    seen = MapScores(read_truth(truth), run.corpus, protocol, own)
    images, done, changed = read_summary(run.corpus).images, 0, 0
    for shard in range(shard_count(run.corpus)):
        rows = read_shard(run.corpus, shard).to_pylist()
        changed += sum(outcome.replaced for outcome in miner.mine(rows, watch=seen.keep))
        seen.score()
        done += len(rows)
        progress(done, images)
    return map_figures(seen, protocol, own), changed


def compare(settings: CompareSettings) -> tuple[dict[str, Any], Path]:
    """Compare two finished runs; gives the summary and the page. Raises RunError or ScoringError."""
    from mining.audit import write_comparison
    from mining.audit.truths import read_scores, scored_truth
    from mining.own_pages import check_page
    from mining.scoring.comparison import compare_runs

    runs = [RunDirectory(path) for path in (settings.first, settings.second)]
    records = [run.need_finished() for run in runs]
    found = (scored_truth(read_scores(run), record["config"]) for run, record in zip(runs, records, strict=True))
    truth = settings.truth or next((one for one in found if one is not None), None)
    page = settings.out or runs[1].report.parent / f"against-{slug(records[0]['name'])}.html"
    check_page(page)  # before the work rather than after it
    comparison = compare_runs(settings.first, settings.second, truth)
    return comparison.summary, write_comparison(settings.first, settings.second, comparison, truth, page)
