"""Whether a classifier is better than chance: where it cannot be said, nothing is said."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mining.config import Objective, TrainOptions
from mining.localizers.base import ClassificationLoss
from mining.training.chance import Chance, chance_of, loss_of_guessing, warn_of_chance
from mining.training.labelled_images import class_weights
from mining.training.module import classification_metric


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_class_each(count: int, classes: int, seed: int = 0) -> Tensor:
    return functional.one_hot(torch.randint(classes, (count,), generator=generator(seed)), classes).float()


def several_classes(count: int, classes: int, share: float, seed: int = 0) -> Tensor:
    return (torch.rand(count, classes, generator=generator(seed)) < share).float()


def guesses(targets: Tensor, seed: int) -> Tensor:
    return torch.randn(targets.shape, generator=generator(seed))


def is_explained(logits: Tensor, targets: Tensor, objective: Objective) -> bool:
    every = torch.ones(targets.shape[1], dtype=torch.bool)
    metric = classification_metric(logits, targets, objective, every)
    assert metric is not None
    return chance_of(logits, targets, objective, every).explains(float(metric))


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_guesses_are_explained_by_chance_and_a_fair_classifier_is_not(objective: Objective) -> None:
    targets = one_class_each(40, 7) if objective == "single" else several_classes(40, 7, 0.2)
    guessed = [is_explained(guesses(targets, seed), targets, objective) for seed in range(40)]
    assert sum(guessed) >= 34  # 95 of 100
    for seed in range(40):
        assert not is_explained(1.5 * targets + guesses(targets, seed), targets, objective)


def test_one_answer_for_all_images_is_chance_however_frequent_the_class() -> None:
    targets = torch.zeros(100, 3)
    targets[:80, 0] = targets[80:90, 1] = targets[90:, 2] = 1
    always = torch.tensor([1.0, 0, 0]).repeat(100, 1)
    assert is_explained(always, targets, "single")
    finds_half_of_the_rare = always.clone()
    finds_half_of_the_rare[80:85, 1] = finds_half_of_the_rare[90:95, 2] = 2
    assert not is_explained(finds_half_of_the_rare, targets, "single")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_nothing_is_said_of_a_few_images_whose_classes_were_never_predicted(count: int) -> None:
    targets = functional.one_hot(torch.zeros(count, dtype=torch.long), 3).float()
    assert not is_explained(targets.roll(1, dims=1), targets, "single")


@pytest.mark.parametrize("count", [2, 4])
def test_nothing_is_said_of_a_few_images(count: int) -> None:
    targets = torch.eye(2).repeat(count // 2, 1)
    assert not is_explained(1 - targets, targets, "single")
    assert not is_explained(1 - targets, targets, "multi")


def test_the_chance_of_average_precision_is_that_of_random_orders() -> None:
    targets = several_classes(60, 5, 0.15)
    every = torch.ones(5, dtype=torch.bool)
    seen = [float(classification_metric(guesses(targets, seed), targets, "multi", every)) for seed in range(200)]
    chance = chance_of(targets, targets, "multi", every)
    assert chance.value == pytest.approx(np.mean(seen), abs=0.01)
    assert chance.highest == pytest.approx(np.quantile(seen, 0.95), abs=0.03)


@pytest.mark.parametrize("objective", ["single", "multi"])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_the_loss_of_guessing_is_the_lowest_of_constant_logits(objective: Objective, is_balanced: bool) -> None:
    targets = several_classes(200, 4, 0.3)
    if objective == "single":
        targets = functional.one_hot(targets.argmax(dim=1), 4).float()
    weights = class_weights(targets.numpy(), objective) if is_balanced else None
    loss = ClassificationLoss(objective, weights)
    constant = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([constant], max_iter=100)

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss(constant.expand(200, 4), targets)
        value.backward()
        return value

    optimizer.step(step)
    assert loss_of_guessing(targets.numpy(), objective, weights) == pytest.approx(float(step().detach()), abs=1e-4)


ROW = {"val_metric": "0.16", "val_chance": "0.14", "val_chance_95": "0.25", "train_classification": "1.2"}


def warnings(row: dict[str, str], *later: dict[str, str], one_step: bool = False, **options: object) -> list[str]:
    rows = [{"epoch": number, **one} for number, one in enumerate((row, *later), start=1)]
    settings = TrainOptions.model_validate(options)
    return warn_of_chance(
        rows, 1, metric="accuracy", guessing=math.log(7), images=28, one_step=one_step, settings=settings
    )


def test_the_sentence_has_the_figures_and_the_remedy() -> None:
    (found,) = warnings(ROW)
    assert "accuracy 0.16 on 28 validation images, where guessing has 0.14" in found
    assert "Check the labels" in found
    assert "--localizer cam" in warnings(ROW, localizer="spg")[0]
    assert "without `preset: paper`" in warnings(ROW, localizer="mldfr", options={"preset": "paper"})[0]


@pytest.mark.parametrize("metric", ["0.6", "0.9"])
def test_a_fair_metric_needs_no_sentence_whatever_the_loss(metric: str) -> None:
    assert not warnings({**ROW, "val_metric": metric, "train_classification": "1.9"})


def test_without_enough_validation_images_the_training_loss_decides() -> None:
    few = {**ROW, "val_chance": "0.5", "val_chance_95": "0.9"}
    assert not warnings({**few, "train_classification": "1.5"})
    assert "training loss is 1.94, where guessing has 1.95" in warnings({**few, "train_classification": "1.94"})[0]
    assert warnings({"train_classification": "1.94"})
    assert not warnings({"train_loss": "1.94"})  # a stage of a training without a classification loss
    assert not warnings({})


def test_the_loss_at_the_start_of_the_next_epoch_is_that_of_the_weights_too() -> None:
    first = {"train_classification": "1.95"}
    assert not warnings(first, {"train_classification": "1.5"})
    assert warnings(first, {"train_classification": "1.94"}, {"train_classification": "1.0"})


def test_the_loss_before_an_only_step_says_nothing_about_the_weights_after_it() -> None:
    first = {"train_classification": "1.95"}
    assert not warnings(first, one_step=True)
    assert warnings(first, {"train_classification": "1.94"}, one_step=True)


def test_a_value_far_above_chance_is_not_explained_even_if_chance_varies_much() -> None:
    assert not Chance(0.1, 0.5).explains(0.4)
    assert Chance(0.1, 0.5).explains(0.3)
