"""The training job: list the images, train, resume an interrupted training."""

from pathlib import Path
from typing import Any

from mining.config import TrainSettings, setting_or_default
from mining.corpus import read_summary
from mining.corpus.image_root import check_output_outside_images
from mining.corpus.scanner import scan_from_settings
from mining.corpus.schema import CORPUS_FILE
from mining.errors import InputError, ModelError
from mining.localizers.option_values import recorded_options
from mining.localizers.registry import refuse_unknown_localizer
from mining.models.card import CARD_FILE, CHECKPOINTS, read_card
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
    wanted = settings.identity()
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
        missing=summary.missing, progress=progress,
    )  # fmt: skip


def refuse_other_training(settings: TrainSettings) -> None:
    """Check --out as far as possible without torch.

    Raises:
        ModelError: It holds a model or a training of other settings.
    """
    wanted = with_localizer_defaults(settings).identity()
    for name in ("learning_rate", "views"):
        if wanted[name] is None:  # the localizer's
            del wanted[name]
    refuse_foreign_folder(settings.out)
    _earlier_training(settings.out, wanted)


def _earlier_training(out: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    if (out / CARD_FILE).exists():
        training = read_card(out).training
        _refuse_difference(out, training.get("settings", {}), wanted, "a finished model")
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
