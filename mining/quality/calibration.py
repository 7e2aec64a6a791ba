"""Calibrated probabilities of boxes: p_correct and expected_iou from signals and some boxes that were judged.

Two logistic regressions on the features of `features`, with a Gaussian prior on their weights: one of whether a box is
correct, one of its IoU. Each class has an offset of its own, which the same prior draws to 0: a class with many judged
boxes has its own calibration, one with few has nearly the common one. Weights and prior are the same for every number
of judged boxes.

The models are cross-fitted over images: the image's name decides its fold, and the model of a fold is fitted without
that fold's images. So a box is never predicted by a model that was fitted to a verdict on its image, also when the same
images are mined again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from mining.arrays import Floats, Ints
from mining.errors import InputError
from mining.quality.box_arrays import column_floats
from mining.quality.drift import MIN_BOXES, Distribution, Drift
from mining.quality.features import FEATURES, Scaling, raw_features
from mining.quality.labels import Labels
from mining.quality.logistic import LogisticModel, fit_logistic
from mining.quality.reliability import (
    ReliabilityBin,
    calibration_error,
    error_by_chance,
    localization_error,
    ranking_accuracy,
    reliability_bins,
)
from mining.storage.files import write_json
from mining.storage.integrity import digest_matches, with_digest
from mining.storage.untrusted_files import read_json

FORMAT = "boxmine-calibration/1"
MIN_BOXES_TO_CALIBRATE = 50
MIN_IMAGES = 10
FOLDS = 10
IOU_CORRECT = 0.5
_ROWS_PER_BLOCK = 100_000  # bounds memory
CLASS_WEIGHT = 3.0  # the penalty on a class's offset is 9 times as weak as on a feature's weight


class CalibrationFigures(TypedDict):
    """Figures of cross-fitted predictions on the judged boxes; None where nothing can be computed.

    `ece` is the expected calibration error of p_correct, `ece_by_chance` what a perfect calibration of as many boxes
    has on average, `laece` the localization-aware error of expected_iou, `auroc` how well p_correct ranks right before
    wrong boxes, `auroc_of_score` how well `score` does.
    """

    boxes: int
    images: int
    correct: float
    ece: float
    ece_by_chance: float
    laece: float | None
    auroc: float | None
    auroc_of_score: float | None
    reliability: list[ReliabilityBin]
    reliability_iou: list[ReliabilityBin]


@dataclass(frozen=True)
class Predictions:
    """p_correct and expected_iou of n boxes, each (n,); all NaN where they are not calibrated."""

    p_correct: Floats
    expected_iou: Floats


@dataclass(frozen=True, repr=False)
class Calibration:
    """A fitted calibration; make one with `calibrate`.

    Attributes:
        classes: Names of the classes that have an offset.
        judged: Number of judged boxes of each class.
        scaling: How features are standardised.
        correct_models: FOLDS models of p_correct; empty where there were too few judged boxes.
        iou_models: FOLDS models of expected_iou; empty where no IoU is known.
        distribution: Of the signals of all boxes that `calibrate` was given.
        seed: Decides the folds.
        figures: Of the cross-fitted predictions; None where it is not calibrated.
        agree_with: Run directory that `run_agreement` compares with; None for none.
    """

    classes: tuple[str, ...]
    judged: tuple[int, ...]
    scaling: Scaling
    correct_models: tuple[LogisticModel, ...]
    iou_models: tuple[LogisticModel, ...]
    distribution: Distribution
    seed: int = 0
    figures: CalibrationFigures | None = None
    agree_with: str | None = field(default=None, compare=False)

    @property
    def is_calibrated(self) -> bool:
        """Whether there were enough judged boxes."""
        return bool(self.correct_models)

    def __repr__(self) -> str:
        if self.figures is None:
            return f"Calibration(uncalibrated: {sum(self.judged)} judged boxes, {MIN_BOXES_TO_CALIBRATE} are needed)"
        return f"Calibration({self.figures['boxes']} judged boxes, ECE {self.figures['ece']:.3f})"

    def predict(self, signals: pa.Table, images: Sequence[object] | None = None) -> Predictions:
        """Predict boxes.

        Args:
            signals: n rows of `read_boxes_with_quality`.
            images: Image of each row, by the same names as in `calibrate`: each box is predicted by the model that was
                fitted without its image. None for images that were not calibrated on: the mean of all models.

        Raises:
            InputError: A column is missing.
        """
        fold = None if images is None else folds_of(images, self.seed)
        correct, iou = [np.empty(0)], [np.empty(0)]
        for start in range(0, len(signals), _ROWS_PER_BLOCK):
            block = slice(start, start + _ROWS_PER_BLOCK)
            design = self._design(signals.slice(start, _ROWS_PER_BLOCK))
            correct.append(_predict(self.correct_models, design, None if fold is None else fold[block]))
            iou.append(_predict(self.iou_models, design, None if fold is None else fold[block]))
        return Predictions(np.concatenate(correct), np.concatenate(iou))

    def find_drift(self, signals: pa.Table) -> Drift:
        """Compare the signals of other boxes with those that were calibrated on; fewer than 20 boxes never differ."""
        return self.distribution.compare(raw_features(signals)) if len(signals) >= MIN_BOXES else Drift({}, ())

    def check_distribution(self, signals: pa.Table) -> str | None:
        """Check whether the calibration can be carried to other boxes.

        Returns:
            A warning where the distribution of one or two signals has moved; None where none has.

        Raises:
            InputError: More signals have moved.
        """
        drift = self.find_drift(signals)
        if not drift.moved:
            return None
        found = (
            "signals of these boxes are distributed otherwise than those that the calibration was made from "
            f"(population stability index): {drift.describe()}"
        )
        if drift.is_refused:
            raise InputError(f"The calibration does not fit: {found}. Judge 50 of these boxes and calibrate again.")
        return f"Some {found}. Judge some of these boxes before you rely on the probabilities."

    def save(self, path: Path) -> None:
        """Write the calibration as JSON, atomically."""
        write_json(path, with_digest(self._to_json()))

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a calibration that `save` wrote.

        Raises:
            InputError: The file is missing, damaged, or of another version.
        """
        try:
            return cls._from_json(dict(read_json(path)))
        except FileNotFoundError:
            raise InputError(
                f"There is no calibration {path}. Run `boxmine audit calibrate` on its run first."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read as a calibration ({error}). Calibrate again.") from None

    def _to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "features": [feature.name for feature in FEATURES],
            "classes": list(self.classes),
            "judged": list(self.judged),
            "scaling": self.scaling.to_json(),
            "correct_models": [model.to_json() for model in self.correct_models],
            "iou_models": [model.to_json() for model in self.iou_models],
            "distribution": self.distribution.to_json(),
            "seed": self.seed,
            "figures": self.figures,
            "agree_with": self.agree_with,
        }

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> "Calibration":
        if content.get("format") != FORMAT or content.get("features") != [feature.name for feature in FEATURES]:
            raise ValueError("it was not written by this version of boxmine")
        if not digest_matches(content):
            raise ValueError("its content is not what was written")
        return cls(
            classes=tuple(content["classes"]),
            judged=tuple(content["judged"]),
            scaling=Scaling.from_json(content["scaling"]),
            correct_models=tuple(LogisticModel.from_json(one) for one in content["correct_models"]),
            iou_models=tuple(LogisticModel.from_json(one) for one in content["iou_models"]),
            distribution=Distribution.from_json(content["distribution"]),
            seed=int(content["seed"]),
            figures=content["figures"],
            agree_with=content["agree_with"],
        )

    def _design(self, signals: pa.Table) -> Floats:
        offsets = np.zeros((len(signals), len(self.classes)))
        place = np.array([self._places.get(name, -1) for name in signals["category"].to_pylist()], np.int64)
        known = np.flatnonzero(place >= 0)
        offsets[known, place[known]] = CLASS_WEIGHT
        return np.concatenate([self.scaling.apply(raw_features(signals)), offsets], axis=1)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.classes)}


