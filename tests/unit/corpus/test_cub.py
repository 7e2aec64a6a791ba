"""CUB list files as the listing."""

import pytest

from mining.errors import CorpusError

LISTS = {
    "images.txt": "1 001.Gull/a b.jpg\n2 001.Gull/c.jpg\n3 002.Wren/d.jpg\n",
    "image_class_labels.txt": "1 1\n2 1\n3 2\n",
    "classes.txt": "1 001.Gull\n2 002.Wren\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n",
}
NAMES = ("001.Gull/a b.jpg", "001.Gull/c.jpg", "002.Wren/d.jpg")


@pytest.fixture
def lists(tmp_path):
    def written(**changed):
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        for name, text in {**LISTS, **{f"{key}.txt": value for key, value in changed.items()}}.items():
            if text is not None:
                (folder / name).write_text(text)
        return folder

    return written


def test_the_lists_give_names_classes_and_splits(photos, scanned, lists):
    summary, rows = scanned(photos(*NAMES), lists())
    assert (summary.kind, summary.single_label) == ("cub", True)
    assert summary.category_ids == {"001.Gull": 1, "002.Wren": 2}
    assert [(r["file_name"], r["labels"], r["split"]) for r in rows] == [
        ("001.Gull/a b.jpg", ["001.Gull"], "train"),
        ("001.Gull/c.jpg", ["001.Gull"], "test"),
        ("002.Wren/d.jpg", ["002.Wren"], "train"),
    ]


def test_images_are_found_in_the_folder_images_of_the_root(photos, scanned, lists):
    _, rows = scanned(photos(*(f"images/{name}" for name in NAMES)), lists(), split="test")
    assert [(r["file_name"], r["bytes"] is not None) for r in rows] == [("images/001.Gull/c.jpg", True)]


def test_the_split_file_may_be_absent(photos, scanned, lists):
    _, rows = scanned(photos(*NAMES), lists(train_test_split=None))
    assert {r["split"] for r in rows} == {None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": None}, r"Cannot read .*classes.txt: No such file"),
        ({"image_class_labels": None}, r"Cannot read .*image_class_labels.txt: No such file"),
        ({"image_class_labels": "1 9\n"}, r"image 1 has class '9', which classes.txt does not list"),
        ({"images": "1\n"}, r"images.txt, line 1: expected an id, a space and a value"),
        ({"images": "\n"}, r"images.txt lists no image"),
        ({"images": "1 a.jpg\n1 b.jpg\n"}, r"image id 1 occurs twice, for 'a.jpg' and 'b.jpg'"),
        ({"images": "1 ../a.jpg\n"}, r"images.txt, image 1: '../a.jpg' leads out"),
        ({"train_test_split": "1 yes\n"}, r"image 1 has 'yes', expected 1 \(train\) or 0 \(test\)"),
    ],
)
def test_the_error_for_a_malformed_list_names_the_file(photos, scanned, lists, changed, message):
    with pytest.raises(CorpusError, match=message):
        scanned(photos(*NAMES), lists(**changed))
