"""Pascal VOC, read back by torchvision's VOCDetection."""

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import VOCDetection

from mining.export import export
from mining.export.voc import _flat, _pixels


def read(out, part="trainval"):
    """<path> -> (image, [(class, xyxy half-open from 0)])"""
    result = {}
    for image, target in VOCDetection(str(out), year="2012", image_set=part):
        annotation = target["annotation"]
        boxes = []
        for item in annotation.get("object", []):
            corners = {key: int(value) for key, value in item["bndbox"].items()}
            xyxy = (corners["xmin"] - 1, corners["ymin"] - 1, corners["xmax"], corners["ymax"])
            boxes.append((item["name"], xyxy))
        assert annotation["size"] == {"width": str(image.width), "height": str(image.height), "depth": "3"}
        result[annotation["path"]] = (image, boxes)
    return result


@pytest.fixture
def exported(small_run, tmp_path):
    export(small_run.folder, "voc", tmp_path / "out")
    return tmp_path / "out"


def test_torchvision_reads_every_box_back_to_half_a_pixel(exported, small_run):
    boxes = {path: boxes for path, (_, boxes) in read(exported).items() if boxes}
    truth = small_run.truth()
    assert boxes.keys() == truth.keys()
    for path in truth:
        assert [name for name, _ in boxes[path]] == [name for name, _ in truth[path]]
        np.testing.assert_allclose([b for _, b in boxes[path]], [b for _, b in truth[path]], atol=0.5)


def test_boxes_lie_on_their_objects_in_rotated_and_converted_images_too(exported, is_red):
    for image, boxes in read(exported).values():
        for _, (x0, y0, x1, y1) in boxes:
            assert is_red(np.asarray(image)[(y0 + y1) // 2, (x0 + x1) // 2])
            assert is_red(np.asarray(image)[y0 + 2, x0 + 2])
            assert is_red(np.asarray(image)[y1 - 3, x1 - 3])


def test_every_image_is_a_jpeg_and_has_an_annotation(exported):
    root = exported / "VOCdevkit" / "VOC2012"
    for path in (root / "JPEGImages").iterdir():
        with Image.open(path) as image:
            assert (path.suffix, image.format, image.getexif()) == (".jpg", "JPEG", {})
    stems = {p.stem for p in (root / "JPEGImages").iterdir()}
    assert stems == {p.stem for p in (root / "Annotations").iterdir()}
    assert {"a__1", "a__1_png", "b__1", "sub_dir__naïve_猫__1", "images__deep"} <= stems


def test_every_image_is_in_train_or_val(exported):
    parts = {part: set(read(exported, part)) for part in ("train", "val", "trainval")}
    assert parts["train"]
    assert parts["val"]
    assert not parts["train"] & parts["val"]
    assert parts["train"] | parts["val"] == parts["trainval"]


def test_each_object_keeps_its_score_and_is_not_difficult(exported):
    tree = ElementTree.parse(exported / "VOCdevkit/VOC2012/Annotations/turned.xml")
    assert [(o.findtext("score"), o.findtext("difficult")) for o in tree.iter("object")] == [("0.95", "0")]


@pytest.mark.parametrize(
    ("edges", "pixels"),
    [((0, 10), (1, 10)), ((9.6, 10), (10, 10)), ((4.4, 4.45), (5, 5)), ((0, 0), (1, 1)), ((2.6, 7.4), (4, 7))],
)
def test_corners_are_counted_from_one_and_stay_inside_the_image(edges, pixels):
    assert _pixels(*edges, 10) == pixels


def test_a_control_character_that_xml_does_not_allow_is_replaced():
    assert _flat("a\x01b c#d\ud7ff") == "a_b_c_d\ud7ff"


def test_names_from_deep_folders_are_shortened_and_stay_unique():
    deep = "ünder__" * 60
    assert len(_flat(deep + "1").encode()) <= 200
    assert _flat(deep + "1") != _flat(deep + "2")
