"""Boxes where they must be: mined with a localizer whose map is the picture itself."""

import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mining.annotations.schema import CURVE_THRESHOLDS
from mining.backbones import BACKBONES, Anatomy, Backbone, BackboneSpec
from mining.cards import ModelCard, read_card
from mining.config import MineSettings
from mining.corpus import read_shard
from mining.engine import Miner, mine_shard
from mining.errors import ModelError
from mining.jobs import plan_mining
from mining.localizers import LOCALIZERS
from mining.localizers.base import ClassChoice, ClassificationLoss, Localization, Localizer, chosen_classes
from mining.models import build_localizer, save_model
from mining.parts import ImageOutcome, part_outcomes, part_timing
from mining.runs import RunDirectory
from mining.scoring.thresholds import nearest_positions, stable_positions
from tests.making import write_model, write_photos

SHORT_SIDE = 64
CLASSES = {"red": 7, "green": 3, "blue": 5}
ALL = tuple(CLASSES)


# --- a localizer that can be predicted -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoOptions:
    """A localizer that cannot be set."""


class Painted(Localizer):
    """Its map of a class is the class's colour channel, 0-1, a cell a pixel.

    A class's logit is 12 (m - 0.5), m being the highest value of its channel: a pixel in full colour gives the
    probability 0.9975, none 0.0025.
    """

    Config = NoOptions
    name: ClassVar[str] = "painted"
    summary: ClassVar[str] = "sees colours"

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("white", torch.tensor(255.0))

    def colours(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), the maps of all classes."""
        return self.backbone(images)[-1] / self.white

    def forward(self, images: Tensor) -> Tensor:
        return 12 * ((self.backbone(images)[-1] / self.white).amax(dim=(2, 3)) - 0.5)

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        logits = self(images)
        wanted = chosen_classes(classes, logits)
        maps = self.colours(images)
        return Localization(logits, wanted, torch.stack([one[own] for one, own in zip(maps, wanted, strict=True)]))

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        raise NotImplementedError


class Coarse(Painted):
    """One cell for 16 x 16 pixels, as the networks have it."""

    name: ClassVar[str] = "coarse"

    def colours(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(super().colours(images), 16)


class OneColourAScale(Painted):
    """Sees red things at scale 1, and green ones half as strongly at any other, whatever the class."""

    name: ClassVar[str] = "one-colour-a-scale"

    def colours(self, images: Tensor) -> Tensor:
        red, green, _ = super().colours(images).unbind(dim=1)
        seen = red if images.shape[2] == SHORT_SIDE else green / 2
        return seen[:, None].expand(-1, 3, -1, -1)


class Overflowing(Painted):
    """Holds what is no number in the map of any image with a white pixel."""

    name: ClassVar[str] = "overflowing"

    def colours(self, images: Tensor) -> Tensor:
        maps = super().colours(images)
        maps[(maps == 1).all(dim=1).any(dim=(1, 2)), :, 0, 0] = torch.nan
        return maps


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The localizers above under their names, on a backbone that gives the pixels as they are."""
    for kind in (Painted, Coarse, OneColourAScale, Overflowing):
        monkeypatch.setitem(LOCALIZERS, kind.name, kind)
    pixels = Anatomy([nn.Identity()], (3,), (1,), None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    spec = BackboneSpec("pixels", SHORT_SIDE, lambda _: pixels, nn.Identity, dict)
    monkeypatch.setitem(BACKBONES, "pixels", spec)


# --- small corpora, mined --------------------------------------------------------------------------------------------

Picture = np.ndarray | bytes
Labels = Mapping[str, tuple[str, ...]]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
BOX = (32, 16, 80, 48)


def black(height: int = 64, width: int = 96) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def scene(
    *things: tuple[tuple[int, int, int, int], tuple[int, int, int]], height: int = 64, width: int = 96
) -> np.ndarray:
    """Black with filled rectangles, each given as half-open xyxy and its colour."""
    pixels = black(height, width)
    for (x0, y0, x1, y1), colour in things:
        pixels[y0:y1, x0:x1] = colour
    return pixels


@dataclass
class Found:
    """What became of an image, and its rows of the part."""

    outcome: ImageOutcome
    rows: list[dict[str, Any]]

    @property
    def state(self) -> str:
        return self.outcome.state

    @property
    def boxes(self) -> list[tuple[float, ...]]:
        """As xyxy."""
        return [(row["x"], row["y"], row["x"] + row["w"], row["y"] + row["h"]) for row in self.rows]

    @property
    def classes(self) -> list[str]:
        return [row["category"] for row in self.rows]

    def without_identity(self) -> tuple[Any, ...]:
        """All that may not depend on the other images of the shard."""
        rows = [{k: v for k, v in row.items() if k not in ("image_id", "file_name")} for row in self.rows]
        return self.state, self.outcome.width, self.outcome.height, rows


def write_corpus(folder: Path, pictures: Mapping[str, Picture], labels: Labels | None) -> dict[str, Any]:
    """Files and a CSV of labels; gives the settings that name them."""
    for name, picture in pictures.items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            path.write_bytes(picture)
        else:
            Image.fromarray(picture).save(path)
    if labels is None:
        return {"images": folder / "images", "labels": "none"}
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "labels"), *((name, "|".join(own)) for name, own in labels.items())])
    return {"images": folder / "images", "labels": folder / "labels.csv"}


def painted_model(folder: Path, localizer: str = "painted", objective: str = "multi") -> Path:
    listed = [{"id": number, "name": name} for name, number in CLASSES.items()]
    card = ModelCard(localizer, "pixels", objective, listed, SHORT_SIDE, {})
    save_model(folder, build_localizer(card)[0], card)
    return folder


