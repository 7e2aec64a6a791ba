"""What a detector learns from a run: which boxes, with which weight, and which places it ignores."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mining.bootstrap.training_boxes import LEAST_WEIGHT, boxes_of_run
from mining.config.mine import CURVE_THRESHOLDS
from mining.errors import InputError
from mining.regions.threshold_curves import ThresholdCurve, curve_row
from mining.runs.run import Run
from mining.runs.schema import CURVE_SCHEMA
from mining.storage.parquet import parquet_writer
from tests.unit.export.conftest import Painted, write_run

DOG, CAT = 1, 3


def run_of(folder: Path, *painted: Painted) -> Run:
    return Run.open(write_run(folder, painted).folder, finished=True)


def test_the_best_box_of_each_class_and_those_with_half_its_score_are_learned(tmp_path: Path) -> None:
    boxes = (
        (DOG, 0, 0, 20, 20, 0.8), (DOG, 30, 0, 20, 20, 0.4), (DOG, 0, 20, 20, 20, 0.39), (CAT, 40, 20, 20, 20, 0.01),
    )  # fmt: skip
    found = boxes_of_run(run_of(tmp_path, Painted("a.png", boxes, labels=("dog", "cat & <mouse>"))))
    (image,) = found.images
    assert image.boxes.tolist() == [[0, 0, 20, 20], [30, 0, 50, 20], [40, 20, 60, 40]]
    assert [found.classes[one]["id"] for one in image.classes] == [DOG, DOG, CAT]
    assert image.ignored.tolist() == [[0, 20, 20, 40]], "a box that was not chosen may still be an object"
    assert found.boxes == 3
    assert image.path.name == "a.png"


def test_boxes_weigh_by_their_score_among_those_of_their_class(tmp_path: Path) -> None:
    scores = (0.1, 0.4, 0.5, 0.5, 0.9)
    images = [Painted(f"{n}.png", ((DOG, 0, 0, 20, 20, one),), labels=("dog",)) for n, one in enumerate(scores)]
    weights = [float(image.weights[0]) for image in boxes_of_run(run_of(tmp_path, *images)).images]
    assert weights == pytest.approx([max(LEAST_WEIGHT, one / 0.5) if one < 0.5 else 1 for one in scores])
    assert min(weights) == pytest.approx(LEAST_WEIGHT)


def test_images_that_show_nothing_are_background_and_images_without_a_box_are_left_out(tmp_path: Path) -> None:
    found = boxes_of_run(
        run_of(
            tmp_path,
            Painted("boxed.png", ((DOG, 0, 0, 20, 20, 0.8),), labels=("dog",)),
            Painted("missed.png", labels=("dog",)),
            Painted("nothing.png", labels=()),
            Painted("unknown.png"),
        )
    )
    assert [(image.path.name, len(image.boxes)) for image in found.images] == [("boxed.png", 1), ("nothing.png", 0)]
    assert found.skipped == 1


def test_what_the_map_reaches_at_a_low_threshold_is_no_background(tmp_path: Path) -> None:
    run = run_of(tmp_path, Painted("a.png", ((DOG, 0, 0, 20, 20, 0.8),), labels=("dog", "cat & <mouse>")))
    corners = {DOG: (0, 0, 22, 22), CAT: (20, 10, 60, 40)}
    rows = []
    for category, box in corners.items():
        boxes = np.tile(np.array(box), (len(CURVE_THRESHOLDS), 1))
        curve = ThresholdCurve((60, 40), boxes, np.ones(len(boxes), int), 0.5, 0.5)
        rows.append(curve_row(curve, image_id=101, category_id=category, width=60, height=40))
    with parquet_writer(run.curves, CURVE_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=CURVE_SCHEMA))
    (image,) = boxes_of_run(run).images
    assert image.ignored.tolist() == [[20, 10, 60, 40]], "around the box that was chosen is background"


def test_a_run_without_boxes_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no box to train a detector on"):
        boxes_of_run(run_of(tmp_path, Painted("a.png", labels=("dog",))))
