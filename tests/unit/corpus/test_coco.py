"""A COCO JSON listing."""

import json

import pytest

from mining.errors import CorpusError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "owl"}]


def image(identity, name, **more):
    return {"id": identity, "file_name": name, "width": 8, "height": 6, **more}


def annotation(image_id, category_id, identity=1):
    return {"id": identity, "image_id": image_id, "category_id": category_id, "bbox": [0, 0, 1.5, 2], "iscrowd": 0}


@pytest.fixture
def coco_file(tmp_path):
    def written(value):
        path = tmp_path / "instances.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return written


def test_boxes_become_labels_and_ids_and_sizes_are_kept(photos, scanned, coco_file):
    labels = coco_file(
        {
            "images": [image(40, "b.jpg"), image(12, "x/a.jpg"), image(5, "c.jpg")],
            "annotations": [annotation(40, 7), annotation(40, 3), annotation(40, 7), annotation(12, 3)],
            "categories": CATEGORIES,
        }
    )
    summary, rows = scanned(photos("b.jpg", "x/a.jpg", "c.jpg"), labels)
    assert [(r["image_id"], r["file_name"], r["labels"]) for r in rows] == [
        (40, "b.jpg", ["cat", "dog"]),
        (5, "c.jpg", []),
        (12, "x/a.jpg", ["cat"]),
    ]
    assert {(r["width"], r["height"]) for r in rows} == {(8, 6)}
    assert summary.kind == "coco"
    assert summary.classes == {"cat": 2, "dog": 1}
    assert summary.category_ids == {"cat": 3, "dog": 7, "owl": 90}


def test_the_order_of_the_lists_in_the_file_does_not_matter(photos, scanned, coco_file):
    labels = coco_file(
        {"categories": CATEGORIES, "annotations": [annotation(1, 7)], "licenses": [], "images": [image(1, "a.jpg")]}
    )
    assert scanned(photos("a.jpg"), labels)[1][0]["labels"] == ["dog"]


@pytest.mark.parametrize("more", [{}, {"annotations": []}], ids=["without the list", "with an empty list"])
def test_without_annotations_the_labels_are_not_known(photos, scanned, coco_file, more):
    summary, rows = scanned(photos("a.jpg"), coco_file({"images": [image(1, "a.jpg")], "categories": [], **more}))
    assert rows[0]["labels"] is None
    assert summary.notes == ["instances.json has no annotations, so the labels are not known."]


def test_a_size_that_is_not_stated_stays_unknown(photos, scanned, coco_file):
    labels = coco_file({"images": [{"id": 1, "file_name": "a.jpg", "width": 0, "height": 6}]})
    row = scanned(photos("a.jpg"), labels)[1][0]
    assert (row["width"], row["height"]) == (None, None)


def test_ids_that_are_text_are_renumbered(photos, scanned, coco_file):
    labels = coco_file(
        {
            "images": [image("x9", "a.jpg"), image("x1", "b.jpg")],
            "annotations": [annotation("x9", 3)],
            "categories": CATEGORIES,
        }
    )
    summary, rows = scanned(photos("a.jpg", "b.jpg"), labels)
    assert [(r["image_id"], r["labels"]) for r in rows] == [(1, ["cat"]), (2, [])]
    assert "not all whole numbers" in summary.notes[0]


def test_two_images_with_the_same_file_name_are_merged(photos, scanned, coco_file):
    labels = coco_file(
        {
            "images": [image(8, "a.jpg"), image(2, "a.jpg")],
            "annotations": [annotation(8, 3), annotation(2, 7)],
            "categories": CATEGORIES,
        }
    )
    summary, rows = scanned(photos("a.jpg"), labels)
    assert [(r["image_id"], r["labels"]) for r in rows] == [(8, ["cat", "dog"])]
    assert summary.notes == ["1 image is listed more than once in instances.json; the labels are merged."]


def test_annotations_of_images_that_are_not_listed_are_noted(photos, scanned, coco_file):
    labels = coco_file(
        {
            "images": [image(1, "a.jpg")],
            "annotations": [annotation(1, 3), annotation(99, 7)],
            "categories": CATEGORIES,
        }
    )
    summary, _ = scanned(photos("a.jpg"), labels)
    assert summary.classes == {"cat": 1}
    assert summary.notes == [
        "1 of 2 annotations in instances.json have an image_id that the file does not list (annotation 1 with image_id "
        "99); left out."
    ]


def test_a_byte_order_mark_is_accepted(photos, scanned, coco_file):
    labels = coco_file("\ufeff" + json.dumps({"images": [image(1, "a.jpg")]}))
    assert scanned(photos("a.jpg"), labels)[0].images == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"images": [{"id": 1, "file_name": "a.jpg"}', r"is not valid JSON .* Is the file complete\?"),
        ("", r"is not valid JSON"),
        ("not json", r"is not valid JSON"),
        ([], r"lists no image: it has no keys; expected a COCO object with a list 'images'"),
        ({"imgs": [], "cats": []}, r"lists no image: its keys are 'imgs', 'cats'"),
        ({"images": []}, r"lists no image"),
        ({"images": ["a.jpg"]}, r"lists no image: 1 of 1 images are not JSON objects \('a.jpg'\)"),
        ({"images": [{"id": 1}]}, r"lists no image: 1 of 1 images have no id or no file_name"),
        ({"images": [{"file_name": "a.jpg"}]}, r"lists no image: 1 of 1 images have no id or no file_name"),
        ({"images": [image(1, "a.jpg"), image(1, "b.jpg")]}, r"occurs twice, for 'a.jpg' and 'b.jpg'"),
        ({"images": [image(1, "../a.jpg")]}, r"image id 1: '../a.jpg' leads out of the image folder"),
        (
            {"images": [image(1, "a.jpg")], "annotations": [annotation(1, 4)], "categories": CATEGORIES},
            r"1 of 1 annotations have a category_id that the file does not list \(annotation 1 with category_id 4\).*7 dog, 3 cat, 90 owl",
        ),
        (
            {"images": [image(1, "a.jpg")], "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]},
            r"1 of 1 annotations have a category_id that the file does not list \(annotation 1 with category_id None\).*: none",
        ),
        (
            {"images": [image(1, "a.jpg")], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            r"category id 1 stands for both 'a' and 'b'",
        ),
    ],
)
def test_a_malformed_file_is_an_error_with_one_sentence(photos, scanned, coco_file, value, message):
    with pytest.raises(CorpusError, match=message):
        scanned(photos("a.jpg", "b.jpg"), coco_file(value))
