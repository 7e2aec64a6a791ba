"""Boxes of a detector that knows one class get the classes of the boxes that they overlap."""

from dataclasses import replace
from pathlib import Path

from mining.fusion.box_tables import with_columns
from mining.fusion.class_assignment import with_classes
from mining.fusion.detector_fusion import ADDED_SCORE, fuse_with_detector
from mining.runs.run import Run
from mining.storage.files import write_json
from tests.unit.export.conftest import Painted
from tests.unit.fusion.conftest import CAT, DOG, boxes_of, run_of, with_digests

BEFORE = (
    Painted("a.png", ((DOG, 0, 0, 20, 20, 0.8), (CAT, 40, 20, 20, 20, 0.5)), labels=("dog", "cat & <mouse>")),
    Painted("b.png", ((CAT, 0, 0, 20, 20, 0.8),), labels=("cat & <mouse>",)),
    Painted("c.png", ((DOG, 0, 0, 20, 20, 0.8),), labels=None),
    Painted("d.png", labels=()),
)
ANY = DOG  # the number of the only class
DETECTED = (
    replace(BEFORE[0], boxes=((ANY, 2, 0, 20, 20, 0.9), (ANY, 38, 20, 20, 20, 0.8), (ANY, 20, 40, 9, 9, 0.7))),
    replace(BEFORE[1], boxes=((ANY, 40, 20, 20, 20, 0.6),)),
    replace(BEFORE[2], boxes=((ANY, 0, 2, 20, 20, 0.9), (ANY, 40, 20, 20, 20, 0.8))),
    replace(BEFORE[3], boxes=((ANY, 0, 0, 20, 20, 0.9),)),
)


def detected_run(folder: Path) -> Run:
    """A run of a detector with the class `object` alone."""
    run = run_of(folder, DETECTED)
    card = run.card.to_record()
    write_json(
        run.model / "model.json", {**card, "format": "boxmine-model/1", "classes": [{"id": 1, "name": "object"}]}
    )
    return with_digests(run)


def test_a_box_has_the_class_of_the_box_it_overlaps_or_of_the_only_label(tmp_path: Path) -> None:
    before, detected = run_of(tmp_path / "before", BEFORE), run_of(tmp_path / "detected", DETECTED)
    found = detected.read_annotations()
    found = with_columns(found, source=["prediction"] * len(found))  # as of images without labels
    table = with_classes(found, before, 0.4)
    assert boxes_of(table) == [
        ("a.png", "dog", 2, 0, 20, 20, 0.9),
        ("a.png", "cat & <mouse>", 38, 20, 20, 20, 0.8),
        ("b.png", "cat & <mouse>", 40, 20, 20, 20, 0.6),
        ("c.png", "dog", 0, 2, 20, 20, 0.9),
    ], "left out: a third place in an image of two labels, one of an image without label, and one of background"
    assert table["category_id"].to_pylist() == [DOG, CAT, CAT, DOG]
    assert table["source"].to_pylist() == ["label", "label", "label", "prediction"]
    assert table["image_id"].to_pylist() == before.read_corpus(["image_id"])["image_id"].take([0, 0, 1, 2]).to_pylist()


def test_boxes_of_no_known_class_leave_an_empty_table(tmp_path: Path) -> None:
    before = run_of(tmp_path / "before", BEFORE[3:])
    detected = run_of(tmp_path / "detected", DETECTED[3:])
    table = with_classes(detected.read_annotations(), before, 0.4)
    assert len(table) == 0
    assert table.schema.equals(detected.read_annotations().schema)


def test_they_are_combined_with_the_boxes_before(tmp_path: Path) -> None:
    before, detected = run_of(tmp_path / "before", BEFORE), detected_run(tmp_path / "detected")
    run = fuse_with_detector(before, detected, tmp_path / "fused")
    assert boxes_of(run.read_annotations()) == [
        ("a.png", "dog", 1, 0, 20, 20, 0.8),
        ("a.png", "cat & <mouse>", 39, 20, 20, 20, 0.5),
        ("b.png", "cat & <mouse>", 0, 0, 20, 20, 0.8),
        ("b.png", "cat & <mouse>", 40, 20, 20, 20, round(0.6 * ADDED_SCORE, 3)),
        ("c.png", "dog", 0, 1, 20, 20, 0.8),
    ]
    assert run.classes == before.classes
