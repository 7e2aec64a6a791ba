"""Where a box may be instead: at other thresholds, and on other regions of its class."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mining.config.mine import CURVE_THRESHOLDS
from mining.regions.threshold_curves import ThresholdCurve, curve_row
from mining.review.run_index import MAX_CANDIDATES, RunIndex
from mining.runs.run import Run
from mining.runs.schema import CURVE_SCHEMA
from mining.storage.parquet import parquet_writer
from tests.unit.export.conftest import Painted, write_run

OWN, OTHER, SECOND, THIRD = (10, 10, 20, 20), (40, 10, 12, 12), (2, 30, 8, 8), (44, 30, 12, 8)


def edges(box: tuple[int, int, int, int]) -> list[int]:
    x, y, w, h = box
    return [x, y, x + w, y + h]


def index_of(folder: Path, boxes: list[tuple[int, int, int, int]], further: tuple[int, ...] = ()) -> RunIndex:
    """The index of a run with one image, whose curve has these boxes from the lowest threshold on."""
    small = write_run(folder, [Painted("a.png", ((1, *OWN, 0.9), *((1, *further, 0.5) for _ in further[:1])))])
    corners = np.array([edges(box) for box in boxes] + [[0] * 4] * (len(CURVE_THRESHOLDS) - len(boxes)))
    curve = ThresholdCurve((60, 40), corners, (corners.max(axis=1) > 0).astype(int), 0.5, 0.5)
    row = curve_row(curve, image_id=101, category_id=1, width=60, height=40)
    with parquet_writer(small.folder / "curves.parquet", CURVE_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema=CURVE_SCHEMA))
    return RunIndex(Run.open(small.folder, finished=True))


def test_other_regions_are_offered_the_most_stable_first(tmp_path: Path) -> None:
    index = index_of(tmp_path, [OWN] * 5 + [SECOND] * 2 + [OTHER] * 4 + [THIRD])
    assert index.places_by_threshold(0).candidates == [OTHER, SECOND]
    assert MAX_CANDIDATES == 2


def test_a_region_that_is_a_box_of_the_class_already_is_not_offered(tmp_path: Path) -> None:
    index = index_of(tmp_path, [OWN] * 5 + [OTHER] * 4 + [THIRD], further=OTHER)
    assert index.places_by_threshold(index.place_of(1)).candidates == [THIRD]


def test_regions_that_are_nearly_the_same_are_offered_once(tmp_path: Path) -> None:
    index = index_of(tmp_path, [OWN, OTHER, (40, 10, 12, 13), (41, 10, 12, 12)])
    assert len(index.places_by_threshold(0).candidates) == 1


def test_without_curves_a_box_is_only_where_it_is(tmp_path: Path) -> None:
    small = write_run(tmp_path, [Painted("a.png", ((1, *OWN, 0.9),))])
    index = RunIndex(Run.open(small.folder, finished=True))
    assert index.places_by_threshold(0) == ([OWN], [])


def test_an_empty_curve_offers_nothing(tmp_path: Path) -> None:
    assert index_of(tmp_path, []).places_by_threshold(0) == ([OWN], [])


@pytest.mark.parametrize("thresholds", [1, 20])
def test_the_walk_is_along_overlapping_boxes_alone(tmp_path: Path, thresholds: int) -> None:
    wider = (8, 8, 24, 24)
    index = index_of(tmp_path, [wider] * thresholds + [OWN] + [OTHER])
    assert index.places_by_threshold(0).walk == [wider, OWN]