def opened(folder: Path, pictures: Mapping[str, Picture], labels: Labels | None, **options: Any) -> RunDirectory:
    """A run that is ready to be mined."""
    kind = {name: options.pop(name) for name in ("localizer", "objective") if name in options}
    model = options.pop("model", None) or painted_model(folder / "model", **kind)
    corpus = write_corpus(folder, pictures, labels)
    defaults: dict[str, Any] = {"scales": (1.0,), "device": "cpu", "workers": 2}
    settings = MineSettings(**corpus, model=str(model), out=folder / "run", **{**defaults, **options})
    plan_mining(settings)
    return RunDirectory(folder / "run")


def found_in(run: RunDirectory, shard: int = 0) -> dict[str, Found]:
    rows = pq.read_table(run.part(shard)).to_pylist()
    outcomes = part_outcomes(run.part(shard))
    return {o.file_name: Found(o, [row for row in rows if row["image_id"] == o.image_id]) for o in outcomes}


@pytest.fixture
def mined(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Found]]:
    """Mines a corpus of one shard; gives what was found by file name."""

    def mine(pictures: Mapping[str, Picture], labels: Labels | None, **options: Any) -> dict[str, Found]:
        run = opened(tmp_path_factory.mktemp("mined"), pictures, labels, **options)
        mine_shard(run.path, 0)
        return found_in(run)

    return mine


@pytest.fixture
def one(mined: Callable[..., dict[str, Found]]) -> Callable[..., Found]:
    """Mines one picture with the labels given."""

    def mine(picture: Picture, *labels: str, **options: Any) -> Found:
        return mined({"a.png": picture}, {"a.png": labels}, **options)["a.png"]

    return mine


# --- where the boxes are ---------------------------------------------------------------------------------------------


def test_a_painted_thing_gets_the_box_it_was_painted_in(one: Callable[..., Found]) -> None:
    found = one(scene((BOX, RED)), "red")
    assert found.state == "labelled"
    assert found.boxes == [BOX]
    assert (found.outcome.width, found.outcome.height) == (96, 64)


@pytest.mark.parametrize("side", [100, 1000])
def test_boxes_are_in_pixels_of_the_image_whatever_size_maps_are_cut_at(one: Callable[..., Found], side: int) -> None:
    box = (240, 60, 660, 480)
    found = one(scene((box, RED), height=600, width=900), "red", map_side=side, threshold=0.5)
    pixel_of_the_map = max(1.0, (600 * 900) ** 0.5 / side)
    pixel_of_the_network = 600 / SHORT_SIDE
    assert np.abs(np.subtract(found.boxes, [box])).max() <= max(pixel_of_the_map, pixel_of_the_network)
    assert (found.rows[0]["width"], found.rows[0]["height"]) == (900, 600)


@pytest.mark.parametrize("scales", [(1.0,), (2.0,), (1.0, 2.0), (1.0, 1.5, 2.0)])
def test_cells_lie_where_they_were_seen(one: Callable[..., Found], scales: tuple[float, ...]) -> None:
    """Halfway between the centres of a full and an empty cell is their edge, at every scale."""
    found = one(scene((BOX, RED)), "red", localizer="coarse", scales=scales, threshold=0.5)
    assert np.abs(np.subtract(found.boxes, [BOX])).max() <= (1 if 1.5 in scales else 0)


def test_a_row_says_what_the_box_is_and_how_it_was_made(mined: Callable[..., dict[str, Found]], tmp_path: Path) -> None:
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
    }  # fmt: skip


def test_a_weaker_region_scores_by_its_share_of_the_strongest(one: Callable[..., Found]) -> None:
    found = one(scene(((8, 8, 24, 24), (102, 0, 0)), ((40, 8, 60, 24), (255, 0, 0)), ((70, 40, 90, 60), (204, 0, 0))), "red")  # fmt: skip
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
def test_a_thing_from_border_to_border_has_the_size_of_the_image(one: Callable[..., Found], pixels: np.ndarray) -> None:
    assert one(pixels, "red").boxes == [(0, 0, 96, 64)]


SHAPES = [(64, 64), (64, 96), (96, 64), (64, 256), (256, 64), (50, 77), (131, 97), (16, 24), (200, 30), (256, 384)]


