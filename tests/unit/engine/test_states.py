"""Which classes are mined, and what is said of an image without a box."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.unit.engine.painting import (
    ALL,
    BOX,
    MANY,
    RED,
    Found,
    scene,
)

# --- which classes -----------------------------------------------------------------------------------------------------


def test_where_labels_are_known_exactly_those_classes_are_mined(one: Callable[..., Found]) -> None:
    found = one(MANY, "blue", "green")
    assert sorted(found.classes) == ["blue", "green"]
    assert {row["source"] for row in found.rows} == {"label"}
    assert {row["category"]: row["category_id"] for row in found.rows} == {"blue": 5, "green": 3}


def test_the_boxes_of_all_classes_are_sorted_by_score(one: Callable[..., Found]) -> None:
    found = one(MANY, "blue", "red", "green")
    assert found.classes == ["red", "green", "blue"]
    expected = 1 / (1 + np.exp(-12 * (np.array([1, 0.6, 0.4]) - 0.5)))
    assert [row["score"] for row in found.rows] == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("cut", "most", "classes"),
    [(0.9, 5, ["red"]), (0.5, 5, ["red", "green"]), (0.2, 5, ["red", "green", "blue"]), (0.2, 2, ["red", "green"])],
)
def test_where_labels_are_not_known_classes_above_the_cut_are_mined(
    mined: Callable[..., dict[str, Found]], cut: float, most: int, classes: list[str]
) -> None:
    """Probabilities are 0.998 for red, 0.769 for green, 0.231 for blue."""
    found = mined({"a.png": MANY}, None, class_cut=cut, max_classes=most)["a.png"]
    assert found.classes == classes
    assert {row["source"] for row in found.rows} == {"prediction"}


def test_classes_that_exclude_each_other_share_the_probability(mined: Callable[..., dict[str, Found]]) -> None:
    """Softmax of the logits 6 and 1.2 and -1.2 for a model of one class an image."""
    found = mined({"a.png": MANY}, None, objective="single", class_cut=0.005)["a.png"]
    shares = np.exp([6, 1.2, -1.2]) / np.exp([6, 1.2, -1.2]).sum()
    assert [row["class_score"] for row in found.rows] == pytest.approx(shares[:2].tolist(), rel=1e-3)


def test_images_with_different_numbers_of_classes_share_a_batch(mined: Callable[..., dict[str, Found]]) -> None:
    labels = {"a.png": ("red",), "b.png": (), "c.png": ALL, "d.png": ("green", "blue")}
    found = mined(dict.fromkeys(labels, MANY), labels, batch_size=4)
    assert {name: set(one.classes) for name, one in found.items()} == {n: set(own) for n, own in labels.items()}


# --- no box ------------------------------------------------------------------------------------------------------------


def test_an_image_known_to_hold_nothing_is_not_looked_into(one: Callable[..., Found]) -> None:
    found = one(scene((BOX, RED)))
    assert (found.state, found.rows) == ("no_region", [])


def test_an_image_in_which_no_class_is_predicted_has_no_region(mined: Callable[..., dict[str, Found]]) -> None:
    found = mined({"a.png": scene((BOX, (100, 100, 100)))}, None, class_cut=0.5)["a.png"]
    assert (found.state, found.rows) == ("no_region", [])
    assert (found.outcome.width, found.outcome.height) == (96, 64)


def test_a_class_that_shows_nowhere_has_no_region(one: Callable[..., Found]) -> None:
    assert one(scene((BOX, RED)), "blue").state == "no_region"


def test_an_image_all_of_whose_boxes_score_too_low_says_so(one: Callable[..., Found]) -> None:
    things = scene(((8, 8, 24, 24), (102, 0, 0)), (BOX, (153, 0, 0)))
    assert one(things, "red", min_score=0.7).boxes == [BOX]
    assert one(things, "red", min_score=0.8).state == "low_score"


def test_an_image_all_of_whose_boxes_are_implausible_says_so(one: Callable[..., Found]) -> None:
    assert one(scene((BOX, RED)), "red", min_area=0.26).state == "filtered"
    assert one(scene((BOX, RED)), "red", min_area=0.24).state == "labelled"
    assert one(scene(((0, 10, 96, 14), RED)), "red", max_aspect=20).state == "filtered"


def test_what_is_plausible_and_scores_low_is_low_though_others_were_filtered(one: Callable[..., Found]) -> None:
    things = scene(((2, 2, 6, 6), RED), (BOX, (153, 0, 0)))
    assert one(things, "red", min_area=0.1, min_score=0.9).state == "low_score"
    assert one(things, "red", min_area=0.1).boxes == [BOX]


def test_boxes_around_one_another_are_merged_as_asked(one: Callable[..., Found]) -> None:
    frame = scene(((8, 8, 88, 56), RED), ((10, 10, 86, 54), (0, 0, 0)), ((12, 12, 84, 52), (204, 0, 0)))
    apart = one(frame, "red", merge="none")
    assert apart.boxes == [(8, 8, 88, 56), (12, 12, 84, 52)]
    together = one(frame, "red")
    assert together.boxes == [(8, 8, 88, 56)]
    assert together.rows[0]["merged_from"] == 2
