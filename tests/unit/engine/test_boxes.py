"""Box coordinates, with a localizer whose activation maps are the image's colour channels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mining.engine.box_extraction import FACTOR_COLUMNS
from mining.models.card import read_card
from tests.unit.engine.painting import BOX, GREEN, RED, SHORT_SIDE, ImageResult, black, painted_model, scene

# --- box coordinates ---------------------------------------------------------------------------------------------------


def test_the_box_matches_the_painted_rectangle(mine_one: Callable[..., ImageResult]) -> None:
    found = mine_one(scene((BOX, RED)), "red")
    assert found.state == "labelled"
    assert found.boxes == [BOX]
    assert (found.outcome.width, found.outcome.height) == (96, 64)


@pytest.mark.parametrize("side", [100, 1000])
def test_boxes_are_in_image_pixels_for_any_map_side(mine_one: Callable[..., ImageResult], side: int) -> None:
    box = (240, 60, 660, 480)
    found = mine_one(scene((box, RED), height=600, width=900), "red", map_side=side, threshold=0.5)
    pixel_of_the_map = max(1.0, (600 * 900) ** 0.5 / side)
    pixel_of_the_network = 600 / SHORT_SIDE
    assert np.abs(np.subtract(found.boxes, [box])).max() <= max(pixel_of_the_map, pixel_of_the_network)
    assert (found.rows[0]["width"], found.rows[0]["height"]) == (900, 600)


@pytest.mark.parametrize("scales", [(1.0,), (2.0,), (1.0, 2.0), (1.0, 1.5, 2.0)])
def test_map_cells_align_with_image_pixels_at_every_scale(
    mine_one: Callable[..., ImageResult], scales: tuple[float, ...]
) -> None:
    """At every scale, the edge lies halfway between the centres of a full and an empty cell."""
    found = mine_one(scene((BOX, RED)), "red", localizer="coarse", scales=scales, threshold=0.5)
    assert np.abs(np.subtract(found.boxes, [BOX])).max() <= (1 if 1.5 in scales else 0)


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0), (1.0, 1.5, 2.0)])
@pytest.mark.parametrize("box", [BOX, (16, 16, 64, 48)], ids=["plain", "mirrored"])
def test_cells_that_do_not_tile_the_image_align_with_its_pixels(
    mine_one: Callable[..., ImageResult], scales: tuple[float, ...], box: tuple[int, int, int, int]
) -> None:
    found = mine_one(scene((box, RED)), "red", localizer="half-a-cell-late", scales=scales, threshold=0.5)
    assert np.abs(np.subtract(found.boxes, [box])).max() <= 1


def test_a_row_records_the_box_and_its_provenance(mined: Callable[..., dict[str, ImageResult]], tmp_path: Path) -> None:
    pictures = {"a/b.png": scene((BOX, (0, 204, 0))), "c.png": black()}
    model = painted_model(tmp_path / "model")
    found = mined(pictures, {"a/b.png": ("green",), "c.png": ()}, model=model, threshold=0.4, scales=(1.0, 2.0))
    ((row,),) = (found["a/b.png"].rows,)
    probability = 1 / (1 + np.exp(-12 * (204 / 255 - 0.5)))
    assert row == {
        "image_id": 1, "file_name": "a/b.png", "width": 96, "height": 64, "category_id": 3, "category": "green",
        "x": 32, "y": 16, "w": 48, "h": 32, "area": 48 * 32,
        "score": pytest.approx(probability), "class_score": pytest.approx(probability),
        "peak": pytest.approx(1.0), "mean_activation": pytest.approx(1.0, abs=0.05),
        "threshold": pytest.approx(0.4), "scales": [1.0, 2.0],
        "localizer": "painted", "model_sha256": read_card(model).weights_sha256, "merged_from": 1, "source": "label",
        "refinement": "none", "is_part": False, **dict.fromkeys(FACTOR_COLUMNS),
    }  # fmt: skip


def test_a_region_score_is_proportional_to_its_peak(mine_one: Callable[..., ImageResult]) -> None:
    found = mine_one(scene(((8, 8, 24, 24), (102, 0, 0)), ((40, 8, 60, 24), (255, 0, 0)), ((70, 40, 90, 60), (204, 0, 0))), "red")  # fmt: skip
    assert found.boxes == [(40, 8, 60, 24), (70, 40, 90, 60), (8, 8, 24, 24)]
    assert [row["peak"] for row in found.rows] == pytest.approx([1, 0.8, 0.4])
    assert [row["score"] for row in found.rows] == pytest.approx(
        [row["peak"] * 0.99753 for row in found.rows], rel=1e-4
    )
    assert len({row["class_score"] for row in found.rows}) == 1


@pytest.mark.parametrize(
    "pixels",
    [
        scene(((0, 0, 96, 64), RED), ((40, 30, 41, 31), (0, 0, 0))),
        scene(((0, 0, 10, 64), RED), ((86, 0, 96, 64), RED), ((0, 0, 96, 4), RED)),
    ],
)
def test_an_object_that_touches_every_border_gets_a_box_of_the_image_size(
    mine_one: Callable[..., ImageResult], pixels: np.ndarray
) -> None:
    assert mine_one(pixels, "red").boxes == [(0, 0, 96, 64)]


SHAPES = [(64, 64), (64, 96), (96, 64), (64, 256), (256, 64), (50, 77), (131, 97), (16, 24), (200, 30), (256, 384)]


@pytest.mark.parametrize(("height", "width"), [*SHAPES, (768, 1152), (1400, 700), (64, 1000), (1000, 64)])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.5, 2.0)])
def test_boxes_are_in_image_pixels_for_any_image_shape(
    mine_one: Callable[..., ImageResult], height: int, width: int, scales: tuple[float, ...]
) -> None:
    """The tolerance is one pixel of the network's input or of the map, whichever is larger."""
    box = (width // 4, height // 8, width * 3 // 4, height * 5 // 8)
    found = mine_one(scene((box, RED), height=height, width=width), "red", threshold=0.5, scales=scales, max_aspect=100)
    seen = (min(4 * SHORT_SIDE, SHORT_SIDE * max(1, width / height)), min(4 * SHORT_SIDE, SHORT_SIDE * max(1, height / width)))  # fmt: skip
    slack = (max(1.0, width / seen[0]), max(1.0, height / seen[1]))
    assert len(found.boxes) == 1
    assert np.abs(np.subtract(found.boxes[0], box) / (*slack, *slack)).max() <= 1
    assert (found.rows[0]["width"], found.rows[0]["height"]) == (width, height)


def test_boxes_follow_the_exif_orientation(mined: Callable[..., dict[str, ImageResult]], tmp_path: Path) -> None:
    """EXIF orientation 6: the image is upright, but stored rotated by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = scene(((16, 32, 48, 80), RED), height=96, width=64)
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    found = mined({"a.png": (tmp_path / "turned.png").read_bytes()}, {"a.png": ("red",)})["a.png"]
    assert found.boxes == [(16, 32, 48, 80)]
    assert (found.outcome.width, found.outcome.height) == (64, 96)


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_are_in_full_size_pixels_of_a_jpeg_decoded_at_reduced_size(
    mined: Callable[..., dict[str, ImageResult]], tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    box = (320, 160, 800, 480)
    Image.fromarray(scene((box, RED), height=640, width=960)).save(tmp_path / "large.jpg", exif=exif, quality=95)
    found = mined({"a.jpg": (tmp_path / "large.jpg").read_bytes()}, {"a.jpg": ("red",)}, threshold=0.5)["a.jpg"]
    height, width = (640, 960) if orientation == 1 else (960, 640)
    expected = box if orientation == 1 else (640 - box[3], box[0], 640 - box[1], box[2])
    assert (found.outcome.height, found.outcome.width) == (height, width)
    assert len(found.boxes) == 1
    assert np.abs(np.subtract(found.boxes[0], expected)).max() <= 640 / SHORT_SIDE


# --- scales ------------------------------------------------------------------------------------------------------------


TWO_THINGS = scene(((8, 16, 40, 48), RED), ((56, 16, 88, 48), GREEN))


@pytest.mark.parametrize(("scales", "peaks"), [((1.0,), [1]), ((1.0, 2.0), [1, 0.5]), ((2.0, 1.0), [1, 0.5])])
def test_maps_of_different_scales_are_summed_without_normalisation(
    mine_one: Callable[..., ImageResult], scales: tuple[float, ...], peaks: list[float]
) -> None:
    """A region that is half as strong, and at another scale only, keeps half the activation."""
    found = mine_one(TWO_THINGS, "blue", localizer="one-colour-a-scale", scales=scales, threshold=0.3)
    assert [row["peak"] for row in found.rows] == pytest.approx(peaks)
    assert [box[0] for box in found.boxes] == pytest.approx([8, 56][: len(peaks)], abs=1)


def test_activation_is_summed_over_scales(mine_one: Callable[..., ImageResult]) -> None:
    """Green has half the activation at each of two scales, so that its sum equals that of red."""
    found = mine_one(TWO_THINGS, "blue", localizer="one-colour-a-scale", scales=(1.0, 1.5, 2.0), threshold=0.3)
    assert [row["peak"] for row in found.rows] == pytest.approx([1, 1])


# --- images of extreme shapes ------------------------------------------------------------------------------------------


def test_a_one_pixel_image_has_no_region(mine_one: Callable[..., ImageResult]) -> None:
    found = mine_one(scene(((0, 0, 1, 1), RED), height=1, width=1), "red")
    assert (found.state, found.outcome.width, found.outcome.height) == ("no_region", 1, 1)


@pytest.mark.parametrize("upright", [False, True])
def test_the_box_in_an_extremely_narrow_image_spans_its_width(
    mine_one: Callable[..., ImageResult], upright: bool
) -> None:
    picture = scene(((4000, 0, 12_000, 10), RED), height=10, width=20_000)
    found = mine_one(picture.swapaxes(0, 1) if upright else picture, "red", threshold=0.5, max_aspect=1e6)
    ((x0, y0, x1, y1),) = found.boxes
    along, across = ((y0, y1), (x0, x1)) if upright else ((x0, x1), (y0, y1))
    assert along == pytest.approx((4000, 12_000), abs=20_000 / (4 * SHORT_SIDE))
    assert across == (0, 10)


def test_an_extremely_narrow_box_is_filtered_by_default(mine_one: Callable[..., ImageResult]) -> None:
    assert mine_one(scene(((4000, 0, 12_000, 10), RED), height=10, width=20_000), "red").state == "filtered"
