"""The same file gives the same images, classes and notes whether it is read as labels or as ground truth."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mining.corpus import CorpusSummary, iter_shards, scan
from mining.errors import InputError
from mining.evaluation import GroundTruth, read_ground_truth
from tests.factories import write_photos

NAMES = ("a.jpg", "b.jpg", "c.jpg")
Content = dict[str, Any]


def coco() -> Content:
    """Three photos of 128 x 96: a cat and a dog, a cat, and nothing."""
    boxes = [(1, 1, [10, 10, 40, 40]), (1, 2, [60, 30, 40, 40]), (2, 1, [5, 5, 80, 80])]
    return {
        "images": [{"id": i, "file_name": name, "width": 128, "height": 96} for i, name in enumerate(NAMES, start=1)],
        "annotations": [
            {"id": 10 + place, "image_id": image, "category_id": category, "bbox": box}
            for place, (image, category, box) in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def both(folder: Path, text: str | bytes, *names: str) -> tuple[CorpusSummary, dict[str, Any], GroundTruth]:
    """The file as labels (summary, and the classes known of each image) and as truth."""
    path = folder / "c.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    photos = write_photos(folder / "photos", names or NAMES)
    summary = scan(photos, path, folder / "corpus.parquet")
    rows = pa.concat_tables(iter_shards(folder / "corpus.parquet")).to_pylist()
    return summary, {row["file_name"]: row["labels"] for row in rows}, read_ground_truth(path)


def classes_of(truth: GroundTruth) -> dict[str, Any]:
    """The classes that a truth has boxes of in each image, None where that is not known."""
    found: dict[str, Any] = {}
    for place, name in enumerate(truth.file_names):
        numbers = set(truth.boxes.category[truth.boxes.image == place].tolist())
        found[name] = sorted(truth.classes[number] for number in numbers) if truth.is_known[place] else None
    return found


def rename_ids(content: Content, image: Callable[[int], Any], annotation: Callable[[int], Any]) -> None:
    for one in content["images"]:
        one["id"] = image(one["id"])
    for one in content["annotations"]:
        one["image_id"] = annotation(one["image_id"])


def space_in_category(content: Content) -> None:
    content["categories"][0]["name"] = " cat\u00a0 "


def two_ids_of_a_category(content: Content) -> None:
    content["categories"].append({"id": 3, "name": "cat"})
    content["annotations"][2]["category_id"] = 3


def two_ids_of_a_file(content: Content) -> None:
    content["images"].append({"id": 4, "file_name": "./a.jpg", "width": 128, "height": 96})
    content["annotations"][1]["image_id"] = 4
    content["annotations"].append({**content["annotations"][0], "id": 99, "image_id": 4})


def doubled_entry(content: Content) -> None:
    content["images"].append(content["images"][0])


WHOLE = {"a.jpg": ["cat", "dog"], "b.jpg": ["cat"], "c.jpg": []}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: None,
        space_in_category,
        two_ids_of_a_category,
        two_ids_of_a_file,
        doubled_entry,
        lambda content: rename_ids(content, str, int),
        lambda content: rename_ids(content, int, str),
        lambda content: rename_ids(content, float, int),
        lambda content: rename_ids(content, lambda i: f" {i}", float),
        lambda content: rename_ids(content, lambda i: 10**30 + i, lambda i: 10**30 + i),
        lambda content: rename_ids(content, lambda i: 10**30 + i, lambda i: str(10**30 + i)),
        lambda content: rename_ids(content, lambda i: f"x{i}", lambda i: f"x{i}"),
        lambda content: [one.update(file_name=f"photos\\{one['file_name']}") for one in content["images"]],
        lambda content: content["annotations"].reverse(),
        lambda content: content.update(info={"deep": [[["NaN"]]]}, licenses=None),
    ],
    ids=[
        "as it should be", "space in a category name", "two ids of a category", "two ids of a file", "doubled entry",
        "text ids of images", "text ids in annotations", "float ids", "spaced ids", "ids beyond 64 bits",
        "ids beyond 64 bits as text", "ids that are words", "backslashes and another folder", "another order",
        "other sections",
    ],
)  # fmt: skip
def test_a_file_with_a_known_meaning_is_read_so_by_both(tmp_path: Path, change: Callable[[Content], Any]) -> None:
    content = coco()
    change(content)
    summary, labels, truth = both(tmp_path, json.dumps(content))
    by_last_part = {name.rpartition("/")[2]: found for name, found in classes_of(truth).items()}
    assert labels == by_last_part == WHOLE
    assert summary.classes == {"cat": 2, "dog": 1}
    assert truth.classes == ("cat", "dog")
    assert len(truth.boxes) == 3


def bad_image_id(content: Content) -> None:
    content["annotations"][1]["image_id"] = 77


def no_image_id(content: Content) -> None:
    del content["annotations"][1]["image_id"]


def true_as_image_id(content: Content) -> None:
    content["annotations"][1]["image_id"] = True


def no_object(content: Content) -> None:
    content["annotations"][1] = "dog"


UNATTACHED = {"a.jpg": ["cat"], "b.jpg": ["cat"], "c.jpg": None}


@pytest.mark.parametrize("change", [bad_image_id, no_image_id, true_as_image_id, no_object])
def test_images_without_annotations_are_unknown_where_an_annotation_belongs_to_none(
    tmp_path: Path, change: Callable[[Content], None]
) -> None:
    content = coco()
    change(content)
    summary, labels, truth = both(tmp_path, json.dumps(content))
    assert labels == classes_of(truth) == UNATTACHED
    assert summary.notes == list(truth.notes)
    assert summary.notes[0].startswith("1 of 3 annotations in c.json ")
    assert summary.notes[1].startswith("1 image has no usable annotation in c.json")


def unknown_category(content: Content) -> None:
    content["annotations"][2]["category_id"] = 9


def nameless_category(content: Content) -> None:
    content["categories"][0] = {"id": 1, "name": None}


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (unknown_category, {"a.jpg": ["cat", "dog"], "b.jpg": None, "c.jpg": []}),
        (nameless_category, {"a.jpg": ["dog"], "b.jpg": None, "c.jpg": []}),
    ],
)
def test_an_image_whose_annotation_has_no_class_is_unknown_and_the_others_are_not(
    tmp_path: Path, change: Callable[[Content], None], known: dict[str, Any]
) -> None:
    content = coco()
    change(content)
    summary, labels, truth = both(tmp_path, json.dumps(content))
    assert labels == classes_of(truth) == known
    assert summary.notes == list(truth.notes)
    assert "have a category_id that the file does not list" in " ".join(summary.notes)


@pytest.mark.parametrize(
    "entry",
    [
        {"id": 8, "file_name": ""},
        {"id": 8, "file_name": None},
        {"id": 8},
        {"id": None, "file_name": "d.jpg"},
        {"id": True, "file_name": "d.jpg"},
        "d.jpg",
        {"id": 8, "file_name": "d\u0000.jpg"},
    ],
)
def test_an_image_that_cannot_be_used_is_left_out_and_the_rest_is_read(tmp_path: Path, entry: Any) -> None:
    content = coco()
    content["images"].append(entry)
    summary, labels, truth = both(tmp_path, json.dumps(content))
    assert labels == classes_of(truth) == WHOLE
    assert summary.notes == list(truth.notes)
    assert len(summary.notes) == 1
    assert summary.notes[0].startswith("1 of 4 images in c.json ")


def test_annotations_of_an_image_that_is_left_out_say_nothing_about_the_others(tmp_path: Path) -> None:
    content = coco()
    content["images"].append({"id": 8, "file_name": " "})
    content["annotations"].append({"id": 50, "image_id": 8, "category_id": 1, "bbox": [1, 1, 5, 5]})
    _, labels, truth = both(tmp_path, json.dumps(content))
    assert labels == classes_of(truth) == WHOLE


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "null", "1e999", "123456789012345678901234567890"])
@pytest.mark.parametrize("place", ["area", "width", "segmentation", "extra"])
def test_numbers_that_json_does_not_have_do_not_block_the_rest(tmp_path: Path, word: str, place: str) -> None:
    content = coco()
    target = content["images"][0] if place == "width" else content["annotations"][0]
    target[place] = ["@"] if place == "segmentation" else "@"
    _, labels, truth = both(tmp_path, json.dumps(content).replace('"@"', word))
    assert labels == classes_of(truth) == WHOLE


@pytest.mark.parametrize("word", ["NaN", "Infinity", "null", "1e999", '"wide"'])
def test_a_box_that_is_no_box_counts_as_label_and_is_left_out_of_the_truth(tmp_path: Path, word: str) -> None:
    content = coco()
    content["annotations"][0]["bbox"] = [10, 10, "@", 40]
    _, labels, truth = both(tmp_path, json.dumps(content).replace('"@"', word))
    assert labels == WHOLE
    assert classes_of(truth) == {**WHOLE, "a.jpg": ["dog"]}
    assert truth.notes == (
        "1 of 3 annotations in c.json have no box of four finite numbers (annotation 10); left out.",
    )


def test_words_that_look_like_such_numbers_are_kept_inside_text(tmp_path: Path) -> None:
    content = coco()
    content["categories"][0]["name"] = 'a "NaN, -Infinity\\'
    content["annotations"][0]["area"] = "@"
    summary, _, truth = both(tmp_path, json.dumps(content).replace('"@"', "NaN"))
    assert list(summary.classes) == list(truth.classes) == ['a "NaN, -Infinity\\', "dog"]


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf%b", b" \n%b\n "], ids=["byte order mark", "spaces"])
def test_text_around_the_object_does_not_matter(tmp_path: Path, text: bytes) -> None:
    _, labels, truth = both(tmp_path, text % json.dumps(coco()).encode())
    assert labels == classes_of(truth) == WHOLE


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_classes_and_names_in_either_unicode_form_are_the_same(tmp_path: Path, form: str) -> None:
    content = coco()
    content["categories"][0]["name"] = unicodedata.normalize(form, "Köter")
    content["images"][0]["file_name"] = unicodedata.normalize(form, "größe.jpg")
    on_disk = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "größe.jpg")
    _, labels, truth = both(tmp_path, json.dumps(content), on_disk, "b.jpg", "c.jpg")
    assert labels == {on_disk: ["Köter", "dog"], "b.jpg": ["Köter"], "c.jpg": []}
    assert set(truth.classes) == {"Köter", "dog"}
    assert "größe.jpg" in truth.file_names


def two_names_of_an_id(content: Content) -> None:
    content["images"][1]["id"] = 1


def two_names_of_a_category_id(content: Content) -> None:
    content["categories"][1]["id"] = 1


def two_sizes_of_a_name(content: Content) -> None:
    content["images"][1].update(file_name="a.jpg", width=64)


def name_with_two_dots(content: Content) -> None:
    content["images"][1]["file_name"] = "../b.jpg"


def absolute_name(content: Content) -> None:
    content["images"][1]["file_name"] = "C:\\photos\\b.jpg"


def ids_that_do_not_meet(content: Content) -> None:
    rename_ids(content, int, lambda i: f"image-{i}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (two_names_of_an_id, r"image id 1 occurs twice, for 'a.jpg' and 'b.jpg'. Ids must be unique"),
        (two_names_of_a_category_id, r"category id 1 stands for both 'cat' and 'dog'"),
        (two_sizes_of_a_name, r"c.json lists the file name 'a.jpg' more than once, with different image sizes"),
        (name_with_two_dots, r"image id 2: '../b.jpg' leads out of the image folder"),
        (absolute_name, r"image id 2: .*b.jpg' leads out of the image folder"),
        (ids_that_do_not_meet, r"No annotation of .*c.json can be used: 3 of 3 annotations have an image_id"),
        (lambda content: content.update(images=None), r"lists no image|images in .*c.json is not a list"),
        (lambda content: content.update(images=[]), r"c.json lists no image"),
    ],
)
def test_a_file_that_can_mean_two_things_is_refused_by_both(
    tmp_path: Path, change: Callable[[Content], None], sentence: str
) -> None:
    content = coco()
    change(content)
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    photos = write_photos(tmp_path / "photos", NAMES)
    with pytest.raises(InputError, match=sentence):
        scan(photos, path, tmp_path / "corpus.parquet")
    with pytest.raises(InputError, match=sentence):
        read_ground_truth(path)


def test_a_file_cut_off_is_refused_by_both(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(coco())[:-200])
    with pytest.raises(InputError, match="is not valid JSON"):
        scan(write_photos(tmp_path / "photos", NAMES), path, tmp_path / "corpus.parquet")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_ground_truth(path)
