"""Maps of a run scored against ground truth."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mining.corpus.schema import CORPUS_SCHEMA
from mining.errors import ScoringError
from mining.evaluation import read_ground_truth
from mining.evaluation.map_scores import MapCollector, map_scores
from mining.evaluation.protocols.explanation import ExplanationAccuracy
from mining.evaluation.protocols.region_accuracy import RegionAccuracy
from mining.evaluation.protocols.wsoleval import BoxAccuracy
from tests.unit.evaluation.conftest import SIZE, World


@pytest.fixture
def maps(world: World) -> MapCollector:
    """Of the known world, whose four pairs are wanted."""
    run, truth = world.write()
    rows = [
        {"image_id": i, "file_name": name, "width": SIZE, "height": SIZE, "state": "pending"}
        for i, name in enumerate(world.images)
    ]
    pq.write_table(CORPUS_SCHEMA.empty_table().from_pylist(rows, schema=CORPUS_SCHEMA), run / "corpus.parquet")
    counters = BoxAccuracy(), RegionAccuracy(), ExplanationAccuracy()
    return MapCollector(read_ground_truth(truth), run / "corpus.parquet", *counters)


def hill(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A map of half the image's size that is high on a box, in pixels of the image."""
    activation = np.zeros((SIZE // 2, SIZE // 2), np.float32)
    activation[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = 1
    return activation


def shown(maps: MapCollector, name: str, category: str, activation: np.ndarray) -> None:
    maps.collect({"file_name": name, "width": SIZE, "height": SIZE}, category, activation)


def figures(maps: MapCollector) -> dict:
    maps.count_collected()
    return map_scores(maps, *maps.counters)


def test_maps_of_the_true_boxes_and_of_others_are_counted(maps: MapCollector) -> None:
    shown(maps, "a.jpg", "cat", hill(10, 10, 50, 50))
    shown(maps, "a.jpg", "dog", hill(0, 0, 20, 20))
    shown(maps, "c.jpg", "dog", hill(10, 10, 90, 90))
    found = figures(maps)
    assert (found["pairs"], found["pairs_without_map"]) == (3, 1)
    assert found["MaxBoxAcc"] == found["own"]["MaxBoxAcc"] == found["own"]["MaxBoxAcc_peak"] == pytest.approx(2 / 3)
    assert found["MaxBoxAccV2"] == pytest.approx(2 / 3)
    assert found["loc"]["delta"] == 0.25
    assert 0 < found["loc"]["value"] < 1
    assert found["loc"]["curve"]["value"][5] == found["loc"]["value"]


def test_maps_of_what_the_truth_lacks_are_left_out(maps: MapCollector) -> None:
    shown(maps, "a.jpg", "cat", hill(10, 10, 50, 50))
    shown(maps, "a.jpg", "horse", hill(10, 10, 50, 50))
    shown(maps, "z.jpg", "cat", hill(10, 10, 50, 50))
    assert figures(maps)["pairs"] == 1


def test_a_map_is_counted_once(maps: MapCollector) -> None:
    shown(maps, "a.jpg", "cat", hill(10, 10, 50, 50))
    maps.count_collected()
    assert figures(maps)["pairs"] == 1


def test_a_run_that_draws_no_map_is_refused(maps: MapCollector) -> None:
    with pytest.raises(ScoringError, match="drew no map of an image and class"):
        figures(maps)
