"""The training job: list the images, train, resume an interrupted training."""

from pathlib import Path
from typing import Any

from mining.config import TrainSettings, setting_or_default
from mining.corpus import iter_shards, read_summary
from mining.corpus.image_root import check_output_outside_images
from mining.corpus.scanner import scan_from_settings
from mining.corpus.schema import CORPUS_FILE
from mining.errors import InputError, ModelError
from mining.ground_truth.check import read_checked_boxes
from mining.ground_truth.reading import GroundTruth
from mining.ground_truth.sources import digest_of
from mining.localizers.option_values import recorded_options
from mining.localizers.registry import refuse_unknown_localizer
from mining.models.card import CARD_FILE, CHECKPOINTS, TRUE_BOXES, read_card
from mining.storage.files import write_json
from mining.storage.locks import lock_folder
from mining.training.distributed import is_rank_zero
from mining.training.folder import (
    TRAINING_FILE,
    begin_training,
    discard_false_start,
    end_training,
    read_training,
    refuse_foreign_folder,
)
from mining.training.localizer_defaults import with_localizer_defaults
from mining.training.summary import TrainingSummary

# Of each image, by default, for a frozen backbone: more views change neither validation loss nor CorLoc, see
# docs/benchmarks.md.
VIEWS = 1
_BOXES = "boxes_sha256"


def train(settings: TrainSettings, progress: Any = lambda done, total, text: None) -> TrainingSummary:
    """Scan the corpus and fit the localizer; resumes an unfinished training of the same settings.

    Args:
        settings: What to train, and where.
        progress: Called after each step with steps done, steps planned and a text.

    Returns:
        The summary; that of the finished training where there is one of the same settings.

    Raises:
        ModelError: --out holds another model, or the settings cannot be used.
        CorpusError: The images or labels cannot be used.
        ScoringError: Some of the true boxes cannot be learned from.
    """
    refuse_unknown_localizer(settings.localizer)
    check_output_outside_images(settings.out, settings.images)
    from mining.localizers.loading import localizer_named

    kind = localizer_named(settings.localizer)
    settings = with_localizer_defaults(settings)
    if settings.learning_rate is None:  # recorded, because another default is another training
        settings = settings.model_copy(update={"learning_rate": kind.learning_rate})
    if settings.views is None:
        settings = settings.model_copy(update={"views": VIEWS if settings.freeze and kind.trains_on_features else 0})
    out = settings.out
    if not is_rank_zero():
        return _scan_and_fit(settings, progress)
    wanted = _identity(settings)
    refuse_foreign_folder(out)
    done = _earlier_training(out, wanted)
    if done is None:
        with lock_folder(out):
            refuse_foreign_folder(out)  # again, because another process may just have finished here
            done = _earlier_training(out, wanted)
            if done is None:
                return _train_in_folder(settings, wanted, progress)
    elif (out / TRAINING_FILE).exists() and read_training(out) == wanted:  # killed just before it was cleaned up
        with lock_folder(out):
            end_training(out)
    return TrainingSummary(
        folder=out, **{k: done[k] for k in TrainingSummary.__dataclass_fields__ if k != "folder" and k in done}
    )


def _train_in_folder(settings: TrainSettings, wanted: dict[str, Any], progress: Any) -> TrainingSummary:
    out = settings.out
    begin_training(out)
    write_json(out / TRAINING_FILE, wanted)
    try:
        summary = _scan_and_fit(settings, progress)
    except InputError:
        discard_false_start(out)
        raise
    end_training(out)
    return summary


def _scan_and_fit(settings: TrainSettings, progress: Any) -> TrainingSummary:
    from mining.training.fit import fit

    corpus = settings.out / CHECKPOINTS / CORPUS_FILE
    summary = scan_from_settings(settings, corpus, settings.labels) if is_rank_zero() else read_summary(corpus)
    objective = settings.objective
    if objective == "auto":
        objective = "single" if summary.single_label else "multi"
    return fit(
        settings, corpus, objective=objective, category_ids=summary.category_ids, notes=summary.notes,
        missing=summary.missing, true_boxes=_true_boxes(settings, corpus, list(summary.classes)), progress=progress,
    )  # fmt: skip


def _true_boxes(settings: TrainSettings, corpus: Path, classes: list[str]) -> GroundTruth | None:
    if settings.boxes is None or not is_rank_zero():
        return None
    names = [name for shard in iter_shards(corpus) for name in shard["file_name"].to_pylist()]
    return read_checked_boxes(settings.boxes, settings.images, names, classes)


def refuse_other_training(settings: TrainSettings) -> None:
    """Check --out as far as possible without torch.

    Raises:
        ModelError: It holds a model or a training of other settings.
    """
    wanted = _identity(with_localizer_defaults(settings))
    for name in ("learning_rate", "views"):
        if wanted[name] is None:  # the localizer's
            del wanted[name]
    refuse_foreign_folder(settings.out)
    _earlier_training(settings.out, wanted)


def _identity(settings: TrainSettings) -> dict[str, Any]:
    """The settings and inputs that decide the weights, as JSON values."""
    return {**settings.identity(), _BOXES: None if settings.boxes is None else digest_of(settings.boxes)}


def _earlier_training(out: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    if (out / CARD_FILE).exists():
        training = read_card(out).training
        true_boxes = training.get("inputs", {}).get(TRUE_BOXES, {})
        recorded = {**training.get("settings", {}), _BOXES: true_boxes.get("sha256")}
        _refuse_difference(out, recorded, wanted, "a finished model")
        return training
    if (out / TRAINING_FILE).exists():
        _refuse_difference(out, read_training(out), wanted, "an unfinished training")
    return None


def _refuse_difference(out: Path, recorded: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    if "localizer" in recorded:
        recorded = {**recorded, "options": recorded_options(recorded["localizer"], recorded.get("options", {}))}
    for name in wanted:
        value = setting_or_default(TrainSettings, recorded, name)
        if value != wanted[name]:
            raise ModelError(
                f"{out} holds {what} of other settings: its {name} is {value!r}, "
                f"this command's is {wanted[name]!r}. Give another --out, or delete the folder."
            )
