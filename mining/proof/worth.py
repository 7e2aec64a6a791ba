"""How many true boxes the mined ones are worth: where the curve of true boxes reaches the detector from mined ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mining.arrays import Floats
from mining.evaluation.bootstrap import percentile_interval
from mining.proof.figures import Estimate, Precision, difference, estimate, over_seeds

BySeed = Mapping[int, Precision]


@dataclass(frozen=True)
class BudgetPoint:
    """A number of true boxes.

    Attributes:
        true_boxes: How many a person draws.
        alone: AP50 of the detector from these boxes.
        with_mined: AP50 of the detector from these, and from mined boxes on all other images.
        gain: The difference between the two.
    """

    true_boxes: int
    alone: Estimate
    with_mined: Estimate
    gain: Estimate


def budget_point(true_boxes: int, alone: BySeed, with_mined: BySeed) -> BudgetPoint:
    """Compare the detectors from a number of true boxes, without and with mined ones."""
    seeds = sorted(alone.keys() & with_mined.keys())
    return BudgetPoint(
        true_boxes,
        estimate([alone[seed] for seed in seeds]),
        estimate([with_mined[seed] for seed in seeds]),
        difference(alone, with_mined),
    )


@dataclass(frozen=True)
class Worth:
    """How many true boxes lead to as good a detector as the mined ones.

    Attributes:
        true_boxes: The number; None where it lies outside of the numbers that were tried.
        ci95: 95 % interval of it, within the numbers that were tried.
        tried: The fewest and the most true boxes that were tried.
        text: The finding as a sentence.
    """

    true_boxes: int | None
    ci95: tuple[int, int]
    tried: tuple[int, int]
    text: str


def worth_of(mined: BySeed, curve: Sequence[tuple[int, BySeed]]) -> Worth:
    """Return how many true boxes lead to the AP50 of the mined ones.

    Between two numbers of true boxes AP50 is interpolated over the number's logarithm; a number that led to less than a
    smaller one counts as that.

    Args:
        mined: Precision of the detectors from mined boxes, by seed.
        curve: Numbers of true boxes, ascending, with the precision of the detectors from these alone, by seed; two or
            more.
    """
    seeds = sorted(set(mined).intersection(*(of for _, of in curve)))
    numbers = np.array([number for number, _ in curve], np.float64)
    heights = np.array([np.mean([of[seed].ap50 for seed in seeds]) for _, of in curve])
    target = float(np.mean([mined[seed].ap50 for seed in seeds]))
    resampled_heights = np.stack([over_seeds([of[seed] for seed in seeds], "ap50") for _, of in curve], axis=1)
    resampled_target = over_seeds([mined[seed] for seed in seeds], "ap50")
    values = [_cross(numbers, *pair) for pair in zip(resampled_heights, resampled_target, strict=True)]
    low, high = (round(value) for value in percentile_interval(np.array(values)))
    tried = int(numbers[0]), int(numbers[-1])
    inside = heights[0] <= target <= heights.max()
    value = round(_cross(numbers, heights, target)) if inside else None
    return Worth(value, (low, high), tried, _sentence(value, (low, high), tried, is_below=target < heights[0]))


def _cross(numbers: Floats, heights: Floats, target: float) -> float:
    """The number at which a curve first reaches a height; its first or last one where it lies outside."""
    rising = np.maximum.accumulate(heights)
    place = int(np.searchsorted(rising, target, "left"))
    if place == 0:
        return float(numbers[0])
    if place == len(numbers):
        return float(numbers[-1])
    step = (target - rising[place - 1]) / (rising[place] - rising[place - 1])
    logs = np.log(numbers[place - 1 : place + 1])
    return float(np.exp(logs[0] + step * (logs[1] - logs[0])))


def _sentence(value: int | None, ci95: tuple[int, int], tried: tuple[int, int], *, is_below: bool) -> str:
    if value is None:
        if is_below:
            return f"The mined boxes are worth fewer than {tried[0]} true boxes, the smallest number that was tried."
        return f"The mined boxes are worth more than {tried[1]} true boxes, the largest number that was tried."
    low = f"{ci95[0]}" if ci95[0] > tried[0] else f"{tried[0]} or fewer"
    high = f"{ci95[1]}" if ci95[1] < tried[1] else f"{tried[1]} or more"
    return f"The mined boxes are worth about {value} true boxes (95 %: {low} to {high})."
