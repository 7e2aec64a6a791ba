"""Parts of regions: which regions fall apart into objects of their own."""

import numpy as np
import pytest

from mining.regions.parts import MIN_SHARE, Part, find_parts

SIZE = (40, 80)  # of the map; cells are 10 x 10 px
REGION = (0, 0, 80, 40)
LEFT, RIGHT = (0, 0, 30, 40), (50, 0, 80, 30)
HIGH = 0.8


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def level_of(*high: tuple[int, ...]) -> np.ndarray:
    level = np.full((4, 8), 0.6, np.float32)
    for x0, y0, x1, y1 in high:
        level[y0 // 10 : y1 // 10, x0 // 10 : x1 // 10] = 0.9
    return level


def features_of(**directions: tuple[tuple[int, ...], float]) -> np.ndarray:
    """(2, 4, 8) unit vectors, by box and angle; elsewhere at a right angle to the first axis."""
    features = np.zeros((2, 4, 8), np.float16)
    features[1] = 1
    for (x0, y0, x1, y1), angle in directions.values():
        inside = np.s_[:, y0 // 10 : y1 // 10, x0 // 10 : x1 // 10]
        features[inside] = np.array([np.cos(angle), np.sin(angle)])[:, None, None]
    return features


def parts_of(*found: tuple[float, ...], angle: float = 0.0, regions: np.ndarray | None = None) -> list[Part]:
    features = features_of(left=(LEFT, 0.0), right=(RIGHT, angle))
    return find_parts(
        boxes(REGION) if regions is None else regions, boxes(*found), level=level_of(LEFT, RIGHT), features=features,
        threshold=HIGH, size=SIZE,
    )  # fmt: skip


def test_a_region_falls_apart_into_parts_that_resemble_each_other() -> None:
    assert parts_of(LEFT, RIGHT) == [Part(0, 0), Part(1, 0)]
    assert parts_of(RIGHT, LEFT) == [Part(0, 0), Part(1, 0)]


@pytest.mark.parametrize(("angle", "count"), [(0.78, 2), (0.81, 0), (2.0, 0)])  # cosine 0.71, 0.69, -0.42
def test_parts_that_differ_are_one_object(angle: float, count: int) -> None:
    assert len(parts_of(LEFT, RIGHT, angle=angle)) == count


def test_a_region_that_only_shrinks_has_no_parts() -> None:
    assert parts_of(LEFT) == []
    assert parts_of() == []
    assert parts_of(LEFT, RIGHT, regions=boxes()) == []


def test_a_crumb_is_no_part() -> None:
    side = np.sqrt(MIN_SHARE * 80 * 40)
    larger, smaller = ((50, 0, 50 + factor * side, factor * side) for factor in (1.01, 0.99))
    assert len(parts_of(LEFT, larger)) == 2
    assert parts_of(LEFT, smaller) == []


def test_parts_belong_to_the_region_that_contains_them() -> None:
    two = boxes((0, 0, 40, 40), (40, 0, 80, 40))
    assert parts_of(LEFT, RIGHT, regions=two) == []
    split = boxes((0, 0, 15, 40), (0, 0, 80, 40))
    assert parts_of(LEFT, RIGHT, (0, 0, 15, 30), regions=split) == [Part(0, 1), Part(1, 1)]


def test_features_are_those_of_the_cells_above_the_threshold() -> None:
    """The box of the right part has cells below the threshold, whose features are others."""
    features = features_of(left=(LEFT, 0.0), right=((50, 0, 60, 10), 0.0))
    level = level_of(LEFT, (50, 0, 60, 10))
    arguments = {"features": features, "threshold": HIGH, "size": SIZE}
    assert len(find_parts(boxes(REGION), boxes(LEFT, RIGHT), level=level, **arguments)) == 2
    assert find_parts(boxes(REGION), boxes(LEFT, RIGHT), level=np.zeros((4, 8), np.float32), **arguments) == []


def test_boxes_smaller_than_a_cell_have_the_features_of_their_cell() -> None:
    small = (55, 5, 58, 8)
    features = features_of(left=(LEFT, 0.0), right=(RIGHT, 0.0))
    regions = boxes((48, 0, 62, 12))
    found = find_parts(
        regions, boxes(small, (50, 1, 54, 9)), level=level_of(RIGHT), features=features, threshold=HIGH, size=SIZE
    )
    assert found == [Part(0, 0), Part(1, 0)]
