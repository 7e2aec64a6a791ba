"""A CSV listing."""

import pytest

from mining.errors import CorpusError


def labels_by_name(rows):
    return {row["file_name"]: row["labels"] for row in rows}


def test_labels_are_split_at_the_vertical_bar_and_sorted(photos, scanned, csv_file):
    labels = csv_file("file_name,labels", "b.jpg,dog|cat", "a.jpg,cat", "c.jpg,")
    summary, rows = scanned(photos("a.jpg", "b.jpg", "c.jpg"), labels)
    assert (summary.kind, summary.images, summary.labelled, summary.single_label) == ("csv", 3, 3, False)
    assert summary.classes == {"cat": 2, "dog": 1}
    assert labels_by_name(rows) == {"a.jpg": ["cat"], "b.jpg": ["cat", "dog"], "c.jpg": []}


def test_without_a_labels_column_the_labels_are_not_known(photos, scanned, csv_file):
    summary, rows = scanned(photos("a.jpg"), csv_file("file_name", "a.jpg"))
    assert summary.labelled == 0
    assert labels_by_name(rows) == {"a.jpg": None}


def test_csv_files_of_spreadsheets_are_accepted(photos, scanned, csv_file):
    labels = csv_file(
        " File_Name , Labels ",
        '"a, b.jpg", cat | dog ',
        " c.jpg ,| cat||cat|",
        "",
        "ねこ.jpg,猫",
        end="\r\n",
        start=b"\xef\xbb\xbf",
    )
    _, rows = scanned(photos("a, b.jpg", "c.jpg", "ねこ.jpg"), labels)
    assert labels_by_name(rows) == {"a, b.jpg": ["cat", "dog"], "c.jpg": ["cat"], "ねこ.jpg": ["猫"]}


def test_a_file_without_a_final_newline_is_read_completely(photos, scanned, tmp_path):
    (tmp_path / "train.csv").write_bytes(b"file_name,labels\na.jpg,cat\nb.jpg,dog")
    assert scanned(photos("a.jpg", "b.jpg"), tmp_path / "train.csv")[0].classes == {"cat": 1, "dog": 1}


def test_the_split_column_is_stored_and_selects_rows(photos, scanned, csv_file):
    labels = csv_file("file_name,labels,split", "a.jpg,cat,train", "b.jpg,dog,test", "c.jpg,dog,")
    root = photos("a.jpg", "b.jpg", "c.jpg")
    assert [row["split"] for row in scanned(root, labels)[1]] == ["train", "test", None]
    summary, rows = scanned(root, labels, split="test")
    assert labels_by_name(rows) == {"b.jpg": ["dog"]}
    assert (summary.images, summary.unlisted, summary.classes) == (1, 0, {"dog": 1})


def test_an_unknown_split_is_an_error_that_lists_the_splits(photos, scanned, csv_file):
    labels = csv_file("file_name,labels,split", "a.jpg,cat,train", "b.jpg,dog,test")
    with pytest.raises(CorpusError, match=r"no split 'tests'; did you mean 'test'\? Choose from: test, train"):
        scanned(photos("a.jpg", "b.jpg"), labels, split="tests")


def test_a_split_of_a_listing_without_splits_is_an_error(photos, scanned, csv_file):
    with pytest.raises(CorpusError, match=r"has no splits\. Leave --split test out"):
        scanned(photos("a.jpg"), csv_file("file_name,labels", "a.jpg,cat"), split="test")


def test_only_listed_images_are_used(photos, scanned, csv_file):
    root = photos("a.jpg", "b.jpg", "c.jpg")
    summary, rows = scanned(root, csv_file("file_name,labels", "b.jpg,cat"))
    assert [row["file_name"] for row in rows] == ["b.jpg"]
    assert summary.unlisted == 2
    assert summary.notes == [f"2 images are found below {root}, but not listed in train.csv; they are not used."]


def test_ignored_columns_are_named_in_a_note(photos, scanned, csv_file):
    summary, _ = scanned(photos("a.jpg"), csv_file("id,file_name,labels", "7,a.jpg,cat"))
    assert summary.notes == ["Columns of train.csv that are ignored: 'id'."]


def test_classes_that_differ_only_in_letter_case_are_noted(photos, scanned, csv_file):
    summary, _ = scanned(photos("a.jpg"), csv_file("file_name,labels", "a.jpg,Cat|cat|dog"))
    assert summary.notes == ["Some class names differ in letter case only, and are different classes: Cat, cat."]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("image,class", "a.jpg,cat"), r"has the columns 'image', 'class'; expected file_name,labels"),
        (("file_name,label", "a.jpg,cat"), r"has the columns 'file_name', 'label'"),
        (("a.jpg,cat",), r"has the columns 'a.jpg', 'cat'"),
        (("file_name;labels", "a.jpg;cat"), r"Separate the columns by commas"),
        (("file_name,labels,labels", "a.jpg,cat,dog"), r"has the columns"),
        ((), r"has the columns none"),
        (("file_name,labels",), r"train.csv lists no image"),
        (("file_name,labels", "a.jpg,cat,dog"), r"line 2: 3 cells, but 2 columns\. Join labels by '\|'"),
        (("file_name,labels", "a.jpg"), r"line 2: the row has no cell for 'labels'"),
        (("file_name,labels", ",cat"), r"line 2: the file name is empty"),
        (("file_name,labels", "a.jpg,cat", "../b.jpg,cat"), r"line 3: '../b.jpg' leads out of the image folder"),
        (("file_name,labels", "x/../../b.jpg,cat"), r"leads out of the image folder"),
        (("file_name,labels", "..\\b.jpg,cat"), r"leads out of the image folder"),
        (("file_name,labels", "/etc/b.jpg,cat"), r"leads out of the image folder"),
        (("file_name,labels", "C:\\b.jpg,cat"), r"leads out of the image folder"),
        (("file_name,labels", "a\0.jpg,cat"), r"cannot be the name of a file"),
        (("file_name,labels", '"a.jpg,cat', "b.jpg,dog"), r"Look for a quote that is not closed"),
        (("file_name,labels", '"a.jpg,' + "cat" * 100_000), r"line 2: not valid CSV .* quote that is not closed"),
    ],
)
def test_a_malformed_listing_is_an_error_with_one_sentence(photos, scanned, csv_file, lines, message):
    with pytest.raises(CorpusError, match=message):
        scanned(photos("a.jpg", "b.jpg"), csv_file(*lines))


def test_text_that_is_not_utf8_is_an_error_with_a_remedy(photos, scanned, csv_file):
    with pytest.raises(CorpusError, match=r"train.csv is not UTF-8 text .* Save it again"):
        scanned(photos("a.jpg"), csv_file("file_name,labels", "caf\u00e9.jpg,cat", encoding="latin-1"))


def test_dots_and_double_slashes_are_removed_from_a_name(photos, scanned, csv_file):
    _, rows = scanned(photos("x/a.jpg"), csv_file("file_name,labels", "./x//a.jpg,cat"))
    assert labels_by_name(rows) == {"x/a.jpg": ["cat"]}
