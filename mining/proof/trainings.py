"""The trainings of a proof: which boxes each learns from, for how long."""

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mining.arrays import Floats
from mining.bootstrap.detector_warnings import warnings_of_localizer
from mining.bootstrap.training_boxes import TrainingBoxes, boxes_of_run
from mining.bootstrap.true_boxes import TrueBoxes, read_true_boxes, replace_boxes
from mining.config import DetectorSettings
from mining.config.proof import ProofSettings
from mining.corpus.images.decoding import resolve_image_path
from mining.detection.boxed_images import BoxedImage
from mining.errors import InputError
from mining.ground_truth.sources import digest_of
from mining.proof.simulated_review import review
from mining.runs.run import Run
from mining.storage.files import sha256_of

ALONE, WITH_MINED = "true", "mined+true"  # names of the trainings of the label budget
_OF_THE_RUN = ("mined", "audited", WITH_MINED)
_REVIEWS = "reviews"


@dataclass(frozen=True)
class Training:
    """A training of a proof.

    Attributes:
        boxes: What it learns from: an arm of the recipe, or ALONE and WITH_MINED with a number of true boxes.
        seed: Its seed.
        true_boxes: Of the label budget: how many boxes a person would have to draw; None for an arm.
    """

    boxes: str
    seed: int
    true_boxes: int | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        number = "" if self.true_boxes is None else f"-{self.true_boxes}"
        return f"{self.boxes}{number}-seed-{self.seed}"


def plan_trainings(settings: ProofSettings) -> list[Training]:
    """Return all trainings of a proof, seed by seed, so that the figures of few seeds come first."""
    trainings = []
    for seed in settings.seeds:
        trainings += [Training(arm, seed) for arm in settings.own_arms]
        if settings.truth is not None:
            trainings += [Training(kind, seed, n) for n in settings.budget for kind in (ALONE, WITH_MINED)]
    return trainings


@dataclass(frozen=True)
class TrainingSet:
    """What a training learns from, and for how long.

    Attributes:
        found: Images, boxes, classes.
        settings: Of the detector; as many steps as the training on all images has.
        warnings: Sentences about the localizer of the run, if it learns from the run's boxes.
    """

    found: TrainingBoxes
    settings: DetectorSettings
    warnings: list[str] = field(default_factory=list)


def training_set(settings: ProofSettings, training: Training) -> TrainingSet:
    """Return what a training learns from.

    Of the label budget, images are drawn at random until their true boxes are at least as many as asked for: a person
    draws all boxes of an image. The images of a smaller number are among those of a larger one.

    Args:
        settings: The recipe.
        training: The training.

    Raises:
        InputError: A run has no box, or the true boxes are fewer than asked for.
        ScoringError: The ground truth cannot be used.
        RunError: A run is not finished, or a table of it is damaged.
    """
    run = Run.open(settings.run_of(training.seed), finished=True)
    mined = boxes_of_run(run)
    found = _boxes_of(settings, training, run, mined)
    epochs = _epochs(settings.detector.epochs, settings.detector.batch_size, len(mined.images), len(found.images))
    warnings = warnings_of_localizer(run) if training.boxes in _OF_THE_RUN else []
    return TrainingSet(found, settings.detector_settings(training.seed, epochs), warnings)


def _boxes_of(settings: ProofSettings, training: Training, run: Run, mined: TrainingBoxes) -> TrainingBoxes:
    if training.boxes == "mined":
        return mined
    if training.boxes in ("centred", "whole"):
        share = 0.5 if training.boxes == "centred" else 1.0
        return _as_set(mined, _blind_images(run, share))
    assert settings.truth is not None
    if training.boxes == "audited":
        out = settings.out / _REVIEWS / f"seed-{training.seed}-{_digest(settings, run, settings.truth)}"
        return boxes_of_run(review(run.path, settings.truth, settings.verdicts, training.seed, out))
    true = read_true_boxes(run, settings.truth)
    if training.true_boxes is None:
        return _as_set(mined, true.images)
    refuse_larger_budget(settings, true.boxes)
    drawn = _draw(true, training)
    return _as_set(mined, drawn) if training.boxes == ALONE else replace_boxes(mined, drawn)


def _digest(settings: ProofSettings, run: Run, truth: Path) -> str:
    """What a review follows from, besides its seed: with other boxes, truth or verdicts it is another one."""
    parts = (sha256_of(run.annotations), digest_of(truth), str(settings.verdicts))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _as_set(mined: TrainingBoxes, images: list[BoxedImage]) -> TrainingBoxes:
    return replace(mined, images=images, boxes=sum(len(image.boxes) for image in images), skipped=0)


def refuse_larger_budget(settings: ProofSettings, true_boxes: int) -> None:
    """Raise InputError if the ground truth has fewer boxes than the recipe asks for."""
    larger = [number for number in settings.budget if number > true_boxes]
    if larger:
        raise InputError(
            f"{settings.truth} has {true_boxes} boxes on images of the run, fewer than `budget` asks for: omit "
            f"{', '.join(map(str, larger))}."
        )


def _draw(true: TrueBoxes, training: Training) -> list[BoxedImage]:
    """Images whose true boxes are as many as a training asks for, or a few more."""
    wanted = training.true_boxes or 0
    order = np.random.default_rng(training.seed).permutation(len(true.images)).tolist()
    drawn, boxes = [], 0
    for place in order:
        if boxes >= wanted:
            break
        drawn.append(true.images[place])
        boxes += len(true.images[place].boxes)
    return drawn


def _blind_images(run: Run, share: float) -> list[BoxedImage]:
    """The images with a box in the centre for each label; of unlabelled images for each class that was mined."""
    places = {entry["name"]: place for place, entry in enumerate(run.card.classes)}
    mined: dict[int, set[str]] = {}
    table = run.read_annotations(["image_id", "category"])
    for image_id, name in zip(table["image_id"].to_pylist(), table["category"].to_pylist(), strict=True):
        mined.setdefault(image_id, set()).add(name)
    images = []
    columns = ["image_id", "file_name", "content_hash", "labels", "width", "height"]
    for row in run.read_corpus(columns).to_pylist():
        names = sorted(mined.get(row["image_id"], ())) if row["labels"] is None else row["labels"]
        classes = np.array([places[name] for name in names if name in places], np.int64)
        if row["width"] is None or not (len(classes) or row["labels"] == []):
            continue  # it could not be read, or nobody knows what it shows
        images.append(
            BoxedImage(
                path=resolve_image_path(run.image_root, row["file_name"]),
                content_hash=row["content_hash"],
                boxes=np.repeat(_centred_box(row["width"], row["height"], share), len(classes), axis=0),
                classes=classes,
                weights=np.ones(len(classes), np.float32),
            )
        )
    return images


def _centred_box(width: int, height: int, share: float) -> Floats:
    """(1, 4) float32 xyxy of a box with the image's proportions in its centre, of a share of its area."""
    side = math.sqrt(share)
    x, y = width * (1 - side) / 2, height * (1 - side) / 2
    return np.array([[x, y, width - x, height - y]], np.float32)


def _epochs(epochs: int, batch_size: int, all_images: int, images: int) -> int:
    """Epochs over fewer images that have as many steps."""

    def steps(count: int) -> int:
        return max(1, count // batch_size)

    return max(1, math.ceil(epochs * steps(all_images) / steps(images)))
