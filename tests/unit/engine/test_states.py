"""Which classes are mined, and the state of an image without a box."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.unit.engine.painting import (
    ALL,
    BOX,
    MANY,
    RED,
    ImageResult,
    scene,
)

# --- mined classes -----------------------------------------------------------------------------------------------------


def test_labelled_images_are_mined_for_exactly_their_labels(mine_one: Callable[..., ImageResult]) -> None:
    found = mine_one(MANY, "blue", "green")
    assert sorted(found.classes) == ["blue", "green"]
    assert {row["source"] for row in found.rows} == {"label"}
    assert {row["category"]: row["category_id"] for row in found.rows} == {"blue": 5, "green": 3}


def test_the_boxes_of_all_classes_are_sorted_by_score(mine_one: Callable[..., ImageResult]) -> None:
    found = mine_one(MANY, "blue", "red", "green")
    assert found.classes == ["red", "green", "blue"]
    expected = 1 / (1 + np.exp(-12 * (np.array([1, 0.6, 0.4]) - 0.5)))
    assert [row["score"] for row in found.rows] == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("cut", "most", "classes"),
    [(0.9, 5, ["red"]), (0.5, 5, ["red", "green"]), (0.2, 5, ["red", "green", "blue"]), (0.2, 2, ["red", "green"])],
)
def test_unlabelled_images_are_mined_for_the_classes_above_the_probability_cut(
    mined: Callable[..., dict[str, ImageResult]], cut: float, most: int, classes: list[str]
) -> None:
    """Probabilities are 0.998 for red, 0.769 for green, 0.231 for blue."""
    found = mined({"a.png": MANY}, None, class_cut=cut, max_classes=most)["a.png"]
    assert found.classes == classes
    assert {row["source"] for row in found.rows} == {"prediction"}


def test_a_single_label_model_uses_softmax_probabilities(mined: Callable[..., dict[str, ImageResult]]) -> None:
    """Softmax of the logits 6, 1.2 and -1.2, for a model with one class per image."""
    found = mined({"a.png": MANY}, None, objective="single", class_cut=0.005)["a.png"]
    shares = np.exp([6, 1.2, -1.2]) / np.exp([6, 1.2, -1.2]).sum()
    assert [row["class_score"] for row in found.rows] == pytest.approx(shares[:2].tolist(), rel=1e-3)


def test_a_batch_can_mix_images_with_different_numbers_of_classes(mined: Callable[..., dict[str, ImageResult]]) -> None:
    labels = {"a.png": ("red",), "b.png": (), "c.png": ALL, "d.png": ("green", "blue")}
    found = mined(dict.fromkeys(labels, MANY), labels, batch_size=4)
    assert {name: set(one.classes) for name, one in found.items()} == {n: set(own) for n, own in labels.items()}


# --- images without a box ----------------------------------------------------------------------------------------------


def test_an_image_with_an_empty_label_list_has_no_class(mine_one: Callable[..., ImageResult]) -> None:
    found = mine_one(scene((BOX, RED)))
    assert (found.state, found.rows) == ("no_class", [])


def test_an_image_without_predicted_classes_has_no_class(mined: Callable[..., dict[str, ImageResult]]) -> None:
    found = mined({"a.png": scene((BOX, (100, 100, 100)))}, None, class_cut=0.5)["a.png"]
    assert (found.state, found.rows) == ("no_class", [])
    assert (found.outcome.width, found.outcome.height) == (96, 64)


def test_a_label_whose_map_is_zero_gives_no_region(mine_one: Callable[..., ImageResult]) -> None:
    assert mine_one(scene((BOX, RED)), "blue").state == "no_region"


def test_an_image_whose_boxes_all_score_below_the_minimum_is_low_score(mine_one: Callable[..., ImageResult]) -> None:
    things = scene(((8, 8, 24, 24), (102, 0, 0)), (BOX, (153, 0, 0)))
    assert mine_one(things, "red", min_score=0.7).boxes == [BOX]
    assert mine_one(things, "red", min_score=0.8).state == "low_score"


def test_an_image_whose_boxes_are_all_implausible_is_filtered(mine_one: Callable[..., ImageResult]) -> None:
    assert mine_one(scene((BOX, RED)), "red", min_area=0.26).state == "filtered"
    assert mine_one(scene((BOX, RED)), "red", min_area=0.24).state == "labelled"
    assert mine_one(scene(((0, 10, 96, 14), RED)), "red", max_aspect=20).state == "filtered"


def test_low_score_takes_precedence_over_filtered(mine_one: Callable[..., ImageResult]) -> None:
    things = scene(((2, 2, 6, 6), RED), (BOX, (153, 0, 0)))
    assert mine_one(things, "red", min_area=0.1, min_score=0.9).state == "low_score"
    assert mine_one(things, "red", min_area=0.1).boxes == [BOX]


def test_nested_boxes_are_merged_according_to_the_merge_setting(mine_one: Callable[..., ImageResult]) -> None:
    frame = scene(((8, 8, 88, 56), RED), ((10, 10, 86, 54), (0, 0, 0)), ((12, 12, 84, 52), (204, 0, 0)))
    apart = mine_one(frame, "red", merge="none")
    assert apart.boxes == [(8, 8, 88, 56), (12, 12, 84, 52)]
    together = mine_one(frame, "red")
    assert together.boxes == [(8, 8, 88, 56)]
    assert together.rows[0]["merged_from"] == 2
