"""Train a detector from boxes and write its model folder; an interrupted training is resumed."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mining.backbones.registry import COCO, refuse_unknown_backbone
from mining.config import DetectorSettings
from mining.detection.boxed_images import BoxedImage, digest_images
from mining.detection.data import DetectionData
from mining.detection.folder import build_detector, detector_card, load_detector, save_detector
from mining.detection.module import DetectorModule, diverged
from mining.detection.network import Detector
from mining.errors import CorpusError, InputError, ModelError
from mining.models.card import CARD_FILE, CHECKPOINTS, SEEN_COCO, TRUE_BOXES, ModelCard, read_card
from mining.models.device import cpu_has_bfloat16, resolve_device
from mining.runtimes.worker_threads import restored_threads
from mining.storage.files import storage_errors, write_json
from mining.storage.locks import lock_folder
from mining.storage.provenance import package_versions, utc_now
from mining.training.callbacks import EpochRecorder, Progress
from mining.training.checkpoints import read_checkpoint
from mining.training.distributed import is_rank_zero, lost_processes_named
from mining.training.fit import lightning_refusals, without_lightning_hints
from mining.training.folder import (
    TRAINING_FILE,
    begin_training,
    delete_checkpoints,
    discard_false_start,
    discard_training,
    end_training,
    read_training,
    refuse_foreign_folder,
)
from mining.training.history import HISTORY_FILE, read_history

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorSummary:
    """The result of the training of a detector.

    Attributes:
        folder: The model folder.
        images: Number of images to train on.
        boxes: Number of their boxes of a weight above 0.
        classes: Number of classes.
        epochs: Number of epochs.
        loss: Mean loss of the last epoch.
        seconds: Duration.
        unreadable: Path to reason, of images that were left out.
        notes: Sentences about the execution.
        warnings: Sentences about what it learned from.
    """

    folder: Path
    images: int
    boxes: int
    classes: int
    epochs: int
    loss: float
    seconds: float
    unreadable: dict[str, str]
    notes: list[str]
    warnings: list[str] = field(default_factory=list)


def train_detector(
    settings: DetectorSettings,
    images: Sequence[BoxedImage],
    classes: Sequence[Mapping[str, Any]],
    out: Path,
    progress: Progress = lambda done, total, text: None,
    *,
    true_boxes: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> DetectorSummary:
    """Train a detector; resumes an unfinished training of the same settings, images and boxes.

    Args:
        settings: What to train, and how.
        images: Images and their boxes; images without boxes are background.
        classes: [{"id": 1, "name": "dog"}, ...] in the order of the boxes' class indices.
        out: Model folder.
        progress: Called after each step with steps done, steps planned and a text.
        true_boxes: Which of the images have true boxes, for the record of the model, see `TRUE_BOXES`.
        warnings: Sentences about what it learns from: logged before the training, and kept in the model card.

    Returns:
        The summary; that of the finished training where there is one of the same settings, images and boxes.

    Raises:
        CorpusError: There is no box to learn from, or no image can be read.
        ModelError: `out` holds something else, the settings cannot be used, or the training diverged.
        ProcessLostError: The process of a further device ended.
    """
    refuse_unknown_backbone(settings.backbone)
    boxes = sum(int((image.weights > 0).sum()) for image in images)
    if not boxes:
        raise CorpusError("There is no box to train the detector on; give images with boxes of a weight above 0.")
    if max(int(image.classes.max(initial=0)) for image in images) >= len(classes):
        raise CorpusError(f"A box has a class that is not among the {len(classes)} classes given.")
    listed = [{"id": int(entry["id"]), "name": str(entry["name"])} for entry in classes]
    wanted = {"localizer": settings.kind, **settings.identity(), "classes": listed}
    if true_boxes is not None:
        wanted[TRUE_BOXES] = dict(true_boxes)
    wanted["images"] = digest_images(images)
    if not is_rank_zero():
        return _fit(settings, images, listed, out, wanted, boxes, warnings, progress)
    refuse_foreign_folder(out)
    with lock_folder(out):
        finished = _finished(out, wanted)
        if finished is not None:
            if (out / TRAINING_FILE).exists():  # killed just before it was cleaned up
                end_training(out)
            return finished
        for sentence in warnings:
            _log.warning("%s", sentence)
        begin_training(out)
        write_json(out / TRAINING_FILE, wanted)
        try:
            summary = _fit(settings, images, listed, out, wanted, boxes, warnings, progress)
        except InputError:
            discard_false_start(out)
            raise
        end_training(out)
        return summary


def _finished(out: Path, wanted: dict[str, Any]) -> DetectorSummary | None:
    """Return the summary of the finished training in `out`; None if there is none.

    Raises:
        ModelError: It holds a model or training of other settings, images or boxes.
    """
    is_model = (out / CARD_FILE).exists()
    if not is_model and not (out / TRAINING_FILE).exists():
        return None
    training = read_card(out).training if is_model else {}
    recorded = training.get("inputs", {}) if is_model else read_training(out)
    for name, value in wanted.items():
        if recorded.get(name) != value:
            what = "a finished model" if is_model else "an unfinished training"
            of = "true boxes" if name == TRUE_BOXES else name
            raise ModelError(f"{out} holds {what} of other {of}; give another folder, or delete it.")
    if not is_model:
        return None
    known = {name: training[name] for name in DetectorSummary.__dataclass_fields__ if name in training}
    return DetectorSummary(folder=out, **known)


def _fit(
    settings: DetectorSettings,
    images: Sequence[BoxedImage],
    classes: list[dict[str, Any]],
    out: Path,
    inputs: dict[str, Any],
    boxes: int,
    warnings: Sequence[str],
    progress: Progress,
) -> DetectorSummary:
    card = detector_card(settings.network, settings.backbone, classes)
    last = out / CHECKPOINTS / "last.ckpt"
    started = time.monotonic()
    with without_lightning_hints():
        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        module = DetectorModule(_start(settings, card), settings)
        data = DetectionData(images, settings)
        trainer = _make_trainer(settings, out, EpochRecorder(progress, out, settings.seed))
        if last.is_file():
            read_checkpoint(last)  # Lightning itself fails in many ways on a damaged one
        try:
            with lost_processes_named(trainer), storage_errors(last), restored_threads():
                trainer.fit(module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)
        except SystemExit:  # how Lightning ends a process on Ctrl-C
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise
        except ModelError:
            if is_rank_zero():
                discard_training(out)
            raise
    if not is_rank_zero():
        sys.exit()  # the first process writes the model
    if not module.has_learned:
        discard_training(out)
        reason = next(iter(module.unreadable.values()), "")
        raise CorpusError(f"None of the {len(images)} images to train on could be read, e.g. {reason}")
    if not all(bool(value.isfinite().all()) for value in module.trained.parameters()):
        discard_training(out)
        raise diverged(settings)
    rows = read_history(out / HISTORY_FILE)
    losses = [float(row["train_loss"]) for row in rows if row.get("train_loss")]
    summary = DetectorSummary(
        out, len(images), boxes, len(classes), settings.epochs, losses[-1], round(time.monotonic() - started, 1),
        dict(sorted(module.unreadable.items())), data.notes, list(warnings),
    )  # fmt: skip
    record = {
        **{name: value for name, value in asdict(summary).items() if name != "folder"},
        "inputs": inputs, "settings": settings.model_dump(mode="json"), SEEN_COCO: _has_seen_coco(settings),
        "versions": package_versions(), "finished": utc_now(),
    }  # fmt: skip
    save_detector(out, module.trained, replace(card, training=record))
    delete_checkpoints(out)
    return summary


def _has_seen_coco(settings: DetectorSettings) -> bool:
    """Return whether the weights that a training starts with were learned from COCO's boxes."""
    folder = settings.weights_folder
    return settings.weights == COCO if folder is None else bool(read_card(folder).training.get(SEEN_COCO))