@pytest.mark.parametrize(("height", "width"), [*SHAPES, (768, 1152), (1400, 700), (64, 1000), (1000, 64)])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.5, 2.0)])
def test_boxes_are_in_pixels_of_the_image_whatever_its_shape(
    one: Callable[..., Found], height: int, width: int, scales: tuple[float, ...]
) -> None:
    """Within the pixel that the network sees and the pixel that the map is cut at, whichever is larger."""
    box = (width // 4, height // 8, width * 3 // 4, height * 5 // 8)
    found = one(scene((box, RED), height=height, width=width), "red", threshold=0.5, scales=scales, max_aspect=100)
    seen = (min(4 * SHORT_SIDE, SHORT_SIDE * max(1, width / height)), min(4 * SHORT_SIDE, SHORT_SIDE * max(1, height / width)))  # fmt: skip
    slack = (max(1.0, width / seen[0]), max(1.0, height / seen[1]))
    assert len(found.boxes) == 1
    assert np.abs(np.subtract(found.boxes[0], box) / (*slack, *slack)).max() <= 1
    assert (found.rows[0]["width"], found.rows[0]["height"]) == (width, height)


def test_boxes_are_in_the_image_as_it_is_looked_at(mined: Callable[..., dict[str, Found]], tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was held upright, the file lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = scene(((16, 32, 48, 80), RED), height=96, width=64)
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    found = mined({"a.png": (tmp_path / "turned.png").read_bytes()}, {"a.png": ("red",)})["a.png"]
    assert found.boxes == [(16, 32, 48, 80)]
    assert (found.outcome.width, found.outcome.height) == (64, 96)


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_are_in_pixels_of_a_jpeg_that_was_reduced_as_it_was_decoded(
    mined: Callable[..., dict[str, Found]], tmp_path: Path, orientation: int
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


# --- scales ----------------------------------------------------------------------------------------------------------

TWO_THINGS = scene(((8, 16, 40, 48), RED), ((56, 16, 88, 48), GREEN))


@pytest.mark.parametrize(("scales", "peaks"), [((1.0,), [1]), ((1.0, 2.0), [1, 0.5]), ((2.0, 1.0), [1, 0.5])])
def test_the_maps_of_the_scales_are_added_as_they_are(
    one: Callable[..., Found], scales: tuple[float, ...], peaks: list[float]
) -> None:
    """A region seen half as strongly, at another scale only, keeps half the activation."""
    found = one(TWO_THINGS, "blue", localizer="one-colour-a-scale", scales=scales, threshold=0.3)
    assert [row["peak"] for row in found.rows] == pytest.approx(peaks)
    assert [box[0] for box in found.boxes] == pytest.approx([8, 56][: len(peaks)], abs=1)


def test_activation_of_several_scales_adds_up(one: Callable[..., Found]) -> None:
    """Green counts a half at each of two scales, so that it is as strong as red in the end."""
    found = one(TWO_THINGS, "blue", localizer="one-colour-a-scale", scales=(1.0, 1.5, 2.0), threshold=0.3)
    assert [row["peak"] for row in found.rows] == pytest.approx([1, 1])


# --- which classes ---------------------------------------------------------------------------------------------------

MANY = scene(((4, 4, 28, 28), RED), ((36, 4, 60, 28), (0, 153, 0)), ((68, 36, 92, 60), (0, 0, 102)))


def test_where_labels_are_known_exactly_those_classes_are_mined(one: Callable[..., Found]) -> None:
    found = one(MANY, "blue", "green")
    assert sorted(found.classes) == ["blue", "green"]
    assert {row["source"] for row in found.rows} == {"label"}
    assert {row["category"]: row["category_id"] for row in found.rows} == {"blue": 5, "green": 3}


def test_the_boxes_of_all_classes_are_sorted_by_score(one: Callable[..., Found]) -> None:
    found = one(MANY, "blue", "red", "green")
    assert found.classes == ["red", "green", "blue"]
    expected = 1 / (1 + np.exp(-12 * (np.array([1, 0.6, 0.4]) - 0.5)))
    assert [row["score"] for row in found.rows] == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("cut", "most", "classes"),
    [(0.9, 5, ["red"]), (0.5, 5, ["red", "green"]), (0.2, 5, ["red", "green", "blue"]), (0.2, 2, ["red", "green"])],
)
def test_where_labels_are_not_known_classes_above_the_cut_are_mined(
    mined: Callable[..., dict[str, Found]], cut: float, most: int, classes: list[str]
) -> None:
    """Probabilities are 0.998 for red, 0.769 for green, 0.231 for blue."""
    found = mined({"a.png": MANY}, None, class_cut=cut, max_classes=most)["a.png"]
    assert found.classes == classes
    assert {row["source"] for row in found.rows} == {"prediction"}


def test_classes_that_exclude_each_other_share_the_probability(mined: Callable[..., dict[str, Found]]) -> None:
    """Softmax of the logits 6 and 1.2 and -1.2 for a model of one class an image."""
    found = mined({"a.png": MANY}, None, objective="single", class_cut=0.005)["a.png"]
    shares = np.exp([6, 1.2, -1.2]) / np.exp([6, 1.2, -1.2]).sum()
    assert [row["class_score"] for row in found.rows] == pytest.approx(shares[:2].tolist(), rel=1e-3)


def test_images_with_different_numbers_of_classes_share_a_batch(mined: Callable[..., dict[str, Found]]) -> None:
    labels = {"a.png": ("red",), "b.png": (), "c.png": ALL, "d.png": ("green", "blue")}
    found = mined(dict.fromkeys(labels, MANY), labels, batch_size=4)
    assert {name: set(one.classes) for name, one in found.items()} == {n: set(own) for n, own in labels.items()}


# --- no box ----------------------------------------------------------------------------------------------------------


def test_an_image_known_to_hold_nothing_is_not_looked_into(one: Callable[..., Found]) -> None:
    found = one(scene((BOX, RED)))
    assert (found.state, found.rows) == ("no_region", [])


def test_an_image_in_which_no_class_is_predicted_has_no_region(mined: Callable[..., dict[str, Found]]) -> None:
    found = mined({"a.png": scene((BOX, (100, 100, 100)))}, None, class_cut=0.5)["a.png"]
    assert (found.state, found.rows) == ("no_region", [])
    assert (found.outcome.width, found.outcome.height) == (96, 64)


def test_a_class_that_shows_nowhere_has_no_region(one: Callable[..., Found]) -> None:
    assert one(scene((BOX, RED)), "blue").state == "no_region"


def test_an_image_all_of_whose_boxes_score_too_low_says_so(one: Callable[..., Found]) -> None:
    things = scene(((8, 8, 24, 24), (102, 0, 0)), (BOX, (153, 0, 0)))
    assert one(things, "red", min_score=0.7).boxes == [BOX]
    assert one(things, "red", min_score=0.8).state == "low_score"


def test_an_image_all_of_whose_boxes_are_implausible_says_so(one: Callable[..., Found]) -> None:
    assert one(scene((BOX, RED)), "red", min_area=0.26).state == "filtered"
    assert one(scene((BOX, RED)), "red", min_area=0.24).state == "labelled"
    assert one(scene(((0, 10, 96, 14), RED)), "red", max_aspect=20).state == "filtered"


def test_what_is_plausible_and_scores_low_is_low_though_others_were_filtered(one: Callable[..., Found]) -> None:
    things = scene(((2, 2, 6, 6), RED), (BOX, (153, 0, 0)))
    assert one(things, "red", min_area=0.1, min_score=0.9).state == "low_score"
    assert one(things, "red", min_area=0.1).boxes == [BOX]


def test_boxes_around_one_another_are_merged_as_asked(one: Callable[..., Found]) -> None:
    frame = scene(((8, 8, 88, 56), RED), ((10, 10, 86, 54), (0, 0, 0)), ((12, 12, 84, 52), (204, 0, 0)))
    apart = one(frame, "red", merge="none")
    assert apart.boxes == [(8, 8, 88, 56), (12, 12, 84, 52)]
    together = one(frame, "red")
    assert together.boxes == [(8, 8, 88, 56)]
    assert together.rows[0]["merged_from"] == 2


# --- odd images ------------------------------------------------------------------------------------------------------


def test_a_single_pixel_is_an_image_without_a_region(one: Callable[..., Found]) -> None:
    found = one(scene(((0, 0, 1, 1), RED), height=1, width=1), "red")
    assert (found.state, found.outcome.width, found.outcome.height) == ("no_region", 1, 1)


@pytest.mark.parametrize("upright", [False, True])
def test_a_thread_of_an_image_has_its_box_along_the_thread(one: Callable[..., Found], upright: bool) -> None:
    picture = scene(((4000, 0, 12_000, 10), RED), height=10, width=20_000)
    found = one(picture.swapaxes(0, 1) if upright else picture, "red", threshold=0.5, max_aspect=1e6)
    ((x0, y0, x1, y1),) = found.boxes
    along, across = ((y0, y1), (x0, x1)) if upright else ((x0, x1), (y0, y1))
    assert along == pytest.approx((4000, 12_000), abs=20_000 / (4 * SHORT_SIDE))
    assert across == (0, 10)


def test_a_thread_of_a_box_is_implausible_by_default(one: Callable[..., Found]) -> None:
    assert one(scene(((4000, 0, 12_000, 10), RED), height=10, width=20_000), "red").state == "filtered"


# --- what goes wrong in one image stays there ------------------------------------------------------------------------

THINGS = {
    "a.png": scene((BOX, RED)),
    "c.png": scene(((2, 2, 30, 30), GREEN), ((40, 8, 90, 60), (0, 153, 0))),
    "e.png": MANY,
}


def alone(mined: Callable[..., dict[str, Found]], **options: Any) -> dict[str, tuple[Any, ...]]:
    """What is found in each of the things when it is the only image."""
    found = {name: mined({name: picture}, {name: ALL}, **options)[name] for name, picture in THINGS.items()}
    assert all(one.state == "labelled" for one in found.values())
    return {name: one.without_identity() for name, one in found.items()}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_map_that_is_no_number_quarantines_its_image_alone(
    mined: Callable[..., dict[str, Found]], batch_size: int
) -> None:
    broken = scene((BOX, RED), ((0, 0, 2, 2), WHITE))
    pictures = {**THINGS, "b.png": broken, "d.png": broken}
    found = mined(pictures, dict.fromkeys(pictures, ALL), localizer="overflowing", batch_size=batch_size)
    for name in ("b.png", "d.png"):
        assert (found[name].state, found[name].rows) == ("quarantined", [])
        assert name in found[name].outcome.reason
        assert "NaN" in found[name].outcome.reason
    expected = alone(mined, localizer="overflowing")
    assert {name: found[name].without_identity() for name in THINGS} == expected


def test_a_constant_map_is_no_region_and_touches_no_neighbour(mined: Callable[..., dict[str, Found]]) -> None:
    pictures = {**THINGS, "b.png": black() + np.uint8(255), "d.png": black()}
    found = mined(pictures, dict.fromkeys(pictures, ALL), batch_size=5)
    assert (found["b.png"].state, found["d.png"].state) == ("no_region", "no_region")
    assert {name: found[name].without_identity() for name in THINGS} == alone(mined)


def test_a_corrupt_image_is_quarantined_with_its_reason_and_touches_no_neighbour(
    mined: Callable[..., dict[str, Found]], tmp_path: Path
) -> None:
    Image.fromarray(THINGS["a.png"]).save(tmp_path / "half.png")
    half = (tmp_path / "half.png").read_bytes()[:80]
    pictures = {**THINGS, "b.png": b"no image at all", "d.png": half, "f.png": b""}
    found = mined(pictures, dict.fromkeys(pictures, ALL), batch_size=2)
    assert [found[name].state for name in ("b.png", "d.png", "f.png")] == ["quarantined"] * 3
    assert "not an image in a known format" in found["b.png"].outcome.reason
    assert "corrupt or truncated" in found["d.png"].outcome.reason
    assert "empty" in found["f.png"].outcome.reason
    assert {name: found[name].without_identity() for name in THINGS} == alone(mined)


def test_a_file_that_went_away_since_the_scan_is_quarantined(tmp_path: Path) -> None:
    run = opened(tmp_path, THINGS, dict.fromkeys(THINGS, ALL))
    (tmp_path / "images" / "c.png").unlink()
    mine_shard(run.path, 0)
    found = found_in(run)
    assert {name: one.state for name, one in found.items()} == {"a.png": "labelled", "c.png": "quarantined", "e.png": "labelled"}  # fmt: skip
    assert "no such file" in found["c.png"].outcome.reason


def test_a_shard_of_nothing_but_broken_images_ends(mined: Callable[..., dict[str, Found]]) -> None:
    found = mined({f"{n}.png": b"?" for n in range(40)}, None, batch_size=2)
    assert [one.state for one in found.values()] == ["quarantined"] * 40


# --- company and order -----------------------------------------------------------------------------------------------


def crowd() -> dict[str, np.ndarray]:
    """Images of three shapes in turn, each with things of its own."""
    random = np.random.default_rng(3)
    pictures = {}
    for number in range(14):
        height, width = ((64, 96), (96, 64), (70, 70))[number % 3]
        x, y, w, h = random.integers((0, 0, 10, 10), (30, 30, 33, 33)).tolist()
        colours = [tuple(colour) for colour in random.integers(60, 255, (2, 3)).tolist()]
        things = (((x, y, x + w, y + h), colours[0]), ((width - 12, 0, width, 12), colours[1]))
        pictures[f"{number:02d}.png"] = scene(*things, height=height, width=width)
    return pictures


def told(found: dict[str, Found]) -> list[tuple[Any, ...]]:
    return [one.without_identity() for one in found.values()]


@pytest.mark.parametrize("batch_size", [2, 3, 16])
def test_the_rows_do_not_depend_on_the_size_of_the_batches(
    mined: Callable[..., dict[str, Found]], batch_size: int
) -> None:
    options: dict[str, Any] = {"scales": (1.0, 1.5, 2.0), "class_cut": 0.3}
    single = mined(crowd(), None, batch_size=1, **options)
    assert sum(len(one.rows) for one in single.values()) > 20
    assert told(mined(crowd(), None, batch_size=batch_size, **options)) == told(single)


def test_the_rows_do_not_depend_on_the_order_of_the_images(mined: Callable[..., dict[str, Found]]) -> None:
    forward = mined(crowd(), None, batch_size=3)
    backward = mined({f"{99 - int(name[:2])}.png": picture for name, picture in crowd().items()}, None, batch_size=3)
    assert told(backward) == told(forward)[::-1]


def test_a_real_network_sees_an_image_alike_in_batches_of_any_size(
    mined: Callable[..., dict[str, Found]], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", ("cat", "dog"))
    write_photos(tmp_path / "photos", [f"{number}.jpg" for number in range(5)])
    photos = {path.name: path.read_bytes() for path in sorted((tmp_path / "photos").iterdir())}
    options: dict[str, Any] = {"model": model, "normalise": "minmax", "scales": (1.0, 1.5), "threshold": 0.4}
    single, several = (mined(photos, dict.fromkeys(photos, ("cat", "dog")), batch_size=n, **options) for n in (1, 4))
    for first, second in zip(single.values(), several.values(), strict=True):
        assert len(first.rows) > 0
        assert np.allclose(first.boxes, second.boxes, atol=1.01)
        assert [row["score"] for row in first.rows] == pytest.approx([row["score"] for row in second.rows], abs=1e-4)


# --- memory ----------------------------------------------------------------------------------------------------------


class Greedy(Painted):
    """Has memory for so many pixels in a pass, and says which numbers of images it was given."""

    name: ClassVar[str] = "greedy"
    room: ClassVar[int] = 0
    asked: ClassVar[list[int]] = []
    error: ClassVar[type[RuntimeError]] = torch.OutOfMemoryError
    words: ClassVar[str] = "CUDA out of memory. Tried to allocate 20.00 GiB."

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        self.asked.append(len(images))
        if images[:, 0].numel() > self.room:
            raise self.error(self.words)
        return super().localize(images, classes)


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> type[Greedy]:
    monkeypatch.setitem(LOCALIZERS, Greedy.name, Greedy)
    monkeypatch.setattr(Greedy, "asked", [])
    return Greedy


ALIKE = {f"{number}.png": scene((BOX, (255 - number, 0, 0))) for number in range(9)}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 GiB."),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_where_memory_is_short_batches_are_halved_and_nothing_is_lost(
    mined: Callable[..., dict[str, Found]],
    greedy: type[Greedy],
    monkeypatch: pytest.MonkeyPatch,
    error: type[RuntimeError],
    words: str,
) -> None:
    monkeypatch.setattr(greedy, "room", 2 * 64 * 96)
    monkeypatch.setattr(greedy, "error", error)
    monkeypatch.setattr(greedy, "words", words)
    found = mined(ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy", batch_size=8)
    assert greedy.asked == [8, 4, 2, 2, 4, 2, 2, 1], "halved once for the rest of the batch, and for good"
    expected = mined(ALIKE, dict.fromkeys(ALIKE, ("red",)))
    assert told(found) == [(*one[:3], [{**row, "localizer": "greedy"} for row in one[3]]) for one in told(expected)]


def test_later_batches_are_as_small_as_memory_asked_for(
    mined: Callable[..., dict[str, Found]], greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "room", 3 * 64 * 96)
    mined(ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy", batch_size=4)
    assert greedy.asked == [4, 2, 2, 2, 2, 1]


def test_further_scales_are_halved_too(
    mined: Callable[..., dict[str, Found]], greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight images of scale 1 would be two at scale 2."""
    monkeypatch.setattr(greedy, "room", 4 * 64 * 96)
    found = mined(ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy", batch_size=8, scales=(1.0, 2.0))
    assert [one.boxes for one in found.values()] == [[BOX]] * 9
    assert max(greedy.asked[1:]) == 4


def test_no_memory_for_one_image_is_said_with_the_remedy(
    tmp_path: Path, greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "room", 0)
    run = opened(tmp_path, ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy")
    with pytest.raises(ModelError, match=r"not enough memory for one image at scales 1\.0; give smaller --scales"):
        mine_shard(run.path, 0)


def test_other_errors_of_the_network_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "error", RuntimeError)
    monkeypatch.setattr(greedy, "words", "mat1 and mat2 shapes cannot be multiplied")
    run = opened(tmp_path, ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        mine_shard(run.path, 0)
    assert greedy.asked == [4]


# --- the adaptive pyramid --------------------------------------------------------------------------------------------


class SoftAtOneAndAHalf(Painted):
    """Blurs what is blue at scale 1.5, so that its box depends on the threshold there."""

    name: ClassVar[str] = "soft"
    seen: ClassVar[list[tuple[int, int]]] = []

    def colours(self, images: Tensor) -> Tensor:
        maps = super().colours(images)
        self.seen.append((len(images), images.shape[2]))
        if images.shape[2] == SHORT_SIDE * 3 // 2:
            maps[:, 2] = functional.avg_pool2d(maps[:, 2:], 41, stride=1, padding=20)[:, 0]
        return maps


@pytest.fixture
def soft(monkeypatch: pytest.MonkeyPatch) -> type[SoftAtOneAndAHalf]:
    monkeypatch.setitem(LOCALIZERS, SoftAtOneAndAHalf.name, SoftAtOneAndAHalf)
    monkeypatch.setattr(SoftAtOneAndAHalf, "seen", [])
    return SoftAtOneAndAHalf


PYRAMID = (1.0, 1.5, 2.0)


def test_the_adaptive_pyramid_looks_further_only_where_a_box_is_not_stable(
    mined: Callable[..., dict[str, Found]], soft: type[SoftAtOneAndAHalf]
) -> None:
    pictures = {f"{number}.png": scene((BOX, BLUE if number in (1, 6) else RED)) for number in range(8)}
    labels = {name: ("blue" if name in ("1.png", "6.png") else "red",) for name in pictures}
    options: dict[str, Any] = {"localizer": "soft", "scales": PYRAMID, "batch_size": 4}
    found = mined(pictures, labels, adaptive=0.95, **options)
    whole, middle = mined(pictures, labels, **options), mined(pictures, labels, **{**options, "scales": (1.5,)})
    for name, one in found.items():
        expected = whole if labels[name] == ("blue",) else middle
        assert one.boxes == expected[name].boxes
        assert [row["scales"] for row in one.rows] == [list(PYRAMID) if labels[name] == ("blue",) else [1.5]]
    assert whole["1.png"].boxes != middle["1.png"].boxes


def test_the_adaptive_pyramid_gives_small_work_to_the_network(
    mined: Callable[..., dict[str, Found]], soft: type[SoftAtOneAndAHalf]
) -> None:
    pictures = {f"{number}.png": scene((BOX, BLUE if number % 4 == 1 else RED)) for number in range(16)}
    labels = {name: ("blue",) if int(name[:-4]) % 4 == 1 else ("red",) for name in pictures}
    mined(pictures, labels, localizer="soft", scales=PYRAMID, batch_size=4, adaptive=0.95)
    images_at = {side: sum(count for count, height in soft.seen if height == side) for side in (64, 96, 128)}
    assert images_at == {96: 16, 64: 4, 128: 4}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_what_the_adaptive_pyramid_finds_does_not_depend_on_batches(
    mined: Callable[..., dict[str, Found]], batch_size: int
) -> None:
    options: dict[str, Any] = {"scales": PYRAMID, "class_cut": 0.3, "localizer": "coarse", "adaptive": 0.85}
    single = mined(crowd(), None, batch_size=4, **options)
    assert {len(row["scales"]) for one in single.values() for row in one.rows} == {1, 3}
    assert told(mined(crowd(), None, batch_size=batch_size, **options)) == told(single)


def test_an_image_of_which_another_threshold_loses_the_only_box_is_not_stable(
    mined: Callable[..., dict[str, Found]], soft: type[SoftAtOneAndAHalf]
) -> None:
    """At 0.9 of the peak the blurred square is a dot that is too small to be an object, at 0.63 it is not."""
    mined(
        {"a.png": scene(((40, 24, 60, 40), BLUE))}, {"a.png": ("blue",)}, localizer="soft", scales=PYRAMID,
        threshold=0.95, min_area=0.04, adaptive=0.01,
    )  # fmt: skip
    assert (1, 128) in soft.seen


def test_an_adaptive_pyramid_of_one_scale_is_that_scale(mined: Callable[..., dict[str, Found]]) -> None:
    assert told(mined(crowd(), None, adaptive=0.9)) == told(mined(crowd(), None))


def test_a_broken_map_is_quarantined_under_the_adaptive_pyramid_too(mined: Callable[..., dict[str, Found]]) -> None:
    pictures = {"a.png": THINGS["a.png"], "b.png": scene((BOX, RED), ((0, 0, 2, 2), WHITE))}
    found = mined(pictures, dict.fromkeys(pictures, ALL), localizer="overflowing", scales=(1.0, 2.0), adaptive=0.9)
    assert [one.state for one in found.values()] == ["labelled", "quarantined"]


# --- where the time goes ---------------------------------------------------------------------------------------------


def test_a_part_says_where_its_time_went(tmp_path: Path) -> None:
    run = opened(tmp_path, crowd(), None, scales=(1.0, 1.5), batch_size=3)
    started = time.perf_counter()
    mine_shard(run.path, 0)
    taken = time.perf_counter() - started
    timing = part_timing(run.part(0))
    assert timing is not None
    assert (timing.images, timing.threads, timing.turns, timing.devices) == (14, 2, True, ["cpu"])
    assert set(timing.stages) == {"decode", "resize", "copy", "network", "maps", "regions", "write"}
    assert all(seconds > 0 for seconds in timing.stages.values())
    assert sum(timing.stages.values()) + timing.waiting == pytest.approx(timing.seconds, rel=1e-6)
    assert timing.seconds <= taken


def test_time_is_told_of_each_shard_by_itself(tmp_path: Path) -> None:
    run = opened(tmp_path, crowd(), None, shard_size=7)
    for shard in (0, 1):
        mine_shard(run.path, shard)
    first, second = (part_timing(run.part(shard)) for shard in (0, 1))
    assert first is not None
    assert second is not None
    assert first.plus(second).images == 14
    assert first.plus(second).seconds == first.seconds + second.seconds
    assert second.stages["network"] < second.seconds


class Sleepy(nn.Module):
    """Gives what it got, later."""

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.2)
        return images


class SleepyMaps(Painted):
    """Sleeps outside of the layers."""

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        time.sleep(0.2)
        return super().localize(images, classes)


@pytest.mark.parametrize("stage", ["network", "maps"])
def test_the_layers_of_the_network_are_told_apart_from_what_is_made_of_them(tmp_path: Path, stage: str) -> None:
    run = opened(tmp_path, {"a.png": scene((BOX, RED))}, {"a.png": ("red",)})
    layer, kind = (Sleepy(), Painted) if stage == "network" else (nn.Identity(), SleepyMaps)
    anatomy = Anatomy([layer], (3,), (1,), None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    miner = Miner(kind(Backbone("pixels", anatomy), 3), read_card(run.model), run.settings())
    miner.mine(read_shard(run.corpus, 0).to_pylist())
    assert miner.timing is not None
    other = {"network": "maps", "maps": "network"}[stage]
    assert miner.timing.stages[stage] >= 0.2 > miner.timing.stages[other]


# --- shards ----------------------------------------------------------------------------------------------------------


def test_each_shard_has_a_part_with_its_images_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    run = opened(tmp_path, crowd(), None, shard_size=4, batch_size=3)
    for shard in (2, 0, 3, 1):
        told_of: list[int] = []
        outcomes = mine_shard(run.path, shard, told_of.append)
        assert sum(told_of) == len(outcomes) == (2 if shard == 3 else 4)
    assert [[o.image_id for o in part_outcomes(run.part(shard))] for shard in range(4)] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14]]  # fmt: skip


def test_the_boxes_of_a_part_lie_in_the_order_of_its_images(tmp_path: Path) -> None:
    """Though batches are formed by shape."""
    run = opened(tmp_path, crowd(), None, batch_size=3)
    mine_shard(run.path, 0)
    ids = pq.read_table(run.part(0))["image_id"].to_pylist()
    assert len(set(ids)) > 10
    assert ids == sorted(ids)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_progress_counts_each_image_once(tmp_path: Path, batch_size: int) -> None:
    pictures = {**THINGS, "b.png": b"?", "d.png": black(), "f.png": MANY, "g.png": MANY, "h.png": b""}
    run = opened(tmp_path, pictures, None, batch_size=batch_size)
    told_of: list[int] = []
    mine_shard(run.path, 0, told_of.append)
    assert sum(told_of) == len(pictures)


def test_a_watcher_is_shown_each_map_that_is_cut_once(tmp_path: Path) -> None:
    run = opened(tmp_path, {**THINGS, "b.png": b"?"}, dict.fromkeys([*THINGS, "b.png"], ALL))
    seen: list[tuple[str, str, tuple[int, int]]] = []

    def watch(row: dict[str, Any], category: str, activation: np.ndarray) -> None:
        assert activation.shape == (row["height"], row["width"])
        assert activation.dtype == np.float32
        seen.append((row["file_name"], category, activation.shape))

    mine_shard(run.path, 0, watch=watch)
    assert sorted((name, category) for name, category, _ in seen) == sorted((n, c) for n in THINGS for c in ALL)
    mine_shard(run.path, 0, watch=watch)
    assert len(seen) == len(THINGS) * len(ALL), "the part is there already"


def test_a_shard_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    run = opened(tmp_path, THINGS, dict.fromkeys(THINGS, ALL))
    first = mine_shard(run.path, 0)
    before = run.part(0).stat().st_mtime_ns
    (tmp_path / "images" / "a.png").unlink()
    told_of: list[int] = []
    again = mine_shard(run.path, 0, told_of.append)
    assert [(o.image_id, o.state) for o in again] == [(o.image_id, o.state) for o in first]
    assert told_of == [3]
    assert run.part(0).stat().st_mtime_ns == before


def test_a_damaged_part_is_made_again_with_the_same_rows(tmp_path: Path) -> None:
    run = opened(tmp_path, crowd(), None, batch_size=4, scales=(1.0, 2.0))
    mine_shard(run.path, 0)
    sound = pq.read_table(run.part(0))
    run.part(0).write_bytes(run.part(0).read_bytes()[:500])
    mine_shard(run.path, 0)
    assert pq.read_table(run.part(0)).equals(sound)
    assert sound.num_rows > 10


# --- curves ----------------------------------------------------------------------------------------------------------


def blob(centre: tuple[int, int], wide: float) -> np.ndarray:
    """Black with a red hill, larger than maps are cut at."""
    y, x = np.mgrid[:600, :900]
    pixels = black(600, 900)
    pixels[..., 0] = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * wide**2))
    return pixels


def test_curves_tell_what_mining_at_another_threshold_gives(tmp_path: Path) -> None:
    pictures = {"a.png": blob((300, 200), 60.0), "b.png": blob((880, 590), 90.0)}
    labels = {"a.png": ("red",), "b.png": ("red",)}
    run = opened(tmp_path / "one", pictures, labels, min_area=0.02, model=painted_model(tmp_path / "model"))
    mine_shard(run.path, 0)
    curves = {row["image_id"]: row for row in pq.read_table(run.curve_part(0)).to_pylist()}
    for threshold in (0.1, 0.5, 0.9):
        place = CURVE_THRESHOLDS.index(threshold)
        other = opened(
            tmp_path / str(threshold), pictures, labels, min_area=0.02, threshold=threshold,
            model=painted_model(tmp_path / "model"),
        )  # fmt: skip
        mine_shard(other.path, 0)
        for name, found in found_in(other).items():
            row = curves[found.outcome.image_id]
            stretch = np.tile([row["width"] / row["map_width"], row["height"] / row["map_height"]], 2)
            told = row["xyxy"][4 * place : 4 * place + 4] * stretch
            assert (row["width"], row["height"]) == (900, 600), name
            if found.boxes:
                assert told == pytest.approx(found.boxes[0], abs=1e-3)
            else:
                assert not told.any()


def test_boxes_do_not_depend_on_curves(tmp_path: Path) -> None:
    pictures, labels = {"a.png": blob((300, 200), 60.0)}, {"a.png": ("red",)}
    runs = [opened(tmp_path / str(curves), pictures, labels, curves=curves) for curves in (True, False)]
    for run in runs:
        mine_shard(run.path, 0)
    first, second = (found_in(run)["a.png"].without_identity() for run in runs)
    assert first == second
    assert not runs[1].curve_part(0).exists()


def test_a_part_without_its_curves_is_mined_again(tmp_path: Path) -> None:
    run = opened(tmp_path, {"a.png": blob((300, 200), 60.0)}, {"a.png": ("red",)})
    mine_shard(run.path, 0)
    whole = run.curve_part(0).read_bytes()
    run.curve_part(0).write_bytes(whole[:100])
    assert plan_mining(run.settings()).shards == [0]
    mine_shard(run.path, 0)
    assert run.curve_part(0).read_bytes() == whole


# --- thresholds of classes and of maps -------------------------------------------------------------------------------

HILLS = {"a.png": blob((300, 200), 60.0), "b.png": blob((450, 300), 200.0), "c.png": blob((880, 590), 90.0)}
ALL_RED = dict.fromkeys(HILLS, ("red",))


@pytest.mark.parametrize("curves", [True, False])
@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
def test_each_map_is_cut_where_it_says(
    mined: Callable[..., dict[str, Found]], tmp_path: Path, how: str, curves: bool
) -> None:
    run = opened(tmp_path, HILLS, ALL_RED, threshold=how, curves=curves)
    mine_shard(run.path, 0)
    assert run.curve_part(0).exists() == curves
    at = {name: {row["threshold"] for row in found.rows} for name, found in found_in(run).items()}
    assert all(len(thresholds) == 1 for thresholds in at.values())
    if how != "stability":  # hills of one shape, but not cut off alike
        assert len(set.union(*at.values())) > 1
    for name, (threshold,) in at.items():
        asked = mined({name: HILLS[name]}, {name: ("red",)}, threshold=float(np.float32(threshold)))[name]
        assert found_in(run)[name].boxes == asked.boxes


@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
def test_the_threshold_of_a_map_is_the_one_that_a_score_tells_of(tmp_path: Path, how: str) -> None:
    """That is, the box mined is the box which its curve has there."""
    run = opened(tmp_path, HILLS, ALL_RED, threshold=how)
    mine_shard(run.path, 0)
    found = {one.outcome.image_id: one for one in found_in(run).values()}
    for row in pq.read_table(run.curve_part(0)).to_pylist():
        xyxy = np.array(row["xyxy"], np.float32).reshape(1, -1, 4)
        grid = np.array(CURVE_THRESHOLDS)
        told = stable_positions(xyxy) if how == "stability" else nearest_positions(np.array([row[how]]), grid)
        stretch = np.tile([row["width"] / row["map_width"], row["height"] / row["map_height"]], 2)
        assert found[row["image_id"]].boxes[0] == pytest.approx(xyxy[0, told[0]] * stretch, abs=1e-3)


@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
@pytest.mark.parametrize("picture", [black(), np.full((64, 96, 3), 255, np.uint8)], ids=["nowhere", "everywhere"])
def test_a_map_that_says_nothing_has_no_box_at_its_own_threshold(
    one: Callable[..., Found], how: str, picture: np.ndarray
) -> None:
    assert one(picture, "red", threshold=how).state == "no_region"


def test_a_class_may_have_a_threshold_of_its_own(mined: Callable[..., dict[str, Found]]) -> None:
    pixels = HILLS["a.png"] + np.roll(HILLS["a.png"], 1, axis=2)  # the same hill in red and green
    pictures, labels = {"a.png": pixels}, {"a.png": ("red", "green")}
    common, other = (mined(pictures, labels, threshold=level)["a.png"] for level in (0.3, 0.8))
    mixed = mined(pictures, labels, threshold=0.3, class_thresholds={"green": 0.8})["a.png"]
    of_class = {row["category"]: row for row in mixed.rows}
    expected = (
        {row["category"]: row for row in common.rows}["red"],
        {row["category"]: row for row in other.rows}["green"],
    )
    for row in expected:
        own = of_class[row["category"]]
        assert [own[key] for key in ("x", "y", "w", "h", "score", "threshold")] == [
            row[key] for key in ("x", "y", "w", "h", "score", "threshold")
        ]


def test_a_threshold_for_a_class_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'gren' of class_thresholds: did you mean 'green'\?"):
        opened(tmp_path, HILLS, ALL_RED, class_thresholds={"gren": 0.3})
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
