"""Listed images and the files on disk."""

import pytest

from mining.errors import CorpusError


def test_missing_images_stay_listed_without_a_size(photos, scanned, csv_file):
    root = photos("a.jpg")
    summary, rows = scanned(root, csv_file("file_name,labels", "a.jpg,cat", "gone.jpg,cat"))
    assert [(r["file_name"], r["bytes"] is None) for r in rows] == [("a.jpg", False), ("gone.jpg", True)]
    assert (summary.images, summary.missing) == (2, 1)
    assert summary.notes == [
        f"1 image is listed in train.csv, but missing below {root}, first 'gone.jpg'; "
        "mining puts missing images into quarantine."
    ]


@pytest.mark.parametrize(
    ("listed", "on_disk"), [("caf\u00e9.jpg", "cafe\u0301.jpg"), ("cafe\u0301.jpg", "caf\u00e9.jpg")]
)
def test_a_name_in_another_unicode_form_is_found_and_spelled_as_on_the_disk(photos, scanned, csv_file, listed, on_disk):
    summary, rows = scanned(photos(on_disk), csv_file("file_name,labels", f"{listed},cat"))
    assert [(r["file_name"], r["labels"]) for r in rows] == [(on_disk, ["cat"])]
    assert (summary.missing, summary.unlisted) == (0, 0)


def test_backslashes_are_accepted_as_separators(photos, scanned, csv_file):
    assert scanned(photos("x/a.jpg"), csv_file("file_name", "x\\a.jpg"))[1][0]["file_name"] == "x/a.jpg"


def test_a_listed_file_may_be_hidden_or_have_another_suffix(photos, scanned, csv_file):
    summary, _ = scanned(photos("a.gif", ".hidden/b.jpg"), csv_file("file_name", "a.gif", ".hidden/b.jpg"))
    assert (summary.missing, summary.unlisted) == (0, 0)


def test_a_listed_link_out_of_the_root_counts_as_missing(photos, scanned, csv_file, tmp_path):
    root = photos("a.jpg")
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (root / "b.jpg").symlink_to(tmp_path / "secret.jpg")
    summary, _ = scanned(root, csv_file("file_name", "a.jpg", "b.jpg"))
    assert summary.missing == 1
    assert any("target lies outside" in note for note in summary.notes)


def test_a_folder_is_not_an_image(photos, scanned, csv_file):
    root = photos("a.jpg")
    (root / "b.jpg").mkdir()
    assert scanned(root, csv_file("file_name", "a.jpg", "b.jpg"))[0].missing == 1


@pytest.mark.parametrize(
    ("on_disk", "listed", "advice"),
    [
        ("a.png", "a.jpg", r"There is 'a.png': the names differ in the suffix"),
        ("A.JPG", "a.jpg", r"There is 'A.JPG': the names differ in the suffix or in letter case"),
        ("a.jpg", "train/a.jpg", r"There is a 'a.jpg' in another folder"),
    ],
)
def test_if_every_image_is_missing_the_error_suggests_a_correction(photos, scanned, csv_file, on_disk, listed, advice):
    root = photos(on_disk)
    with pytest.raises(
        CorpusError, match=r"None of the images listed in \S+ exists below \S+, first '\S+'\. .*" + advice
    ):
        scanned(root, csv_file("file_name,labels", f"{listed},cat"))


def test_if_every_image_is_missing_and_no_name_is_similar_the_first_is_named(photos, scanned, csv_file):
    with pytest.raises(CorpusError, match=r"first 'b.jpg'\.$"):
        scanned(photos("x.jpg"), csv_file("file_name,labels", "c.jpg,cat", "b.jpg,cat"))


def test_if_all_images_are_links_out_of_the_root_the_error_says_so(photos, scanned, csv_file, tmp_path):
    root = photos()
    (tmp_path / "a.png").write_bytes(b"x")
    (root / "a.jpg").symlink_to(tmp_path / "a.png")
    with pytest.raises(CorpusError, match=r"1 link .* not followed"):
        scanned(root, csv_file("file_name", "a.jpg"))


def test_with_check_files_false_no_file_is_looked_up(photos, scanned, csv_file):
    summary, rows = scanned(photos("x.jpg"), csv_file("file_name,labels", "a.jpg,cat"), check_files=False)
    assert (summary.images, summary.missing, summary.unlisted) == (1, 0, 0)
    assert rows[0]["bytes"] is None