def _start(settings: DetectorSettings, card: ModelCard) -> Detector:
    """Build the detector that the training starts with.

    Raises:
        ModelError: The weights are missing or do not fit.
    """
    folder = settings.weights_folder
    if folder is None:
        return build_detector(card, weights=settings.weights)
    detector, other = load_detector(folder)
    for name in ("localizer", "backbone", "class_names"):
        if getattr(other, name) != getattr(card, name):
            raise ModelError(
                f"The detector {folder} has {name.replace('_', ' ')} {getattr(other, name)}, this training "
                f"{getattr(card, name)}; give one that is the same in this, or `weights` imagenet."
            )
    built = build_detector(card)
    try:
        built.load_state_dict(detector.state_dict())
    except RuntimeError:
        raise ModelError(
            f"The detector {folder} has other layers than this training: give the options that it was trained with, "
            f"{other.options}."
        ) from None
    return built


def _make_trainer(settings: DetectorSettings, out: Path, recorder: EpochRecorder) -> lightning.Trainer:
    device = resolve_device(settings.device)
    precision = settings.precision
    if precision == "auto":
        on_cpu = "bf16-mixed" if device.type == "cpu" and cpu_has_bfloat16() else "32-true"
        precision = "16-mixed" if device.type == "cuda" else on_cpu
    kept = ModelCheckpoint(
        out / CHECKPOINTS, "last", monitor=None, save_on_train_epoch_end=True, enable_version_counter=False
    )
    with lightning_refusals():
        return lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=_devices(settings, device),
            precision=precision,  # type: ignore[arg-type]
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip,
            callbacks=[recorder, kept],
            logger=False,
            use_distributed_sampler=False,  # see `device_share`
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=out,
        )


def _devices(settings: DetectorSettings, device: torch.device) -> int | str | list[int]:
    """Return Lightning's devices: those of the settings, by default every GPU or one process."""
    if settings.device.startswith("cuda:"):
        return [device.index or 0]
    if settings.devices == "auto":
        return -1 if device.type == "cuda" else 1
    return int(settings.devices) if settings.devices.lstrip("-").isdigit() else settings.devices
