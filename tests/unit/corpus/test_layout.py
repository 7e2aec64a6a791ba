"""Inferred meaning of folders: classes, splits, wrappers, annotations beside the images."""

import pytest

from mining.errors import CorpusError


def labels(rows):
    """Map file names to class and split, '' for none."""
    return {row["file_name"]: (*(row["labels"] or [""]), row["split"] or "") for row in rows}


def has_note(summary, words):
    return any(words in note for note in summary.notes)


def tree(*folders, count=2):
    """Write some images into each of the folders."""
    return [f"{folder}/{number}.jpg" for folder in folders for number in range(count)]


def test_the_classes_are_printed_with_their_counts(photos, scanned):
    summary, _ = scanned(photos(*tree("cat", count=3), *tree("dog")))
    assert has_note(summary, "2 classes from folder names: cat 3, dog 2. Give --labels none to ignore them.")


@pytest.mark.parametrize(
    "splits",
    [("train", "validation"), ("Training", "TESTING"), ("train", "dev", "eval"), ("train2017", "val2017"), ("train",)],
    ids=" ".join,
)
def test_folders_with_names_of_splits_are_splits(photos, scanned, splits):
    summary, rows = scanned(photos(*tree(*(f"{split}/{name}" for split in splits for name in ("cat", "dog")))))
    assert set(summary.classes) == {"cat", "dog"}
    assert {row["split"] for row in rows} == set(splits)


@pytest.mark.parametrize("splits", [("train", "validation"), ("train", "val", "unlabelled"), ("Test", "Train")])
def test_splits_without_class_folders_are_not_classes(photos, scanned, splits):
    summary, rows = scanned(photos(*tree(*splits)))
    assert summary.kind == "folder"
    assert {row["split"] for row in rows} == set(splits)


@pytest.mark.parametrize("tops", [("fold1", "fold2"), ("seg_train", "seg_test", "seg_pred"), ("2023", "2024")])
def test_folders_with_the_same_sub_folders_are_splits_whatever_their_names(photos, scanned, tops):
    summary, rows = scanned(photos(*tree(*(f"{top}/{name}" for top in tops for name in ("cat", "dog")))))
    assert set(summary.classes) == {"cat", "dog"}
    assert {row["split"] for row in rows} == set(tops)
    assert has_note(summary, "because each has the same sub-folders")


def test_class_folders_with_other_sub_folders_stay_classes(photos, scanned):
    summary, _ = scanned(photos(*tree("cat/indoor", "cat/outdoor", "dog/beach", "dog/indoor")))
    assert summary.classes == {"cat": 4, "dog": 4}


def test_splits_may_lie_within_the_class_folders(photos, scanned):
    _, rows = scanned(photos(*tree("cat/train", "cat/test", "dog/train", "dog/test", count=1)))
    assert labels(rows) == {
        "cat/test/0.jpg": ("cat", "test"),
        "cat/train/0.jpg": ("cat", "train"),
        "dog/test/0.jpg": ("dog", "test"),
        "dog/train/0.jpg": ("dog", "train"),
    }


def test_an_image_above_the_class_folders_is_unlabelled_and_the_others_keep_their_labels(photos, scanned):
    summary, rows = scanned(photos("cover.jpg", *tree("cat", "dog")))
    assert labels(rows)["cover.jpg"] == ("", "")
    assert summary.classes == {"cat": 2, "dog": 2}
    assert has_note(summary, "1 image is without labels, because no class folder contains it, first 'cover.jpg'.")


def test_folders_are_not_classes_if_most_images_lie_above_them_and_a_note_says_why(photos, scanned):
    summary, rows = scanned(photos("a.jpg", "b.jpg", "c.jpg", "cat/1.jpg", "dog/1.jpg"))
    assert {row["labels"] for row in rows} == {None}
    assert has_note(summary, "The folders cat, dog are not taken as classes, because more images lie above them (3)")


