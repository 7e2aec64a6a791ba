from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.receptive_fields import CellGrid
from mining.corpus.images.decoding import resize_image, scaled_input_size
from mining.localizers.cam import CAM
from mining.localizers.pyramid import fuse_scales, localize_pyramid, pictures_of

SIZE = (48, 64)


@pytest.fixture
def localizer() -> CAM:
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU()), nn.Conv2d(8, 6, 3, 2, 1)]
    localizer = CAM(Backbone("small", StageSpec(stages, (8, 6), (4, 8), classifier=None)), classes=5)
    nn.init.normal_(localizer.classifier.weight)
    return localizer.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8, generator=torch.manual_seed(1))


def best(logits: Tensor) -> Tensor:
    return logits.topk(2).indices


def at_scales(images: Tensor, scales: Sequence[float]) -> dict[float, Tensor]:
    return {scale: resize_image(images, scaled_input_size(SIZE, scale)) for scale in scales}


def pyramid(localizer: CAM, images: Tensor, scales: Sequence[float], classes: object = best):
    with torch.inference_mode():
        return localize_pyramid(localizer, at_scales(images, scales), classes=classes)


def test_fusing_sums_the_maps_resized_to_one_size() -> None:
    generator = torch.manual_seed(0)
    levels = [torch.randn(3, *size, generator=generator) for size in ((6, 8), (9, 12), (12, 16))]
    expected = sum(functional.interpolate(level[None], (30, 41), mode="bilinear")[0] for level in levels)
    found = fuse_scales(levels, (30, 41))
    assert found.shape == (3, 30, 41)
    assert torch.allclose(found, expected, atol=1e-5)


def test_fusing_constant_maps_adds_their_values() -> None:
    levels = [torch.full((2, 3, 4), 0.5), torch.full((2, 6, 8), 2.0)]
    assert torch.allclose(fuse_scales(levels, (50, 70)), torch.full((2, 50, 70), 2.5))


def test_fusing_one_map_at_its_own_size_returns_it_unchanged() -> None:
    level = torch.randn(2, 7, 9, generator=torch.manual_seed(0))
    assert torch.equal(fuse_scales([level], (7, 9)), level)


def test_fusing_does_not_modify_its_inputs() -> None:
    level = torch.ones(1, 4, 4)
    fuse_scales([level, level], (4, 4))
    assert torch.equal(level, torch.ones(1, 4, 4))


def test_fusing_commutes_with_horizontal_flipping() -> None:
    level = torch.randn(1, 6, 8, generator=torch.manual_seed(0))
    assert torch.allclose(fuse_scales([level.flip(2)], (30, 40)), fuse_scales([level], (30, 40)).flip(2), atol=1e-6)


def test_fusing_places_each_cell_where_it_looks() -> None:
    level = torch.zeros(1, 3, 4)
    level[0, 1, 2] = 1.0
    found = fuse_scales([level], (30, 40), [CellGrid(2.5, 7.5, 10.0, 9.0)])[0]
    assert divmod(int(found.argmax()), 40) == (12, 25)
    assert float(found.max()) == pytest.approx(1.0)
    assert found[12, 21].item() == pytest.approx(5 / 9)


def test_cells_that_tile_the_image_are_fused_the_same_with_their_grid() -> None:
    level = torch.randn(2, 6, 8, generator=torch.manual_seed(0))
    size = (31, 45)
    found = fuse_scales([level, level], size, [CellGrid.tiling(size, (6, 8)), None])
    assert torch.equal(found, fuse_scales([level, level], size))
    moved = CellGrid.tiling(size, (6, 8)).scaled(1.0002, 1.0002)  # so little that only the method differs
    assert torch.allclose(fuse_scales([level], size, [moved]), fuse_scales([level], size), atol=0.05)


def test_each_scale_is_resized_from_the_original_image(images: Tensor) -> None:
    found = pictures_of(images[0], SIZE, (0.5, 2.0, 1.0))
    assert {scale: tuple(one.shape) for scale, one in found.items()} == {
        0.5: (3, 32, 32), 2.0: (3, 96, 128), 1.0: (3, 48, 64)
    }  # fmt: skip
    assert torch.equal(found[1.0], resize_image(images[0], SIZE))


def test_there_is_one_map_per_scale_in_the_given_order(localizer: CAM, images: Tensor) -> None:
    found = pyramid(localizer, images, (2.0, 1.0, 1.5))
    assert [(scale, tuple(level.shape)) for scale, level in found.levels.items()] == [
        (2.0, (2, 2, 12, 16)), (1.0, (2, 2, 6, 8)), (1.5, (2, 2, 9, 12))
    ]  # fmt: skip


def test_the_map_of_each_scale_equals_the_localizer_output_at_that_size(localizer: CAM, images: Tensor) -> None:
    found = pyramid(localizer, images, (1.0, 1.5))
    for scale, level in found.levels.items():
        with torch.inference_mode():
            alone = localizer.localize(resize_image(images, scaled_input_size(SIZE, scale)), found.classes)
        assert torch.allclose(alone.maps, level, atol=1e-5)


@pytest.mark.parametrize(
    ("scales", "nearest"), [((2.0, 1.0), 1.0), ((2.0, 0.75, 1.5), 0.75), ((2.0, 1.5), 1.5), ((1.5, 0.5), 0.5)]
)
def test_logits_and_classes_come_from_the_scale_nearest_to_one(
    localizer: CAM, images: Tensor, scales: tuple[float, ...], nearest: float
) -> None:
    found = pyramid(localizer, images, scales)
    with torch.inference_mode():
        logits = localizer(resize_image(images, scaled_input_size(SIZE, nearest)))
    assert torch.allclose(found.logits, logits, atol=1e-5)
    assert torch.equal(found.classes, best(logits))


def test_classes_are_selected_once_per_pyramid(localizer: CAM, images: Tensor) -> None:
    asked: list[Tensor] = []

    def choose(logits: Tensor) -> Tensor:
        asked.append(logits)
        return best(logits)

    pyramid(localizer, images, (0.5, 1.0, 2.0), choose)
    assert len(asked) == 1


def test_no_selected_classes_give_maps_without_class_channels(localizer: CAM, images: Tensor) -> None:
    found = pyramid(localizer, images, (2.0, 1.0), lambda logits: torch.zeros(2, 0, dtype=torch.int64))
    assert found.classes.shape == (2, 0)
    assert found.logits.shape == (2, 5)
    assert all(level.shape[1] == 0 for level in found.levels.values())
