"""Cells of images whose true boxes are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mining.ground_truth.check import read_checked_boxes
from mining.training.cells import ImageCells, draw_examples, sample_images
from mining.training.true_cells import TrueCells, TrueObjects, label_true_cells, true_cells, true_objects

BACKGROUND, UNUSED = 3, -1
GRID = (2, 4)  # rows, columns


def objects(*boxes: tuple[float, float, float, float, int], ignored: tuple[int, ...] = ()) -> TrueObjects:
    """Boxes x0, y0, x1, y1 in cells of GRID, and their class."""
    edges = np.array([box[:4] for box in boxes], np.float64).reshape(-1, 4)
    return TrueObjects(
        edges / [GRID[1], GRID[0], GRID[1], GRID[0]],
        np.array([box[4] for box in boxes], np.int64),
        np.array([number in ignored for number in range(len(boxes))], bool),
    )


def labels(cells: TrueCells, values: list[list[float]] | None = None, classes: tuple[int, ...] = ()) -> list[list[int]]:
    given = torch.zeros(8, 0) if values is None else torch.tensor(values)
    return label_true_cells(cells, given, classes, BACKGROUND).view(GRID).tolist()


def test_cells_in_a_box_are_of_its_class_and_cells_outside_all_boxes_are_background() -> None:
    cells = true_cells(objects((0, 0, 2, 1, 1)), GRID)
    assert labels(cells) == [[1, 1, BACKGROUND, BACKGROUND], [BACKGROUND] * 4]


def test_a_cell_that_a_box_covers_in_part_is_no_example() -> None:
    cells = true_cells(objects((0, 0, 1.3, 1, 1)), GRID)
    assert labels(cells)[0] == [1, UNUSED, BACKGROUND, BACKGROUND]
    cells = true_cells(objects((0, 0, 1.7, 1, 1)), GRID)
    assert labels(cells)[0] == [1, 1, BACKGROUND, BACKGROUND]


def test_a_small_object_is_the_cell_that_it_covers_most() -> None:
    cells = true_cells(objects((0.8, 0.1, 1.4, 0.5, 2)), GRID)
    assert labels(cells)[0] == [UNUSED if 0.2 * 0.4 > 0.1 else BACKGROUND, 2, BACKGROUND, BACKGROUND]


def test_inside_an_ignored_box_is_neither_object_nor_background() -> None:
    cells = true_cells(objects((0, 0, 1, 1, 1), (2, 0, 4, 2, 1), ignored=(1,)), GRID)
    assert labels(cells) == [[1, BACKGROUND, UNUSED, UNUSED], [BACKGROUND, BACKGROUND, UNUSED, UNUSED]]


def test_an_image_without_an_object_is_background() -> None:
    assert labels(true_cells(objects(), GRID)) == [[BACKGROUND] * 4] * 2


def test_where_boxes_overlap_the_values_decide_and_the_smaller_box_without_them() -> None:
    both = objects((0, 0, 4, 2, 0), (1, 0, 2, 1, 2))
    cells = true_cells(both, GRID)
    assert labels(cells)[0] == [0, 2, 0, 0]
    assert labels(cells, [[0.9, 0.4]] * 8, (0, 2))[0] == [0, 0, 0, 0]
    assert labels(cells, [[0.4, 0.9]] * 8, (0, 2))[0] == [0, 2, 0, 0]


def test_examples_follow_the_boxes_whatever_the_maps_show() -> None:
    activation = torch.zeros(8, 1)
    activation[7] = 1  # far from the object
    true = true_cells(objects((0, 0, 2, 1, 1)), GRID)
    sample = ImageCells(torch.arange(8.0)[:, None], activation, [1], true)
    features, drawn = draw_examples([sample] * 20, [activation] * 20, (0.6, 0.2), background=BACKGROUND, seed=0)
    assert set(features[drawn == 1].flatten().tolist()) == {0.0, 1.0}
    assert set(features[drawn == BACKGROUND].flatten().tolist()) == {2.0, 3.0, 4.0, 5.0, 6.0, 7.0}


def test_a_sample_of_cells_keeps_what_is_known_of_each() -> None:
    cells = true_cells(objects((0, 0, 2, 1, 1)), GRID)[torch.tensor([1, 7])]
    assert label_true_cells(cells, torch.zeros(2, 0), [], BACKGROUND).tolist() == [1, BACKGROUND]


def test_images_with_true_boxes_are_in_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mining.training.cells.MAX_IMAGES", 30)
    monkeypatch.setattr("mining.training.cells.IMAGES_PER_CLASS", 10)
    targets = np.ones((1000, 2), np.float32)
    always = {5, 500, 995}
    for seed in range(5):
        rows = sample_images(targets, seed, always)
        assert len(rows) == len(set(rows)) == 30
        assert always <= set(rows)


def test_boxes_are_matched_with_files_and_classes_and_scaled_by_the_size_of_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (80, 40)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 9, "bbox": [20, 10, 40, 30]},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [70, 0, 30, 10], "ignore": 1},
        ],
    }
    (tmp_path / "some.json").write_text(json.dumps(content))
    truth = read_checked_boxes(tmp_path / "some.json", tmp_path, ["a.png", "b.png"], ["cat", "cow", "dog"])
    found = true_objects(truth, ["b.png", "a.png"], ["cat", "cow", "dog"])
    assert list(found) == [1]
    assert found[1].xyxy.tolist() == [[0.25, 0.25, 0.75, 1.0], [0.875, 0.0, 1.0, 0.25]]
    assert found[1].classes.tolist() == [2, 0]
    assert found[1].is_ignored.tolist() == [False, True]
    assert true_objects(truth, ["b.png"], ["cat", "cow", "dog"]) == {}
