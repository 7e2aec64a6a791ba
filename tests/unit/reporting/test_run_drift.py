"""Two runs compared: which differences are larger than chance."""

import numpy as np
import pyarrow as pa
import pytest

from mining.reporting.run_drift import FEWEST_IMAGES, Drift, compare_statistics
from mining.reporting.statistics import RunStatistics

CLASSES = 8


def draw(
    seed: int, images: int = 400, *, score: float = 0.0, unboxed: float = 0.2, more: int = 0, other: float = 0.0
) -> tuple[RunStatistics, dict[str, int]]:
    """Images whose boxes are alike: of one class mostly, and of about the same score."""
    rng = np.random.default_rng(seed)
    boxes = np.where(rng.random(images) < unboxed, 0, rng.choice([1, 1, 2, 6], images) + more)
    image = np.repeat(np.arange(images), boxes)
    count = len(image)
    common = np.where(rng.random(images) < other, 0, rng.integers(0, CLASSES, images))
    values = rng.normal(size=images)[image] + rng.normal(0, 0.4, count) + score
    table = pa.table({
        "image_id": image, "category": [f"class {one}" for one in common[image]], "score": 1 / (1 + np.exp(-values)),
        "area": np.full(count, 50.0), "width": np.full(count, 10), "height": np.full(count, 10), "source": ["label"] * count,
    })  # fmt: skip
    statistics = RunStatistics()
    statistics.add(table)
    unboxed_images = int((boxes == 0).sum())
    return statistics, {"labelled": images - unboxed_images, "no_region": unboxed_images, "quarantined": 7}


def compare(before: tuple[RunStatistics, dict[str, int]], after: tuple[RunStatistics, dict[str, int]]) -> Drift:
    return compare_statistics(before[0], after[0], before[1], after[1])


def clear(drift: Drift) -> list[str]:
    scores = ["scores"] if drift.scores_moved else []
    return [one.name for one in (*drift.figures, *drift.classes) if one.is_clear] + scores


def test_runs_of_images_alike_seldom_differ_more_than_chance() -> None:
    alarms = sum(bool(clear(compare(draw(2 * seed, 200), draw(2 * seed + 1, 200)))) for seed in range(200))
    assert alarms <= 15, "5 % of 200 are 10; a count of boxes that took them for independent would give far more"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"unboxed": 0.4}, "images without a box"),
        ({"more": 2}, "boxes per image"),
        ({"score": 0.8}, "scores"),
        ({"other": 0.4}, "class 0"),
    ],
)
def test_a_change_is_found_and_named(options: dict[str, float], name: str) -> None:
    drift = compare(draw(0, 1500), draw(1, 1500, **options))
    assert name in clear(drift)
    assert name in drift.sentence
    assert drift.sentence.startswith("Larger than chance explains: ")


def test_without_a_change_the_sentence_says_so() -> None:
    same = draw(0)
    drift = compare(same, same)
    assert drift.sentence == "No difference is larger than chance explains."
    assert drift.index == 0
    assert drift.figures[0].before == pytest.approx(same[1]["no_region"] / 400), "quarantined images are not mined"
    assert [name for name, *_ in drift.per_image] == ["0", "1", "2", "3", "4", "5", "6 or more"]
    assert sum(before for _, before, _ in drift.per_image) == pytest.approx(1)


def test_few_images_allow_no_statement() -> None:
    drift = compare(draw(0), draw(1, FEWEST_IMAGES, unboxed=0.5))
    assert "too few to say" in drift.sentence
    assert clear(drift) == []


def test_a_run_without_boxes_is_compared() -> None:
    drift = compare((RunStatistics(), {"no_region": 400}), draw(0))
    assert "too few to say" in drift.sentence
    assert drift.figures[0].before == 1.0


def test_figures_are_written_with_their_unit() -> None:
    drift = compare(draw(0), draw(1))
    share, mean = drift.figures
    assert (share.format(0.123), share.format(0.1, sign=True)) == ("12.3 %", "+10.0")
    assert (mean.format(1.5), mean.format(-0.25, sign=True)) == ("1.50", "\N{MINUS SIGN}0.25")
