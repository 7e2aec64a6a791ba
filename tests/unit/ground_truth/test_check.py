"""True boxes that are to be learned from: each mistake in the file is refused with a sentence that names it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mining.errors import ScoringError
from mining.ground_truth.check import read_checked_boxes

FILES, CLASSES = ("one.png", "sub/two.png", "three.png"), ("cat", "dog")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(path)
    return tmp_path / "photos"


def document(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "one.png"}, {"id": 2, "file_name": "sub/two.png"}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "zebra"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20]}],
        **changes,
    }


def with_box(**changes: Any) -> dict[str, Any]:
    """One more annotation, with these changes."""
    first = document()["annotations"][0]
    return document(annotations=[first, {**first, "id": 2, "bbox": [1, 2, 9, 8], **changes}])


def refusal(root: Path, content: dict[str, Any] | str, classes: tuple[str, ...] = CLASSES) -> str:
    path = root.parent / "some.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ScoringError) as caught:
        read_checked_boxes(path, root, FILES, classes)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    return str(caught.value)


def accept(root: Path, content: dict[str, Any], classes: tuple[str, ...] = CLASSES) -> None:
    path = root.parent / "some.json"
    path.write_text(json.dumps(content))
    read_checked_boxes(path, root, FILES, classes)


def test_boxes_of_some_images_and_an_image_without_any_are_accepted(root: Path) -> None:
    accept(root, document())


def test_a_category_without_a_box_may_have_any_name(root: Path) -> None:
    accept(root, document(categories=[{"id": 1, "name": "dog"}, {"id": 2, "name": "dgo"}]))


def test_a_difficult_box_may_lie_beside_others_but_is_not_enough(root: Path) -> None:
    accept(root, with_box(ignore=1))
    only = {**document()["annotations"][0], "ignore": 1}
    assert "has no box to learn from" in refusal(root, document(annotations=[only]))


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_an_empty_file_is_refused(root: Path, content: str) -> None:
    assert refusal(root, content)


def test_a_file_without_a_box_is_refused(root: Path) -> None:
    assert "has no box to learn from" in refusal(root, document(annotations=[]))


def test_a_class_with_a_typing_mistake_is_refused_with_the_nearest_name(root: Path) -> None:
    said = refusal(
        root, {**with_box(category_id=2), "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "caat"}]}
    )
    assert "The class 'caat' (1 boxes)" in said
    assert "did you mean 'cat'?" in said


def test_a_file_without_a_shared_class_is_refused(root: Path) -> None:
    said = refusal(root, document(), classes=("horse", "sheep"))
    assert "No class of the boxes" in said
    assert "'dog'" in said
    assert "Choose from: horse, sheep." in said


def test_without_known_classes_any_class_is_accepted(root: Path) -> None:
    accept(root, document(), classes=())


def test_an_image_that_the_corpus_does_not_have_is_refused(root: Path) -> None:
    images = [*document()["images"], {"id": 3, "file_name": "four.png"}, {"id": 4, "file_name": "five.png"}]
    said = refusal(root, document(images=images))
    assert "lists 'five.png' and 1 other images" in said
    assert "which the corpus of" in said


@pytest.mark.parametrize("box", [[200, 5, 20, 20], [60, 5, 10, 10], [5, 40, 9, 9]])
def test_a_box_outside_its_image_file_is_refused(root: Path, box: list[float]) -> None:
    said = refusal(root, with_box(bbox=box))
    assert "1 of 2 boxes lie outside their image" in said
    assert "'one.png' of 60 x 40 px" in said


def test_a_box_outside_the_size_that_the_file_states_is_refused(root: Path) -> None:
    images = [{"id": 1, "file_name": "one.png", "width": 60, "height": 40}]
    said = refusal(root, {**with_box(bbox=[200, 5, 20, 20]), "images": images})
    assert "lies wholly outside" in said
    assert "Correct these annotations" in said


@pytest.mark.parametrize(
    "change",
    [{"image_id": 99}, {"category_id": 99}, {"bbox": None}, {"bbox": [1, 2, 0, 5]}, {"bbox": [5, -30, 10, 10]}],
)
def test_an_annotation_that_cannot_be_used_is_refused(root: Path, change: dict[str, Any]) -> None:
    said = refusal(root, with_box(**change))
    assert "1 of 2 annotations" in said
    assert "(annotation 2" in said


def test_an_image_that_cannot_be_read_is_left_to_mining(root: Path) -> None:
    (root / "one.png").write_bytes(b"no image")
    accept(root, document())


def test_a_missing_file_is_refused(root: Path) -> None:
    with pytest.raises(ScoringError, match="no ground truth file"):
        read_checked_boxes(root / "nowhere.json", root, FILES, CLASSES)
