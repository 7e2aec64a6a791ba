"""The COCO folder, read back by torchvision's CocoDetection."""

import numpy as np
import pytest
from torchvision.datasets import CocoDetection

from mining.export import export


@pytest.fixture
def dataset(small_run, tmp_path):
    export(small_run.folder, "coco", tmp_path / "out")
    return CocoDetection(tmp_path / "out" / "images", str(tmp_path / "out" / "annotations" / "instances.json"))


def test_torchvision_reads_every_box_back_with_its_image(dataset, small_run):
    read = {}
    for (_, target), number in zip(dataset, dataset.ids, strict=True):
        boxes = [(dataset.coco.cats[t["category_id"]]["name"], t["bbox"]) for t in target]
        read[dataset.coco.imgs[number]["file_name"]] = [(c, (x, y, x + w, y + h)) for c, (x, y, w, h) in boxes]
    assert {name: boxes for name, boxes in read.items() if boxes} == small_run.truth()


def test_boxes_lie_on_their_objects_in_rotated_images_too(dataset, is_red):
    assert len(dataset) == 11
    for image, target in dataset:
        for x, y, w, h in (t["bbox"] for t in target):
            pixels = np.asarray(image)
            assert is_red(pixels[round(y + h / 2), round(x + w / 2)])
            assert is_red(pixels[round(y) + 2, round(x) + 2])
            assert is_red(pixels[round(y + h) - 3, round(x + w) - 3])


def test_image_sizes_are_those_of_the_files(dataset):
    for (image, _), number in zip(dataset, dataset.ids, strict=True):
        entry = dataset.coco.imgs[number]
        assert image.size == (entry["width"], entry["height"])


def test_an_empty_image_is_a_negative_and_an_image_of_unknown_content_is_not_exported(dataset):
    names = {image["file_name"] for image in dataset.coco.imgs.values()}
    assert "truly empty.jpg" in names
    assert not names & {"nobody knows.jpg", "broken.jpg", "cut short.jpg"}


def test_a_dataset_without_boxes_loads(small_run, tmp_path):
    export(small_run.folder, "coco", tmp_path / "none", min_score=1.0)
    dataset = CocoDetection(tmp_path / "none" / "images", str(tmp_path / "none" / "annotations" / "instances.json"))
    assert [target for _, target in dataset] == [[]]
