"""Reading ground truth: what is left out and counted, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from mining.errors import ScoringError
from mining.evaluation import read_ground_truth
from tests.unit.evaluation.conftest import World


def changed(world: World, **annotation: Any) -> Path:
    """The truth with the first annotation changed; a value of ... takes the key away."""
    coco = world.coco()
    coco["annotations"][0].update(annotation)
    coco["annotations"][0] = {k: v for k, v in coco["annotations"][0].items() if v is not ...}
    return world.write(coco)[1]


def test_images_and_classes_stand_in_the_order_of_their_names(world: World) -> None:
    world.images.reverse()
    world.classes.reverse()
    truth = read_ground_truth(world.write()[1])
    assert truth.file_names == ("a.jpg", "b.jpg", "c.jpg")
    assert truth.classes == ("cat", "dog")
    assert sorted(zip(truth.boxes.image, truth.boxes.category, strict=True)) == [(0, 0), (0, 1), (1, 0), (2, 1)]


def test_a_clean_truth_has_no_notes(world: World) -> None:
    assert read_ground_truth(world.write()[1]).notes == ()


@pytest.mark.parametrize("flag", ["difficult", "ignore", "iscrowd"])
@pytest.mark.parametrize("value", [1, True, "1"])
def test_a_flag_makes_a_box_ignored(world: World, flag: str, value: object) -> None:
    assert read_ground_truth(changed(world, **{flag: value})).boxes.is_ignored.tolist() == [True, False, False, False]


@pytest.mark.parametrize("value", [0, False, "0", None])
def test_a_flag_that_is_off_leaves_a_box_countable(world: World, value: object) -> None:
    assert not read_ground_truth(changed(world, difficult=value, iscrowd=value, ignore=value)).boxes.is_ignored.any()


def test_only_iscrowd_makes_a_crowd(world: World) -> None:
    assert not read_ground_truth(changed(world, difficult=1)).boxes.is_crowd.any()
    assert read_ground_truth(changed(world, difficult=0, iscrowd=1)).boxes.is_crowd.tolist() == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"image_id": 999}, "have an image_id that the file does not list"),
        ({"image_id": [0]}, "have no image_id"),
        ({"image_id": ...}, "have no image_id"),
        ({"category_id": "cat"}, "have a category_id that the file does not list"),
        ({"bbox": ...}, "have no box of four finite numbers"),
        ({"bbox": None}, "have no box of four finite numbers"),
        ({"bbox": [1, 2, 3]}, "have no box of four finite numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "have no box of four finite numbers"),
        ({"bbox": [1, 2, 1e200, 1e200]}, "have no box of four finite numbers"),
        ({"bbox": ["a", 2, 3, 4]}, "have no box of four finite numbers"),
        ({"bbox": [1, 2, 0, 4]}, "have a box without area"),
        ({"bbox": [1, 2, 3, -4]}, "have a box without area"),
        ({"bbox": [100, 2, 3, 4]}, "have a box that lies wholly outside their image"),
        ({"bbox": [-9, 2, 9, 4]}, "have a box that lies wholly outside their image"),
    ],
)
def test_an_annotation_that_cannot_be_used_is_left_out_and_counted(
    world: World, annotation: dict[str, Any], reason: str
) -> None:
    truth = read_ground_truth(changed(world, **annotation))
    (note,) = truth.notes
    assert note.startswith(f"1 of 4 annotations in truth.json {reason} (annotation 0")
    assert note.endswith("; left out.")
    assert len(truth.boxes) == 3


def test_an_annotation_that_is_no_object_is_left_out_and_counted(world: World) -> None:
    coco = world.coco()
    coco["annotations"][2] = "cat"
    assert (
        "1 of 4 annotations in truth.json are not JSON objects ('cat'); left out."
        in read_ground_truth(world.write(coco)[1]).notes[0]
    )


def test_a_box_that_leaves_the_image_partly_is_kept_as_it_is(world: World) -> None:
    truth = read_ground_truth(changed(world, bbox=[90, 90, 20, 20]))
    assert truth.boxes.xywh[0].tolist() == [90, 90, 20, 20]
    assert truth.notes == ()


def test_an_image_without_size_cannot_tell_what_is_outside(world: World) -> None:
    coco = world.coco()
    for image in coco["images"]:
        image["width"], image["height"] = None, 0
    coco["annotations"][0]["bbox"] = [500, 500, 10, 10]
    assert len(read_ground_truth(world.write(coco)[1]).boxes) == 4


@pytest.mark.parametrize(("area", "kept"), [(12.5, 12.5), (0, 0), (-1, 1600), (None, 1600), ("big", 1600)])
def test_the_area_is_the_files_where_it_is_usable(world: World, area: object, kept: float) -> None:
    assert read_ground_truth(changed(world, area=area)).boxes.area[0] == kept


def test_an_image_without_a_file_name_is_left_out_and_counted(world: World) -> None:
    coco = world.coco()
    del coco["images"][2]["file_name"]
    notes = read_ground_truth(world.write(coco)[1]).notes
    assert notes[0].startswith("1 of 3 images in truth.json have no id or no file_name ({'id': 14")
    assert "belong to an image that was skipped" in notes[1]


def test_two_ids_of_one_class_name_are_one_class(world: World) -> None:
    coco = world.coco()
    coco["categories"].append({"id": 500, "name": "cat"})
    coco["annotations"][0]["category_id"] = 500
    truth = read_ground_truth(world.write(coco)[1])
    assert truth.classes == ("cat", "dog")
    assert truth.boxes.category.tolist() == [0, 1, 0, 1]


def test_a_byte_order_mark_is_read_over(world: World) -> None:
    path = world.write()[1]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_ground_truth(path).boxes) == 4


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"There is no ground truth file .*none\.json\. Pass a COCO file"):
        read_ground_truth(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not valid JSON"),
        (b'{"images": [', "is not valid JSON"),
        (b"\xff\xfe\x00\x01", "is not valid JSON"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"[]", "is a list, as COCO detections are"),
        (b"3", "is a list, as COCO detections are, or a single value"),
        (b"{}", "no images and no annotations and no categories"),
        (b'{"images": [], "categories": []}', "it has no annotations"),
        (b'{"images": {}, "annotations": [], "categories": []}', "images in .* is not a list"),
        (b'{"images": [], "annotations": [], "categories": []}', "lists no image"),
        (
            b'{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
            "lists no image: 1 of 1 images have no id or no file_name",
        ),
    ],
)
def test_a_file_that_is_no_truth_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "truth.json"
    path.write_bytes(content)
    with pytest.raises(ScoringError, match=sentence):
        read_ground_truth(path)


@pytest.mark.parametrize(
    ("section", "entry", "sentence"),
    [
        (
            "images",
            {"id": 50, "file_name": "./a.jpg", "width": 7, "height": 7},
            "lists the file name 'a.jpg' more than",
        ),
        ("images", {"id": 0, "file_name": "z.jpg"}, "image id 0 occurs twice, for 'a.jpg' and 'z.jpg'"),
        ("categories", {"id": 90, "name": "cow"}, "category id 90 stands for both 'cat' and 'cow'"),
    ],
)
def test_ids_and_names_that_stand_for_two_things_are_refused(
    world: World, section: str, entry: dict[str, Any], sentence: str
) -> None:
    coco = world.coco()
    coco[section].append(entry)
    with pytest.raises(ScoringError, match=sentence):
        read_ground_truth(world.write(coco)[1])


def test_ids_of_which_none_matches_are_refused(world: World) -> None:
    coco = world.coco()
    for annotation in coco["annotations"]:
        annotation["image_id"] = f"id-{annotation['image_id']}"
    with pytest.raises(ScoringError, match=r"No annotation of .* can be used: 4 of 4 annotations have an image_id"):
        read_ground_truth(world.write(coco)[1])


def test_a_truth_without_annotations_is_read_as_empty(world: World) -> None:
    world.truth = []
    assert len(read_ground_truth(world.write()[1]).boxes) == 0


def test_the_file_is_named_and_fingerprinted(world: World) -> None:
    path = world.write()[1]
    truth = read_ground_truth(path)
    assert (truth.file, len(truth.sha256)) == ("truth.json", 64)
    path.write_text(json.dumps(world.coco(), indent=1))
    assert read_ground_truth(path).sha256 != truth.sha256
