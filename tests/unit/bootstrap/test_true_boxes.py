"""True boxes of the images of a run, as a detector learns from them."""

import json
from pathlib import Path

import pytest

from mining.bootstrap.training_boxes import boxes_of_run
from mining.bootstrap.true_boxes import read_true_boxes, replace_boxes
from mining.errors import ScoringError
from mining.runs.run import Run
from tests.unit.export.conftest import Painted, write_run

DOG, CAT = 1, 3


def a_run(folder: Path) -> Run:
    painted = (
        Painted("a.png", ((DOG, 0, 0, 20, 20, 0.8), (CAT, 30, 0, 20, 20, 0.4)), labels=("dog", "cat & <mouse>")),
        Painted("b.png", ((DOG, 5, 5, 20, 20, 0.8),), labels=("dog",)),
        Painted("c.png", labels=("dog",)),
    )
    return Run.open(write_run(folder, painted).folder, finished=True)


def write_truth(path: Path, boxes: list[tuple[str, str, list[float], int]], images: tuple[str, ...]) -> Path:
    names = sorted({category for _, category, _, _ in boxes} | {"dog"})
    document = {
        "images": [{"id": n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate(images)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": images.index(name), "category_id": names.index(category), "bbox": box, "ignore": skip}
            for n, (name, category, box, skip) in enumerate(boxes)
        ],
    }
    path.write_text(json.dumps(document))
    return path


def test_true_boxes_have_weight_1_and_difficult_ones_are_ignored(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    boxes = [("a.png", "dog", [1.0, 2, 10, 20], 0), ("a.png", "dog", [30.0, 2, 10, 20], 1)]
    true = read_true_boxes(run, write_truth(tmp_path / "t.json", boxes, ("a.png", "c.png")))
    assert [(image.path.name, image.boxes.tolist(), image.weights.tolist()) for image in true.images] == [
        ("a.png", [[1, 2, 11, 22]], [1.0]),
        ("c.png", [], []),
    ]
    assert true.images[0].ignored.tolist() == [[30, 2, 40, 22]]
    assert true.boxes == 1
    assert [run.card.classes[one]["id"] for one in true.images[0].classes] == [DOG]


def test_true_boxes_replace_those_of_their_images_and_add_images_without_any(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    boxes = [("a.png", "cat & <mouse>", [1.0, 2, 10, 20], 0), ("c.png", "dog", [3.0, 4, 10, 20], 0)]
    mined = boxes_of_run(run)
    both = replace_boxes(
        mined, read_true_boxes(run, write_truth(tmp_path / "t.json", boxes, ("a.png", "c.png"))).images
    )
    assert [(image.path.name, image.boxes.tolist()) for image in both.images] == [
        ("a.png", [[1, 2, 11, 22]]),
        ("b.png", [[5, 5, 25, 25]]),
        ("c.png", [[3, 4, 13, 24]]),
    ]
    assert (mined.boxes, both.boxes) == (3, 3)


def test_a_class_that_the_run_does_not_have_is_background_and_said(tmp_path: Path) -> None:
    boxes = [("a.png", "dog", [1.0, 2, 10, 20], 0), ("a.png", "zebra", [30.0, 2, 10, 20], 0)]
    true = read_true_boxes(a_run(tmp_path), write_truth(tmp_path / "t.json", boxes, ("a.png",)))
    assert true.images[0].boxes.tolist() == [[1, 2, 11, 22]]
    assert len(true.images[0].ignored) == 0
    assert any("zebra" in note for note in true.notes)


def test_a_truth_of_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="No image of"):
        read_true_boxes(
            a_run(tmp_path), write_truth(tmp_path / "t.json", [("z.png", "dog", [1.0, 2, 3, 4], 0)], ("z.png",))
        )
