"""--images is a folder with few of the listed images."""

import pytest

from mining.errors import CorpusError

NAMES = [f"{number:02}.jpg" for number in range(10)]


def rows(names):
    return ["file_name,labels", *(f"{name},cat" for name in names)]


def test_if_few_listed_images_exist_the_error_names_the_folder_with_most_of_them(photos, scanned, csv_file):
    root = photos(*(f"train/{name}" for name in NAMES[:7]), *(f"test/{name}" for name in NAMES[7:]))
    with pytest.raises(
        CorpusError,
        match=r"Only 3 of the 10 images listed in \S+ exist below \S+/test; 7 are missing\. "
        r"Most of them, 7 of 10, are below \S+/train: give --images \S+/train\. .*--min-present 0",
    ):
        scanned(root / "test", csv_file(*rows(NAMES)), min_present=0.5)
    summary, _ = scanned(root, csv_file(*rows(NAMES)), min_present=0.5)  # train.csv is not of the images in test/
    assert (summary.images, summary.missing) == (10, 3)


def test_the_folder_above_is_suggested_if_names_are_relative_to_it(photos, scanned, csv_file):
    root = photos(*(f"a/{name}" for name in NAMES[:7]), *(f"a/b/{name}" for name in NAMES[7:]))
    listing = csv_file(*rows(["a/" + name for name in NAMES[:7]] + ["a/b/" + name for name in NAMES[7:]]))
    with pytest.raises(
        CorpusError,
        match=r"Only 3 of the 10 .* Most of them, 7 of 10, are below \S+/photos: give --images \S+/photos\.",
    ):
        scanned(root / "a" / "b", listing, min_present=0.5)


def test_no_folder_is_suggested_for_images_spread_over_many_folders(photos, scanned, csv_file):
    root = photos(*(f"{(number + 2) // 3}/{name}" for number, name in enumerate(NAMES)))
    with pytest.raises(
        CorpusError, match=r"They lie in several folders, 3 of 10 below \S+\. Give --images a folder above all"
    ):
        scanned(root / "0", csv_file(*rows(NAMES)), min_present=0.5)


@pytest.mark.parametrize("min_present", [0.0, 0.3])
def test_if_enough_images_exist_the_missing_ones_are_counted(photos, scanned, csv_file, min_present):
    summary, _ = scanned(photos(*NAMES[:3]), csv_file(*rows(NAMES)), min_present=min_present)
    assert (summary.images, summary.missing) == (10, 7)


def test_only_the_images_of_the_split_count(photos, scanned, csv_file):
    listing = csv_file("file_name,labels,split", *(f"{name},cat,{'test' if n < 3 else 'train'}" for n, name in enumerate(NAMES)))  # fmt: skip
    summary, _ = scanned(photos(*NAMES[:3]), listing, split="test", min_present=0.5)
    assert (summary.images, summary.missing) == (3, 0)
    with pytest.raises(CorpusError, match="None of the images"):
        scanned(photos(*NAMES[:3]), listing, split="train", min_present=0.5)
