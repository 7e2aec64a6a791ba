"""An image folder without a label file."""

import pytest

from mining.errors import CorpusError


def names(rows):
    return [row["file_name"] for row in rows]


def test_a_plain_folder_is_listed_recursively_sorted_and_unlabelled(photos, scanned):
    summary, rows = scanned(photos("b.jpg", "a.PNG", "deep/er/c.webp"))
    assert (summary.kind, summary.images, summary.labelled) == ("folder", 3, 0)
    assert names(rows) == ["a.PNG", "b.jpg", "deep/er/c.webp"]
    assert [row["image_id"] for row in rows] == [1, 2, 3]
    assert {row["labels"] for row in rows} == {None}
    assert {row["state"] for row in rows} == {"pending"}
    assert summary.single_label is False


def test_the_table_has_the_size_of_each_file(photos, scanned):
    root = photos("a.jpg")
    _, rows = scanned(root)
    assert rows[0]["bytes"] == (root / "a.jpg").stat().st_size


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "jfif", "png", "WebP", "bmp", "tif", "TIFF"])
def test_letter_case_of_a_suffix_does_not_matter(photos, scanned, suffix):
    assert names(scanned(photos(f"a.{suffix}"))[1]) == [f"a.{suffix}"]


def test_other_and_hidden_files_are_skipped(photos, scanned):
    root = photos("a.jpg", ".hidden.jpg", "._a.jpg", ".cache/b.jpg", "c.mp4", "d.jpg.txt", "jpg")
    (root / "folder.jpg").mkdir()
    assert names(scanned(root)[1]) == ["a.jpg"]


def test_names_are_kept_as_the_disk_spells_them(photos, scanned):
    kept = ["cafe\u0301.jpg", "caf\u00e9.jpg", "my photo (1).jpg", "ねこ/写真.jpg", "a'b\"c.jpg", "back\\slash.jpg"]
    assert names(scanned(photos(*kept))[1]) == sorted(kept)


def test_class_folders_give_the_labels(photos, scanned):
    summary, rows = scanned(photos("cat/1.jpg", "cat/more/2.jpg", "dog/1.jpg"))
    assert summary.kind == "classes"
    assert summary.classes == {"cat": 2, "dog": 1}
    assert summary.category_ids == {"cat": 1, "dog": 2}
    assert summary.single_label is True
    assert [(row["file_name"], row["labels"]) for row in rows] == [
        ("cat/1.jpg", ["cat"]),
        ("cat/more/2.jpg", ["cat"]),
        ("dog/1.jpg", ["dog"]),
    ]


def test_a_single_folder_is_not_a_class(photos, scanned):
    summary, rows = scanned(photos("cat/1.jpg", "cat/2.jpg"))
    assert summary.kind == "folder"
    assert {row["labels"] for row in rows} == {None}


def test_labels_none_ignores_class_folders(photos, scanned):
    summary, rows = scanned(photos("cat/1.jpg", "dog/1.jpg"), "none")
    assert (summary.kind, summary.labelled, summary.classes) == ("folder", 0, {})
    assert {row["labels"] for row in rows} == {None}


def test_split_folders_above_the_classes_give_the_split(photos, scanned):
    summary, rows = scanned(photos("train/cat/1.jpg", "train/dog/1.jpg", "valid/cat/2.jpg", "test/dog/3.jpg"))
    assert summary.kind == "classes"
    assert summary.classes == {"cat": 2, "dog": 2}
    assert [(row["split"], *row["labels"]) for row in rows] == [
        ("test", "dog"),
        ("train", "cat"),
        ("train", "dog"),
        ("valid", "cat"),
    ]


def test_a_class_may_be_called_train_beside_others(photos, scanned):
    summary, rows = scanned(photos("train/1.jpg", "bus/1.jpg"))
    assert summary.classes == {"bus": 1, "train": 1}
    assert {row["split"] for row in rows} == {None}


def test_split_folders_without_classes_are_splits_and_not_classes(photos, scanned):
    summary, rows = scanned(photos("train/1.jpg", "test/1.jpg"), split="test")
    assert (summary.kind, summary.images) == ("folder", 1)
    assert rows[0]["split"] == "test"


def test_an_empty_folder_is_an_error_with_a_remedy(photos, scanned):
    with pytest.raises(CorpusError, match=r"contains no image \(JPEG, PNG, WebP, TIFF, BMP"):
        scanned(photos())


def test_a_missing_folder_is_an_error(tmp_path, scanned):
    with pytest.raises(CorpusError, match=r"nowhere does not exist\. Give --images the folder"):
        scanned(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_an_error(photos, scanned):
    with pytest.raises(CorpusError, match=r"a\.jpg is a file\. Give --images the folder"):
        scanned(photos("a.jpg") / "a.jpg")


def test_class_folders_in_either_unicode_form_are_one_class(photos, scanned):
    summary, rows = scanned(photos("Ko\u0308ter/a.jpg", "K\u00f6ter/b.jpg", "cat/c.jpg"))
    assert summary.classes == {"K\u00f6ter": 2, "cat": 1}
    assert all(row["bytes"] for row in rows)
