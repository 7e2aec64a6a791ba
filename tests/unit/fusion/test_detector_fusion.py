"""The boxes of a run combined with those of a detector that learned from them."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from mining.errors import RunError
from mining.fusion.detector_fusion import ADDED_SCORE, fuse_with_detected, fuse_with_detector
from mining.runs.run import Run
from mining.runs.schema import ANNOTATION_SCHEMA
from tests.unit.export.conftest import Painted
from tests.unit.fusion.conftest import CAT, DOG, boxes_of, made_by_people, run_of, with_digests

MINED = (
    Painted("a.png", ((DOG, 0, 0, 20, 20, 0.8), (CAT, 40, 20, 20, 20, 0.5)), labels=("dog", "cat & <mouse>")),
    Painted("b.png", labels=("dog",)),
)
DETECTED = (
    replace(MINED[0], boxes=((DOG, 4, 0, 20, 20, 0.9), (DOG, 36, 0, 20, 20, 0.6), (DOG, 0, 18, 20, 20, 0.3))),
    replace(MINED[1], boxes=((DOG, 10, 10, 20, 20, 0.7),)),
)


def fused(before: tuple[Painted, ...], detected: tuple[Painted, ...], tmp_path: Path) -> pa.Table:
    first, second = run_of(tmp_path / "before", before), run_of(tmp_path / "detected", detected)
    found = fuse_with_detected(first.read_annotations(), second.read_annotations(), first.read_corpus()["image_id"])
    return found.annotations


def test_boxes_that_agree_become_their_mean_and_confident_new_ones_are_added_behind(tmp_path: Path) -> None:
    table = fused(MINED, DETECTED, tmp_path)
    assert boxes_of(table) == [
        ("a.png", "dog", 2, 0, 20, 20, 0.8),
        ("a.png", "cat & <mouse>", 40, 20, 20, 20, 0.5),
        ("a.png", "dog", 36, 0, 20, 20, pytest.approx(0.6 * ADDED_SCORE)),
        ("b.png", "dog", 10, 10, 20, 20, pytest.approx(0.7 * ADDED_SCORE)),
    ]
    assert table["merged_from"].to_pylist() == [2, 1, 1, 1]
    assert table["area"].to_pylist() == [400] * 4
    ids = table["annotation_id"].to_pylist()
    assert len(set(ids)) == 4
    assert ids[:2] == [1, 2], "a box that was there keeps its id"
    assert table.schema.equals(ANNOTATION_SCHEMA)


def test_what_is_confident_depends_on_the_kind_of_the_detector(tmp_path: Path) -> None:
    detected = (DETECTED[0], replace(DETECTED[1], boxes=((DOG, 10, 10, 20, 20, 0.75),)))
    first, second = run_of(tmp_path / "before", MINED), run_of(tmp_path / "detected", detected)
    boxes = second.read_annotations()
    place = boxes.schema.get_field_index("localizer")
    kinds = pa.array(["faster-rcnn"] * len(boxes), boxes.schema.field(place).type)
    boxes = boxes.set_column(place, boxes.schema.field(place), kinds)
    found = fuse_with_detected(first.read_annotations(), boxes, first.read_corpus()["image_id"])
    assert found.added == 1, "a score of 0.6 is not confident for Faster R-CNN, and one of 0.75 is"
    assert found.moved == 1


def test_of_several_boxes_that_agree_the_one_with_score_and_overlap_counts(tmp_path: Path) -> None:
    before = (replace(MINED[0], boxes=((DOG, 0, 0, 20, 20, 0.8),)),)
    detected = (replace(MINED[0], boxes=((DOG, 8, 0, 20, 20, 0.9), (DOG, 0, 2, 20, 20, 0.6))),)
    assert boxes_of(fused(before, detected, tmp_path)) == [("a.png", "dog", 0, 1, 20, 20, 0.8)]


def test_a_detected_box_is_new_only_once_and_not_on_a_box_that_moved(tmp_path: Path) -> None:
    before = (replace(MINED[0], boxes=((DOG, 0, 0, 20, 20, 0.8),)),)
    detected = (
        replace(
            MINED[0],
            boxes=(
                (DOG, 6, 0, 20, 20, 0.9),
                (DOG, 8, 0, 20, 20, 0.5),
                (DOG, 38, 0, 20, 20, 0.5),
                (DOG, 40, 0, 20, 20, 0.6),
            ),
        ),
    )
    assert [row[2:4] for row in boxes_of(fused(before, detected, tmp_path))] == [(3, 0), (40, 0)]


def test_a_box_that_a_person_made_stays(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "before", MINED), run_of(tmp_path / "detected", DETECTED)
    table = made_by_people(first.read_annotations())
    found = fuse_with_detected(table, second.read_annotations(), first.read_corpus()["image_id"])
    assert (found.moved, found.added) == (0, 2)
    assert boxes_of(found.annotations)[0] == ("a.png", "dog", 0, 0, 20, 20, 0.8)


@pytest.mark.parametrize("nobody", ["before", "detected", "both"])
def test_runs_without_boxes_can_be_combined(tmp_path: Path, nobody: str) -> None:
    empty = tuple(replace(one, boxes=()) for one in MINED)
    before, detected = (
        empty if nobody in (name, "both") else full for name, full in (("before", MINED), ("detected", DETECTED))
    )
    assert len(fused(before, detected, tmp_path)) == {"before": 3, "detected": 2, "both": 0}[nobody]


def test_the_new_run_is_complete_and_is_made_once(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "before", MINED), run_of(tmp_path / "detected", DETECTED)
    before = first.read_annotations().to_pylist()
    new = fuse_with_detector(first, second, tmp_path / "round-1")
    assert new.record["counts"] == {"images": 2, "boxes": 4, "classes": 2, "states": {"labelled": 2}}
    assert {name: new.record["fused"][name] for name in ("moved", "added")} == {"moved": 1, "added": 2}
    assert len(json.loads(new.coco.read_text())["annotations"]) == 4
    assert new.read_corpus()["labels"].to_pylist() == first.read_corpus()["labels"].to_pylist()
    assert first.read_annotations().to_pylist() == before, "the run itself is not changed"
    written = new.annotations.stat().st_mtime_ns
    assert fuse_with_detector(first, second, tmp_path / "round-1").annotations.stat().st_mtime_ns == written
    other = run_of(tmp_path / "other", MINED)
    with pytest.raises(RunError, match="was made from other boxes"):
        fuse_with_detector(first, other, tmp_path / "round-1")


def test_warnings_of_both_models_are_those_of_the_combined_run_each_once(tmp_path: Path) -> None:
    runs = []
    for name, boxes, warnings in (
        ("before", MINED, ["Few images.", "Chance."]),
        ("detected", DETECTED, ["Of the localizer: Few images."]),
    ):
        folder = run_of(tmp_path / name, boxes).path
        card = folder / "model" / "model.json"
        card.write_text(json.dumps({**json.loads(card.read_text()), "training": {"warnings": warnings}}))
        runs.append(with_digests(Run(folder)))
    combined = fuse_with_detector(*runs, tmp_path / "out")
    assert combined.record["warnings"] == ["Chance.", "Of the localizer: Few images."]
