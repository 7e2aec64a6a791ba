"""What a run is made from: its images, its model and its thresholds, checked and fingerprinted before it is opened."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from mining.config import NO_LABELS, CorpusSettings, MineOptions, MineSection, MineSettings, parse
from mining.corpus import CorpusSummary
from mining.corpus.scanner import scan_from_settings
from mining.errors import ModelError, RunError, did_you_mean
from mining.localizers.option_values import with_changed_defaults
from mining.models.card import PRETRAINED, ModelCard, is_detector, read_card, unknown_classes
from mining.models.detector_options import refuse_map_options
from mining.models.pretrained_choice import identify_pretrained
from mining.runs.run import Run
from mining.storage.files import sha256_of
from mining.storage.integrity import digest_matches
from mining.storage.untrusted_files import read_json

M = TypeVar("M", bound=MineSection)


# --- thresholds ------------------------------------------------------------------------------------------------------


def resolve_thresholds(options: M) -> M:
    """Replace `thresholds_from` by the thresholds that were chosen when that run was scored.

    A run's record holds the numbers, so that it does not depend on what becomes of the scored run. Settings that name
    no run, or that hold thresholds per class already, are returned unchanged.

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
            f"{path.parent} has no {path.name} with chosen thresholds; mine it with curves, and score it with "
            "`boxmine score`."
        ) from None
    if not digest_matches(scores):
        raise RunError(f"{path} is damaged; run the `boxmine score` command of this run again.")
    threshold = common if options.threshold is None else options.threshold
    return parse(type(options), {**dict(options), "threshold": threshold, "class_thresholds": per_class})


def refuse_unknown_thresholds(options: MineSection, card: ModelCard, model: str) -> None:
    """Raise ModelError if thresholds are given for a class that the model does not know.

    Args:
        options: Settings of mining.
        card: The model's record.
        model: The model's name for the message.
    """
    unknown = unknown_classes(list(options.class_thresholds), card)
    if unknown and options.thresholds_from is None:  # ground truth of a scored run may have classes the model lacks
        raise ModelError(
            f"The model {model} does not know the class {unknown[0]!r} of class_thresholds: "
            f"{did_you_mean(unknown[0], card.class_names)}"
        )


# --- model and labels ------------------------------------------------------------------------------------------------


def effective_settings(options: MineOptions, card: ModelCard) -> dict[str, Any]:
    """Return the localizer, its options and the extraction parameters that result from the settings and the model.

    Of a detector, its kind, its options and the side of its images.

    The options include those whose default has changed since earlier versions, see `Run.settings_used`.
    """
    if is_detector(card):
        refuse_map_options(options, card)
        return {"localizer": card.localizer, "options": card.options, "side": card.input_size}
    from mining.models.overrides import apply_overrides, extraction_params

    card = apply_overrides(card, options)
    used = with_changed_defaults(card.localizer, card.options)
    return {"localizer": card.localizer, "options": used, **asdict(extraction_params(card, options))}


def read_model_card(settings: MineSettings) -> ModelCard | None:
    """Return the record of the model folder, None for a pretrained backbone. Raises ModelError."""
    return None if settings.model.startswith(PRETRAINED) else read_card(Path(settings.model))


def fingerprint_inputs(settings: MineSettings) -> dict[str, Any]:
    """Return the digests of the model and the labels, by which another run in the same folder is noticed."""
    card, labels = read_model_card(settings), settings.labels
    return {
        "model_sha256": identify_pretrained(settings, settings.model) if card is None else card.weights_sha256,
        "labels_sha256": sha256_of(labels) if labels is not None and labels.is_file() else None,
    }


def refuse_other_mining(settings: MineSettings) -> None:
    """Raise RunError if --out holds a run of other settings or inputs; ModelError if there is no such model."""
    run = Run(settings.out)
    run.refuse_foreign_folder(Path(settings.model))
    if run.has_started():
        run.refuse_other_run(run.record, resolve_thresholds(settings), fingerprint_inputs(settings))


# --- images ----------------------------------------------------------------------------------------------------------


def list_images(
    corpus: CorpusSettings, shard_size: int, card: ModelCard, model: str, out: Path, hashes_kept: Path | None = None
) -> CorpusSummary:
    """List the images of a corpus that a model is to mine, as a corpus table.

    Args:
        corpus: The images and their labels.
        shard_size: Images per shard, a row group of the table.
        card: The model's record.
        model: The model's name for messages.
        out: The corpus table to write.
        hashes_kept: Where content hashes are cached (see `scan`); None computes none.

    Raises:
        CorpusError: The images or the labels cannot be used.
        ModelError: The labels name a class that the model does not know.
    """
    summary = scan_from_settings(corpus, out, corpus.labels, shard_size, hashes_kept)
    unknown = unknown_classes(list(summary.classes), card)
    if unknown and summary.kind == "classes" and len(unknown) == len(summary.classes):
        # folders that name no class of the model are albums, not labels
        remark = f"The folders ({', '.join(unknown[:3])}, ...) name no class of the model and are not taken as labels."
        summary, unknown = scan_from_settings(corpus, out, NO_LABELS, shard_size, hashes_kept, [remark]), []
    if unknown:
        out.unlink()
        raise ModelError(
            f"The model {model} does not know the class {unknown[0]!r} of {corpus.labels or corpus.images}: "
            f"{did_you_mean(unknown[0], card.class_names)} Mine with --labels none to let the model name the classes."
        )
    return summary