def calibrate(
    signals: pa.Table,
    is_correct: ArrayLike,
    iou: ArrayLike | None,
    images: Sequence[object],
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> Calibration:
    """Fit p_correct and expected_iou to the boxes that were judged.

    Args:
        signals: All n boxes of a run, as `read_boxes_with_quality` returns them, judged or not.
        is_correct: (n,) bool, or float with NaN for the boxes that were not judged.
        iou: (n,) IoU with the best true box of the class, NaN where not known; None if none is.
        images: Image of each box, e.g. its file name; equal for the boxes of one image.
        weights: (n,) weight of each judged box, e.g. one over the probability that it was drawn; by default all equal.
        seed: Decides which images share a fold.

    Returns:
        A calibration; with fewer than 50 judged boxes, or on fewer than 10 images, one that is not `is_calibrated` and
        predicts NaN.

    Raises:
        InputError: A column is missing.
        ValueError: The lengths differ, or a value is out of range.
    """
    everything = Labels.check(len(signals), is_correct, iou, images, weights)
    rows = np.flatnonzero(everything.is_judged)
    table, labels, names = signals.take(rows), everything.of_judged(), [str(images[row]) for row in rows.tolist()]
    raw = raw_features(signals)
    classes, judged = np.unique(np.array(table["category"].to_pylist(), str), return_counts=True)
    fitted = Calibration(
        tuple(classes.tolist()), tuple(judged.tolist()), Scaling.fit(raw), (), (), Distribution.fit(raw), seed=seed
    )
    if len(names) < MIN_BOXES_TO_CALIBRATE or len(set(names)) < MIN_IMAGES:
        return fitted
    design, fold = fitted._design(table), folds_of(names, seed)
    correct_models = _fit_folds(design, labels.is_correct, labels.weights, fold)
    has_iou = np.isfinite(labels.iou).sum() >= MIN_BOXES_TO_CALIBRATE
    iou_models = _fit_folds(design, labels.iou, labels.weights, fold) if has_iou else ()
    fitted = replace(fitted, correct_models=correct_models, iou_models=iou_models)
    return replace(fitted, figures=_compute_figures(table, labels, fitted.predict(table, names), len(set(names))))


def folds_of(images: Sequence[object], seed: int = 0) -> Ints:
    """Return the (n,) fold of each image, 0 to FOLDS - 1, decided by its name alone."""
    of_name = {name: _fold_of(str(name), seed) for name in set(images)}
    return np.array([of_name[name] for name in images], np.int64)


def _fold_of(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "big") % FOLDS


def _fit_folds(design: Floats, target: Floats, weights: Floats, fold: Ints) -> tuple[LogisticModel, ...]:
    known = np.isfinite(target)
    return tuple(
        fit_logistic(design[use], target[use], weights[use]) for use in (known & (fold != one) for one in range(FOLDS))
    )


def _predict(models: Sequence[LogisticModel], design: Floats, fold: Ints | None) -> Floats:
    if not models:
        return np.full(len(design), np.nan)
    if fold is None:
        return np.mean([model.predict(design) for model in models], axis=0)
    predicted = np.empty(len(design))
    for one, model in enumerate(models):
        predicted[fold == one] = model.predict(design[fold == one])
    return predicted


def _compute_figures(table: pa.Table, labels: Labels, predicted: Predictions, images: int) -> CalibrationFigures:
    p, correct = predicted.p_correct, labels.is_correct
    has_iou = np.isfinite(labels.iou) & np.isfinite(predicted.expected_iou)
    expected, iou = predicted.expected_iou[has_iou], labels.iou[has_iou]
    category = np.unique(np.array(table["category"].to_pylist(), str)[has_iou], return_inverse=True)[1]
    return {
        "boxes": len(p),
        "images": images,
        "correct": float(correct.mean()),
        "ece": calibration_error(p, correct),
        "ece_by_chance": error_by_chance(p),
        "laece": localization_error(expected, iou, category) if has_iou.any() else None,
        "auroc": ranking_accuracy(p, correct == 1),
        "auroc_of_score": ranking_accuracy(column_floats(table, "score"), correct == 1),
        "reliability": reliability_bins(p, correct),
        "reliability_iou": reliability_bins(expected, iou),
    }
