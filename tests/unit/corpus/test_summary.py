"""Category ids of classes."""

import json

import pytest

from mining.corpus.summary import assign_category_ids


def test_classes_without_ids_are_numbered_from_1_in_sorted_order():
    assert assign_category_ids(None, ["dog", "cat"]) == ({"cat": 1, "dog": 2}, [])


def test_ids_of_at_least_1_are_kept():
    assert assign_category_ids({"dog": 18, "cat": 1}, []) == ({"dog": 18, "cat": 1}, [])


@pytest.mark.parametrize(("lowest", "raised"), [(0, 1), (-3, 4)])
def test_lower_ids_are_all_raised_by_the_same_number(lowest, raised):
    ids, (note,) = assign_category_ids({"dog": lowest, "cat": lowest + 5}, [])
    assert ids == {"dog": 1, "cat": 6}
    assert f"start at {lowest}: all are raised by {raised}" in note


def test_ids_that_are_too_high_are_renumbered():
    ids, (note,) = assign_category_ids({"dog": 2**40, "cat": 7}, [])
    assert ids == {"cat": 1, "dog": 2}
    assert "renumbered" in note


def test_a_coco_file_with_ids_from_0_gives_ids_from_1(photos, scanned, tmp_path):
    listing = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [0, 0, 2, 2]}],
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(listing))
    summary, _ = scanned(photos("a.jpg"), tmp_path / "c.json")
    assert summary.category_ids == {"dog": 1, "cat": 2}
    assert any("raised by 1" in note for note in summary.notes)