@pytest.mark.parametrize("wrapper", ["dataset", "a/b/c", "images", "train"])
def test_class_folders_are_found_below_wrapper_folders(photos, scanned, wrapper):
    summary, _ = scanned(photos(*tree(f"{wrapper}/cat", f"{wrapper}/dog")))
    assert summary.classes == {"cat": 2, "dog": 2}
    assert wrapper == "train" or has_note(summary, f"The class folders were found in {wrapper}.")


def test_splits_are_found_below_a_wrapper_folder(photos, scanned):
    summary, rows = scanned(photos(*tree("set/train/cat", "set/train/dog", "set/val/cat")))
    assert summary.classes == {"cat": 4, "dog": 2}
    assert {row["split"] for row in rows} == {"train", "val"}


def test_a_split_without_class_folders_beside_one_with_them_is_unlabelled(photos, scanned):
    summary, rows = scanned(photos(*tree("train/cat", "train/dog"), *tree("test", count=9)))
    assert summary.classes == {"cat": 2, "dog": 2}
    assert labels(rows)["test/0.jpg"] == ("", "test")
    assert has_note(summary, "9 images are without labels, because no class folder contains them, first 'test/0.jpg'.")


def test_only_the_requested_split_needs_class_folders(photos, scanned):
    summary, rows = scanned(photos(*tree("train/cat", "train/dog"), *tree("test", count=9)), split="train")
    assert summary.images == summary.labelled == len(rows) == 4
    assert not has_note(summary, "without labels")


def test_a_split_with_a_single_class_keeps_it(photos, scanned):
    summary, _ = scanned(photos(*tree("train/cat", "train/dog", "val/cat")), split="val")
    assert summary.classes == {"cat": 2}


def test_a_split_is_found_by_another_of_its_names(photos, scanned):
    _, rows = scanned(photos(*tree("Train/cat", "Train/dog", "valid/cat")), split="val")
    assert {row["split"] for row in rows} == {"valid"}
    with pytest.raises(CorpusError, match=r"has no split 'test'; .*Train, valid"):
        scanned(photos(), split="test")


@pytest.mark.parametrize("beside", ["masks", "labels", "annotations", "Masks", "SegmentationClass"])
def test_a_folder_of_annotations_beside_the_images_is_not_used(photos, scanned, beside):
    summary, rows = scanned(photos(*tree("images", beside)))
    assert summary.kind == "folder"
    assert [row["file_name"] for row in rows] == tree("images")
    assert has_note(
        summary, f"2 images are not used, because the folder {beside} beside images is assumed to contain annotations"
    )


@pytest.mark.parametrize(
    "folders",
    [
        ("images/train", "images/val", "labels/train", "labels/val"),
        ("train/images", "train/labels", "val/images", "val/labels"),
    ],
    ids=["YOLO", "Roboflow"],
)
def test_layouts_of_detection_datasets_give_splits_but_no_classes(photos, scanned, folders):
    summary, rows = scanned(photos(*tree(*folders)))
    assert (summary.kind, summary.images) == ("folder", 4)
    assert {row["split"] for row in rows} == {"train", "val"}


@pytest.mark.parametrize(
    "folders",
    [
        ("images/cat", "images/dog", "masks/cat", "masks/dog"),
        ("cat/images", "dog/images", "cat/masks", "dog/masks"),
        ("train/images/cat", "train/images/dog", "train/masks/cat", "train/masks/dog"),
    ],
    ids=["above the classes", "below the classes", "in a split"],
)
def test_classes_are_found_beside_masks(photos, scanned, folders):
    summary, _ = scanned(photos(*tree(*folders)))
    assert summary.classes == {"cat": 2, "dog": 2}


def test_masks_may_be_a_class(photos, scanned):
    summary, _ = scanned(photos(*tree("mask", "no mask")))
    assert summary.classes == {"mask": 2, "no mask": 2}


def test_labels_none_keeps_the_splits(photos, scanned):
    summary, rows = scanned(photos(*tree("train/cat", "train/dog", "val/cat")), "none")
    assert summary.labelled == 0
    assert {row["split"] for row in rows} == {"train", "val"}
