"""Boxes given as corners, fractions or percentages are refused; good files never are, however small or careless."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mining.errors import ScoringError
from mining.evaluation import read_ground_truth, score_run
from mining.ground_truth.box_formats import WrittenBoxes, check_box_format
from tests.unit.evaluation.conftest import World
from tests.unit.ground_truth.test_folders import thing, write_xml

Floats = NDArray[np.float64]
PACKS = ("bccd-mini", "fruits-mini", "groceries-mini", "objects7-mini", "voc-mini")


def as_corners(xywh: Floats, sizes: Floats) -> Floats:
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def as_fractions(xywh: Floats, sizes: Floats) -> Floats:
    return xywh / np.tile(sizes, 2)


def as_corner_fractions(xywh: Floats, sizes: Floats) -> Floats:
    return as_fractions(as_corners(xywh, sizes), sizes)


def as_per_cent(xywh: Floats, sizes: Floats) -> Floats:
    return 100 * as_fractions(xywh, sizes)


DIALECTS = {
    as_corners: "look like corners",
    as_fractions: "look relative",
    as_corner_fractions: "look relative",
    as_per_cent: "look like percentages",
}


def refusal(xywh: Floats, sizes: Floats, *, may_be_turned: bool = False) -> str:
    try:
        check_box_format("truth.json", WrittenBoxes(xywh, sizes, may_be_turned))
    except ScoringError as error:
        return str(error)
    return ""


def anywhere(count: int, seed: int) -> tuple[Floats, Floats]:
    """Boxes at any place of images of 300 to 600 px."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(300, 600, (count, 2)).astype(float)
    wh = sizes * rng.uniform(0.1, 0.9, (count, 2))
    return np.concatenate([rng.uniform(0, 1, (count, 2)) * (sizes - wh), wh], axis=1), sizes


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("may_be_turned", [False, True])
def test_other_dialects_are_refused_by_their_name(dialect: Callable[..., Floats], may_be_turned: bool) -> None:
    for seed in range(20):
        xywh, sizes = anywhere(30, seed)
        assert DIALECTS[dialect] in refusal(dialect(xywh, sizes), sizes, may_be_turned=may_be_turned)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 30, 300])
def test_good_boxes_are_not_refused_even_where_some_are_careless(count: int) -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        xywh, sizes = anywhere(count, seed)
        careless = rng.random(count) < 0.15
        xywh[careless, 2:] *= rng.uniform(1, 1.6, (int(careless.sum()), 2))
        assert refusal(xywh, sizes) == refusal(xywh, sizes, may_be_turned=True) == ""


def test_boxes_of_small_or_centred_objects_are_not_refused() -> None:
    rng = np.random.default_rng(0)
    sizes = np.full((200, 2), 128.0)
    assert refusal(np.concatenate([rng.uniform(10, 40, (200, 2)), rng.uniform(20, 60, (200, 2))], axis=1), sizes) == ""
    logos = np.tile([20.0, 20.0, 60.0, 60.0], (200, 1))
    assert refusal(logos, np.full((200, 2), 1000.0)) == ""


def test_boxes_in_images_of_unknown_size_are_refused_where_they_are_fractions_only() -> None:
    xywh, sizes = anywhere(30, 0)
    unknown = np.full_like(sizes, np.nan)
    assert refusal(as_corners(xywh, sizes), unknown) == refusal(as_per_cent(xywh, sizes), unknown) == ""
    assert "look relative" in refusal(as_fractions(xywh, sizes), unknown)


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_truth_of_real_photos_is_refused_in_other_dialects_only(
    dataset: Callable[[str], Path], name: str, split: str
) -> None:
    coco = json.loads((dataset(name) / f"instances_{split}.json").read_text())
    size = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
    xywh = np.array([one["bbox"] for one in coco["annotations"]], float)
    sizes = np.array([size[one["image_id"]] for one in coco["annotations"]], float)
    assert refusal(xywh, sizes) == refusal(xywh, sizes, may_be_turned=True) == ""
    assert refusal(xywh, sizes[:, ::-1], may_be_turned=True) == ""
    for dialect, sentence in DIALECTS.items():
        assert sentence in refusal(dialect(xywh, sizes), sizes)
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 5, 8, 16, 40):
        for _ in range(40):
            some = rng.choice(len(xywh), count, replace=False)
            careless = xywh[some]
            careless[: count // 6, 2:] *= 1.5
            assert refusal(careless, sizes[some]) == refusal(careless, sizes[some], may_be_turned=True) == ""
            assert "look relative" in refusal(as_fractions(xywh[some], sizes[some]) * 0.999, sizes[some])
            if count == 40:
                assert "look like corners" in refusal(as_corners(xywh[some], sizes[some]), sizes[some])


def in_dialect(world: World, dialect: Callable[..., Floats]) -> tuple[Path, Path]:
    """The world with a dozen boxes spread over each image, written in a dialect."""
    coco = world.coco()
    xywh = np.array([[4 + 7 * i, 3 + 6 * i, 20, 24] for i in range(12)], float)
    written = dialect(xywh, np.full((12, 2), 100.0)).tolist()
    coco["annotations"] = [
        {"id": 12 * image["id"] + place, "image_id": image["id"], "category_id": 90, "bbox": box}
        for image in coco["images"]
        for place, box in enumerate(written)
    ]
    return world.write(coco)


def test_a_truth_of_corners_is_refused_with_the_share_that_leaves_and_what_to_write(world: World) -> None:
    run, truth = in_dialect(world, as_corners)
    with pytest.raises(
        ScoringError,
        match=r"The boxes of truth\.json are not x, y, width, height in pixels\. They look like corners.*18 of 36 boxes "
        r"\(50%\) leave their image.*Write x1 - x0 and y1 - y0",
    ):
        score_run(run, truth)


def test_a_truth_of_fractions_is_refused_with_what_to_multiply_by(world: World) -> None:
    run, truth = in_dialect(world, as_fractions)
    with pytest.raises(
        ScoringError, match=r"look relative.*36 of 36 boxes \(100%\).*Multiply x and width by the image"
    ):
        score_run(run, truth)


def test_corners_are_found_by_the_decoded_sizes_where_the_file_has_none(world: World) -> None:
    run, truth = in_dialect(world, as_corners)
    coco = json.loads(truth.read_text())
    for image in coco["images"]:
        del image["width"], image["height"]
    truth.write_text(json.dumps(coco))
    assert len(read_ground_truth(truth).boxes) == 36
    with pytest.raises(ScoringError, match="look like corners"):
        score_run(run, truth)


def test_voc_xml_of_fractions_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        write_xml(tmp_path / "xml", f"{number}.xml", thing("dog", 0.1, 0.2, 0.6, 0.9))
    with pytest.raises(ScoringError, match="look relative"):
        read_ground_truth(tmp_path / "xml")


def test_a_single_box_within_the_first_pixel_is_left_out_and_counted(world: World) -> None:
    coco = world.coco()
    coco["annotations"][1]["bbox"] = [0.2, 0.3, 0.5, 0.4]
    truth = read_ground_truth(world.write(coco)[1])
    assert len(truth.boxes) == 3
    assert "within the first pixel of their image (annotation 1); left out." in truth.notes[0]


def test_boxes_that_leave_their_image_by_far_are_counted_in_a_note(world: World) -> None:
    coco = world.coco()
    coco["annotations"][1]["bbox"] = [50, 50, 90, 40]
    assert (
        "1 of 4 boxes (25%) of truth.json leave their image by more than 15%"
        in read_ground_truth(world.write(coco)[1]).notes[0]
    )
