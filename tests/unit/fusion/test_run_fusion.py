"""The combined boxes of several runs of the same images."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import boxmine
from mining.errors import InputError, RunError
from mining.evaluation.taught_images import has_seen_coco
from mining.fusion.detector_fusion import fuse_with_detector
from mining.fusion.run_fusion import fuse_runs, fuse_tables
from mining.runs.fused_record import describe_fusion
from mining.runs.run import TAUGHT_IMAGES, Run
from mining.runs.schema import ANNOTATION_SCHEMA
from tests.unit.export.conftest import Painted
from tests.unit.fusion.conftest import CAT, DOG, boxes_of, made_by_people, run_of, with_digests

IMAGES = (
    Painted("a.png", ((DOG, 0, 0, 20, 20, 0.8), (CAT, 40, 20, 20, 20, 0.6)), labels=("dog", "cat & <mouse>")),
    Painted("b.png", labels=("dog",)),
)
OTHER = (
    replace(IMAGES[0], boxes=((DOG, 4, 0, 20, 20, 0.4), (DOG, 36, 0, 20, 20, 0.6))),
    replace(IMAGES[1], boxes=((DOG, 10, 10, 20, 20, 0.7),)),
)
THIRD = (replace(IMAGES[0], boxes=((DOG, 0, 2, 20, 20, 0.6),)), IMAGES[1])


def dogs(*boxes: tuple[float, float, float]) -> tuple[Painted, ...]:
    """One image with dogs of 20 x 20 px: x, y, score."""
    return (Painted("a.png", tuple((DOG, x, y, 20, 20, score) for x, y, score in boxes), labels=("dog",)),)


def fused(tmp_path: Path, *painted: tuple[Painted, ...]) -> tuple[pa.Table, list[int]]:
    runs = [run_of(tmp_path / f"run-{number}", images) for number, images in enumerate(painted)]
    table, found_by = fuse_tables([run.read_annotations() for run in runs], runs[0].read_corpus()["image_id"])
    return table, found_by.tolist()


def test_boxes_that_agree_become_their_weighted_mean_and_the_score_says_how_many_runs_agree(tmp_path: Path) -> None:
    table, found_by = fused(tmp_path, IMAGES, OTHER)
    x = round((0 * 0.8 + 4 * 0.4) / 1.2, 6)
    assert boxes_of(table) == [
        ("a.png", "dog", pytest.approx(x), 0, 20, 20, 0.6),  # (0.8 + 0.4) / 2
        ("a.png", "dog", 36, 0, 20, 20, 0.3),
        ("a.png", "cat & <mouse>", 40, 20, 20, 20, 0.3),
        ("b.png", "dog", 10, 10, 20, 20, 0.35),
    ]
    assert found_by == [2, 1, 1, 1]
    assert table["merged_from"].to_pylist() == [2, 1, 1, 1]
    assert table["area"].to_pylist() == pytest.approx([400] * 4)
    assert table["annotation_id"].to_pylist() == [1, 2, 3, 4]
    assert table.schema.equals(ANNOTATION_SCHEMA)


def test_a_box_of_three_runs_comes_before_a_better_scored_one_of_a_single_run(tmp_path: Path) -> None:
    table, found_by = fused(tmp_path, dogs((0, 0, 0.5), (40, 20, 0.9)), dogs((0, 0, 0.5)), dogs((0, 0, 0.5)))
    assert [row[2:] for row in boxes_of(table)] == [(0, 0, 20, 20, 0.5), (40, 20, 20, 20, 0.3)]
    assert found_by == [3, 1]


def test_a_box_joins_the_one_that_it_overlaps_most_and_boxes_of_one_run_are_never_merged(tmp_path: Path) -> None:
    table, found_by = fused(tmp_path, dogs((0, 0, 0.8), (3, 0, 0.6)), dogs((2, 0, 0.4)))
    assert [(row[2], row[6]) for row in boxes_of(table)] == [(pytest.approx(2.6), 0.5), (0, 0.4)]
    assert found_by == [2, 1]


def test_boxes_without_a_score_and_runs_without_boxes_are_combined(tmp_path: Path) -> None:
    table, found_by = fused(tmp_path, dogs((0, 0, 0.0)), dogs((4, 0, 0.0)), dogs())
    assert boxes_of(table) == [("a.png", "dog", 2, 0, 20, 20, 0)]
    assert found_by == [2]
    assert len(fused(tmp_path / "none", dogs(), dogs())[0]) == 0


def test_a_box_that_a_person_made_stays_with_its_score(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "first", dogs((0, 0, 0.2))), run_of(tmp_path / "second", dogs((4, 0, 0.9)))
    tables = [made_by_people(first.read_annotations()), second.read_annotations()]
    for order in (tables, tables[::-1]):
        table, found_by = fuse_tables(order, first.read_corpus()["image_id"])
        assert boxes_of(table) == [("a.png", "dog", 0, 0, 20, 20, 0.2)]
        assert (table["source"].to_pylist(), found_by.tolist()) == (["human"], [2])


def test_the_order_of_the_runs_changes_no_box(tmp_path: Path) -> None:
    one, _ = fused(tmp_path / "one", IMAGES, OTHER, THIRD)
    other, _ = fused(tmp_path / "other", THIRD, OTHER, IMAGES)
    assert boxes_of(one) == [(*row[:2], *(pytest.approx(value) for value in row[2:])) for row in boxes_of(other)]


def test_the_new_run_is_complete_and_is_made_once(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "first", IMAGES), run_of(tmp_path / "second", OTHER)
    before = first.read_annotations().to_pylist()
    result = fuse_runs([first.path, second.path], tmp_path / "both")
    assert (result.boxes, result.found_by, result.notes) == (4, (3, 1), [])
    new = Run.open(result.run, finished=True)
    assert new.record["counts"] == {"images": 2, "boxes": 4, "classes": 2, "states": {"labelled": 2}}
    assert len(json.loads(new.coco.read_text())["annotations"]) == 4
    assert new.read_corpus()["labels"].to_pylist() == first.read_corpus()["labels"].to_pylist()
    assert first.read_annotations().to_pylist() == before, "the runs are not changed"
    written = new.annotations.stat().st_mtime_ns
    assert fuse_runs([first.path, second.path], tmp_path / "both") == result
    assert new.annotations.stat().st_mtime_ns == written
    with pytest.raises(RunError, match="was made from other boxes"):
        fuse_runs([second.path, first.path], tmp_path / "both")


def test_boxes_that_too_few_runs_found_are_left_out_but_not_those_of_people(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "first", IMAGES), run_of(tmp_path / "second", OTHER)
    result = fuse_runs([first.path, second.path], tmp_path / "agreed", 2)
    assert (result.boxes, result.found_by) == (1, (0, 1))
    assert result.notes == ["3 boxes that fewer than 2 runs found are left out."]
    new = Run.open(result.run, finished=True)
    assert new.record["counts"]["states"] == {"labelled": 1, "no_region": 1}
    with pytest.raises(RunError, match="or another way"):
        fuse_runs([first.path, second.path], tmp_path / "agreed", 1)
    again = fuse_runs([second.path, first.path], tmp_path / "again", 2)
    assert Run.open(again.run).record["counts"]["states"] == {"labelled": 1, "filtered": 1}
    pq.write_table(made_by_people(first.read_annotations(), (1,)), first.annotations)
    kept = fuse_runs([with_digests(first).path, second.path], tmp_path / "kept", 2)
    assert [row[1] for row in boxes_of(Run.open(kept.run).read_annotations())] == ["dog", "cat & <mouse>"]


def test_the_report_and_the_dataset_card_say_which_runs_were_combined(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "first", IMAGES), run_of(tmp_path / "second", OTHER)
    record = Run.open(fuse_runs([first.path, second.path], tmp_path / "both").run).record
    assert describe_fusion(record) == "Boxes of the runs small and small, combined; found 3 by one and 1 by both."
    detected = fuse_with_detector(first, second, tmp_path / "round-1").record
    assert describe_fusion(detected) == (
        "Boxes of the runs small and small, combined: 1 of the first are the mean with one of the second, a "
        "detector's; 2 of the second are further ones."
    )
    assert describe_fusion(first.record) is None


def test_python_combines_runs_as_the_command_does(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "first", IMAGES), run_of(tmp_path / "second", OTHER)
    both = boxmine.fuse([first.path, str(second.path)], tmp_path / "both")
    assert isinstance(both, boxmine.Run)
    assert len(both.boxes) == 4
    assert len(boxmine.fuse([both, second.path], tmp_path / "agreed", min_runs=2).boxes) == 3
    with pytest.raises(InputError, match="min_runs"):
        boxmine.fuse([first.path, second.path], tmp_path / "three", min_runs=3)


def test_images_whose_boxes_were_taught_are_recorded(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "first", IMAGES), run_of(tmp_path / "second", OTHER)
    for run, digest in ((first, "a" * 64), (second, "b" * 64)):
        record = json.loads((run.path / "run.json").read_text())
        (run.path / "run.json").write_text(json.dumps({**record, TAUGHT_IMAGES: [digest]}))
    new = fuse_runs([first.path, second.path], tmp_path / "both").run
    assert Run.open(new).record[TAUGHT_IMAGES] == ["a" * 64, "b" * 64]


def test_a_detector_that_has_learned_from_coco_is_recorded(tmp_path: Path) -> None:
    first, second, third = (run_of(tmp_path / name, IMAGES) for name in ("first", "second", "third"))
    card = second.model / "model.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "training": {"seen_coco": True}}))
    second = with_digests(second)
    for runs, expected in (((first, second), True), ((first, third), False)):
        new = fuse_runs([run.path for run in runs], tmp_path / f"both-{expected}").run
        assert has_seen_coco(Run.open(new)) is expected
    again = fuse_with_detector(first, second, tmp_path / "round-1")
    assert has_seen_coco(again)


def test_runs_of_other_ids_are_matched_by_name(tmp_path: Path) -> None:
    """Image ids count the images of a listing, category ids the classes of a model."""
    first, second = run_of(tmp_path / "first", IMAGES), run_of(tmp_path / "second", OTHER[::-1])
    card = json.loads((second.model / "model.json").read_text())
    card["classes"] = [{"id": 1, "name": "cat & <mouse>"}, {"id": 2, "name": "dog"}]
    (second.model / "model.json").write_text(json.dumps(card))
    table = second.read_annotations()
    twos = pa.array([2] * len(table), table.schema.field("category_id").type)
    pq.write_table(
        table.set_column(table.schema.get_field_index("category_id"), "category_id", twos), second.annotations
    )
    new = fuse_runs([first.path, with_digests(second).path], tmp_path / "both").run
    assert boxes_of(Run.open(new).read_annotations()) == boxes_of(fused(tmp_path / "plain", IMAGES, OTHER)[0])


def test_other_images_classes_and_content_are_refused(tmp_path: Path) -> None:
    first = run_of(tmp_path / "first", IMAGES).path
    fewer = run_of(tmp_path / "fewer", IMAGES[:1]).path
    for runs in ([first, fewer], [fewer, first]):
        with pytest.raises(RunError, match=f"b.png is in {first}, but not in {fewer}"):
            fuse_runs(runs, tmp_path / "out")
    other = run_of(tmp_path / "other", OTHER)
    card = json.loads((other.model / "model.json").read_text())
    card["classes"][0]["name"] = "dogs"
    (other.model / "model.json").write_text(json.dumps(card))
    with_digests(other)
    with pytest.raises(RunError, match=r"has a class 'dogs' that .* does not have; .* did you mean 'dog'"):
        fuse_runs([first, other.path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_that_changed_between_the_runs_is_refused(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, IMAGES) for name in ("first", "second")]
    for run, digest in zip(runs, ("a" * 64, "b" * 64), strict=True):
        rows = [{**row, "content_hash": digest} for row in pq.read_table(run.corpus).to_pylist()]
        schema = pq.read_table(run.corpus).schema
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), run.corpus)
        with_digests(run)
    with pytest.raises(RunError, match=r"a\.png has changed between"):
        fuse_runs([run.path for run in runs], tmp_path / "out")


def test_boxes_of_an_image_that_the_first_run_could_not_use_are_left_out_with_a_note(tmp_path: Path) -> None:
    broken = run_of(tmp_path / "broken", (IMAGES[0], replace(IMAGES[1], is_quarantined=True)))
    whole = run_of(tmp_path / "whole", OTHER)
    result = fuse_runs([broken.path, whole.path], tmp_path / "both")
    assert result.notes == [f"1 boxes of {whole.path} are on images that {broken.path} could not use; left out."]
    assert Run.open(result.run).record["counts"]["states"] == {"labelled": 1, "quarantined": 1}
    assert fuse_runs([broken.path, whole.path], tmp_path / "both").notes == result.notes


def test_another_run_is_never_taken_for_a_combined_one(tmp_path: Path) -> None:
    first, second, third = (run_of(tmp_path / name, IMAGES) for name in ("first", "second", "third"))
    with pytest.raises(RunError, match="whose boxes were not combined by this command; give a new folder"):
        fuse_runs([first.path, second.path], third.path)
    with pytest.raises(InputError, match="one of the runs, which are not changed: give a new folder"):
        boxmine.fuse([first.path, second.path], second.path)


def test_an_occupied_folder_and_the_folder_of_the_images_are_refused(tmp_path: Path) -> None:
    first, second = run_of(tmp_path / "first", IMAGES), run_of(tmp_path / "second", OTHER)
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "notes.txt").write_text("mine")
    for out in (occupied, tmp_path / "first" / "photos" / "both"):
        with pytest.raises(InputError):
            fuse_runs([first.path, second.path], out)
    assert [path.name for path in occupied.iterdir()] == ["notes.txt"]
