"""Boxes from masks and run-length encodings, compared with pycocotools."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mining.errors import ScoringError
from mining.evaluation import read_ground_truth
from mining.ground_truth.masks import box_from_segmentation
from tests.unit.evaluation.conftest import World

HEIGHT, WIDTH = 30, 40


def mask_of(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return mask


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    pixels = mask.ravel(order="F")
    borders = np.flatnonzero(np.diff(pixels, prepend=0))
    counts = np.diff([0, *borders, pixels.size]).tolist()
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


@pytest.mark.parametrize("encode", [uncompressed, compressed])
def test_the_box_of_a_run_length_encoding_is_its_half_open_extent(encode: Any) -> None:
    assert box_from_segmentation(encode(mask_of(3, 5, 20, 11)), None, None) == (3, 5, 17, 6)
    assert box_from_segmentation(encode(mask_of(0, 0, WIDTH, HEIGHT)), None, None) == (0, 0, WIDTH, HEIGHT)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_box_of_any_mask_is_that_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.asfortranarray((rng.random((HEIGHT, WIDTH)) < rng.choice([0.002, 0.05, 0.5])).astype(np.uint8))
    expected = tuple(coco_mask.toBbox(coco_mask.encode(mask)).tolist())
    assert box_from_segmentation(compressed(mask), None, None) == expected
    assert box_from_segmentation(uncompressed(mask), None, None) == expected
    if mask.any():
        y, x = np.nonzero(mask)
        assert expected == (x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min())


@given(seed=st.integers(0, 10_000), parts=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_box_of_polygons_is_that_of_pycocotools(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = [(rng.random(2 * int(rng.integers(3, 9))) * min(WIDTH, HEIGHT)).tolist() for _ in range(parts)]
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))
    assert box_from_segmentation(polygons, WIDTH, HEIGHT) == tuple(coco_mask.toBbox(runs).tolist())


@pytest.mark.parametrize(
    "segmentation",
    [
        "text",
        7,
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        {},
        {"size": [10, 10]},
        {"size": [10], "counts": [100]},
        {"size": [0, 10], "counts": [0]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": [10, 10], "counts": [50, 51]},
        {"size": [10, 10], "counts": [-1, 101]},
        {"size": [10, 10], "counts": "PPP"},
        {"size": [10, 10], "counts": "\N{SNOWMAN}"},
        {"size": [10, 10], "counts": "o" * 40 + "0"},
    ],
)
def test_what_is_no_mask_gives_no_box(segmentation: Any) -> None:
    assert box_from_segmentation(segmentation, WIDTH, HEIGHT) is None


def test_polygons_without_the_size_of_the_image_give_no_box() -> None:
    assert box_from_segmentation([[1, 1, 9, 1, 9, 9]], None, HEIGHT) is None


def annotations(world: World, *entries: dict[str, Any]) -> Path:
    coco = world.coco()
    ids = {"image_id": coco["images"][0]["id"], "category_id": coco["categories"][0]["id"]}
    coco["annotations"] = [{"id": number, **ids, **entry} for number, entry in enumerate(entries, start=1)]
    return world.write(coco)[1]


def test_an_annotation_with_a_mask_and_no_box_has_the_extent_of_its_mask(world: World) -> None:
    polygon = [[10.0, 20.0, 50.0, 20.0, 50.0, 60.0, 10.0, 60.0]]
    truth = read_ground_truth(
        annotations(
            world,
            {"segmentation": polygon},
            {"segmentation": compressed(mask_of(3, 5, 20, 11)), "bbox": []},
            {"segmentation": polygon, "bbox": [1, 2, 3, 4]},
        )
    )
    assert truth.boxes.xywh.tolist() == [[10, 20, 40, 40], [3, 5, 17, 6], [1, 2, 3, 4]]
    assert "2 annotations of truth.json have a mask but no bbox; their boxes are the extents of the masks." in (
        truth.notes
    )


def test_an_annotation_with_neither_mask_nor_box_is_left_out(world: World) -> None:
    truth = read_ground_truth(annotations(world, {"segmentation": []}, {"bbox": [1, 2, 3, 4]}))
    assert len(truth.boxes) == 1
    assert any("have no box of four finite numbers" in note for note in truth.notes)
    with pytest.raises(ScoringError, match=r"No annotation of .* can be used"):
        read_ground_truth(annotations(world, {"segmentation": "broken"}))
