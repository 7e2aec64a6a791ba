"""Whether a trained classifier is better than chance: its metric, or its training loss, against that of guessing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mining.config import Objective, TrainOptions

# A classifier has learned next to nothing where this share of the way from chance to perfect is not reached ...
SMALL_SHARE = 0.25
# ... or where its loss stays above this share of the loss of always giving the frequencies of the classes.
NO_LOSS_REDUCTION = 0.95
_ONE_SIDED_95 = 1.645  # standard deviations
_FEW_IMAGES = 2000
_DRAWS, _DRAWS_OF_MANY = 200, 20  # random orders of the images; of many images they hardly differ


@dataclass(frozen=True)
class Chance:
    """The chance level of a metric: that of a classifier that ignores the image.

    Attributes:
        value: Expected value, in 0-1.
        highest: 95 % of such classifiers have at most this value on so many images.
    """

    value: float
    highest: float

    def explains(self, metric: float) -> bool:
        """Return whether a value of the metric is no better than chance.

        It is not where there are too few images to notice a classifier that is halfway between chance and perfect.
        """
        is_decidable = self.highest < (1 + self.value) / 2
        return is_decidable and metric <= min(self.highest, self.value + SMALL_SHARE * (1 - self.value))


def chance_of(logits: Tensor, targets: Tensor, objective: Objective, classes: Tensor) -> Chance:
    """Return the chance level of `classification_metric` on these images.

    For 'single', the accuracy with the same predictions on images in random order: sum of the share of images predicted
    as a class times that of images of the class, as in Cohen's kappa. For 'multi', the mean average precision of random
    orders.

    Args:
        logits: (B, C).
        targets: (B, C) of 0 and 1.
        objective: Which of the two.
        classes: (C,) bool, the classes that the metric is over.
    """
    if objective == "multi":
        positives = (targets[:, classes] > 0).sum(dim=0)
        return _chance_of_average_precision(len(targets), tuple(positives.tolist()))
    has_class = targets[:, classes].any(dim=1)
    count, width = int(has_class.sum()), targets.shape[1]
    predicted, true = (values[has_class].argmax(dim=1).cpu() for values in (logits, targets))
    shares = [torch.bincount(values, minlength=width).double() / max(1, count) for values in (predicted, true)]
    value = float((shares[0] * shares[1]).sum())
    highest = value + _ONE_SIDED_95 * math.sqrt(value * (1 - value) / max(1, count))
    # of few images the predictions and the labels may have no class in common, which says nothing about the classifier
    return Chance(value, max(highest, 1 - 0.05 ** (1 / max(1, count))))


@cache  # every epoch has the same images
def _chance_of_average_precision(count: int, positives_of_classes: tuple[int, ...]) -> Chance:
    """Draw the mean average precision of random orders of `count` images, given the number that shows each class."""
    generator = np.random.default_rng(0)
    in_order = np.tile(np.arange(1, count + 1), (_DRAWS if count <= _FEW_IMAGES else _DRAWS_OF_MANY, 1))
    precisions = []
    for positives in positives_of_classes:
        if 0 < positives < count:
            # an order of its own for each class: with one for all, classes that exclude each other would always add up
            ranks = np.sort(generator.permuted(in_order, axis=1)[:, :positives], axis=1)
            precisions.append((np.arange(1, positives + 1) / ranks).mean(axis=1))
    if not precisions:
        return Chance(1.0, 1.0)
    means = np.mean(precisions, axis=0)
    return Chance(float(means.mean()), float(np.quantile(means, 0.95)))


def loss_of_guessing(targets: npt.NDArray[np.float32], objective: Objective, weights: Tensor | None) -> float:
    """Return the lowest classification loss that the frequencies of the classes alone allow.

    Args:
        targets: (n, C) of 0 and 1, of the training images.
        objective: One class per image, or several.
        weights: Those of the classification loss.
    """
    positives = targets.sum(axis=0, dtype=np.float64)
    weight = np.ones_like(positives) if weights is None else weights.double().cpu().numpy()
    if objective == "single":
        shares = weight * positives / (weight * positives).sum()
        return float(-(shares * np.log(np.maximum(shares, 1e-12))).sum())
    present, absent = weight * positives / len(targets), 1 - positives / len(targets)
    best = (present / (present + absent)).clip(1e-12, 1 - 1e-12)
    return float(-(present * np.log(best) + absent * np.log(1 - best)).mean())


def warn_of_chance(
    rows: Sequence[Mapping[str, Any]],
    epoch: int,
    *,
    metric: str,
    guessing: float,
    images: int,
    one_step: bool,
    settings: TrainOptions,
) -> list[str]:
    """Return a sentence if the classifier of an epoch is near chance.

    Args:
        rows: The rows of history.csv.
        epoch: The epoch, from 1.
        metric: Name of the validation metric.
        guessing: See `loss_of_guessing`.
        images: Number of validation images.
        one_step: Whether an epoch has one step only.
        settings: How it was trained.
    """
    by_epoch = {int(row["epoch"]): _figures(row) for row in rows}
    figures = by_epoch.get(epoch, {})
    # an epoch's loss is that before its steps; where an epoch has one step only, the next one's is that of the weights
    known_by = (epoch + 1,) if one_step else (epoch, epoch + 1)
    losses = [by_epoch.get(number, {}).get("train_classification") for number in known_by]
    value, loss = figures.get("val_metric"), min((one for one in losses if one is not None), default=None)
    chance = Chance(figures["val_chance"], figures["val_chance_95"]) if "val_chance" in figures else None
    is_decided = value is not None and chance is not None and chance.highest < (1 + chance.value) / 2
    if value is not None and chance is not None and is_decided:
        if not chance.explains(value):
            return []
        found = f"{metric} {value:.2f} on {images} validation images, where guessing has {chance.value:.2f}"
    elif loss is not None and guessing > 0 and loss > NO_LOSS_REDUCTION * guessing:
        found = f"its training loss is {loss:.2f}, where guessing has {guessing:.2f}"
    else:
        return []
    return [
        f"The classifier is hardly better than chance ({found}), so that its maps mean nothing. {_remedy(settings)}"
    ]


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value not in (None, "")}


def _remedy(settings: TrainOptions) -> str:
    if settings.options.get("preset") == "paper":
        return (
            "Train without `preset: paper`, whose settings need long trainings of the whole network in large batches "
            "(see deployments/recipes/papers)."
        )
    if settings.localizer == "cam":
        return "Check the labels, and train with more --epochs, more images per class or another --learning-rate."
    return (
        "Train with more --epochs, another --learning-rate or --localizer cam; if that does no better, check the "
        "labels."
    )
