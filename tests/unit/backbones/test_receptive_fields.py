"""Where cells look, against what is found without knowing any layer: gradients, and the responses to a bright blob."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.backbones.receptive_fields import CellGrid, cell_grid, resample_cells
from mining.backbones.registry import BACKBONES

PX = 224
SLOW = {"vgg16", "inception_v3", "resnet50", "densenet161", "googlenet", "efficientnet_lite1", "efficientnet_lite2"}
LISTED = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BACKBONES]


class AveragePools(TorchFunctionMode):
    """Max pools average in this context, because the gradient of a maximum of equal values is that of the first one."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (functional.max_pool2d, torch.max_pool2d):
            kwargs.pop("return_indices", None)
            kwargs.pop("dilation", None)
            return functional.avg_pool2d(*args[:4], **kwargs)
        return func(*args, **kwargs)


def with_middle_weights(backbone: Backbone) -> Backbone:
    """Make every layer see the middle of its kernel only, so that strides, dilations and paddings alone decide."""
    for part in backbone.modules():
        if isinstance(part, nn.Conv2d):
            rows, columns = part.kernel_size
            part.weight.data.zero_()
            part.weight.data[:, :, rows // 2, columns // 2] = 1 / part.weight.shape[1]
            if part.bias is not None:
                part.bias.data.zero_()
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
    return backbone.eval()


def centre_of(weights: Tensor) -> tuple[float, float]:
    """Centre of mass of (H, W) weights, from the upper left corner."""
    rows, columns = (torch.arange(side, dtype=torch.float64) + 0.5 for side in weights.shape)
    total = weights.double().sum()
    return float((weights.sum(1) @ rows.to(weights)) / total), float((weights.sum(0) @ columns.to(weights)) / total)


def look_by_gradient(backbone: Backbone, size: tuple[int, int], stage: int, cell: tuple[int, int]) -> tuple[float, ...]:
    """The centre of the gradient of one cell with respect to the image."""
    # little more than the mean: residual sums double it from block to block, and ReLU6 has no gradient above 6
    image = (backbone.mean + 0.01).expand(1, 3, *size).clone().requires_grad_()
    with AveragePools():
        features = backbone.normalise(image)
        for part in list(backbone.stages)[: stage + 1]:
            features = part(features)
        features[0, :, cell[0], cell[1]].sum().backward()
    assert image.grad is not None
    return centre_of(image.grad[0].sum(0))


def middle_cell(backbone: Backbone, size: tuple[int, int], stage: int) -> tuple[int, int]:
    stride = backbone.strides[stage]
    return size[0] // stride // 2, size[1] // stride // 2


@pytest.mark.parametrize("name", LISTED)
def test_cells_of_every_stage_look_where_their_gradient_lies(name: str) -> None:
    torch.manual_seed(0)
    backbone = with_middle_weights(build(name)[0])
    size = (160, 184)  # TensorFlow's padding differs between their remainders
    tolerance = 1.0 if name == "inception_v3" else 0.2  # the average pools of its branches reach the border
    for stage in range(len(backbone.stages)):
        grid = cell_grid(backbone, size, stage)
        assert grid is not None
        row, column = middle_cell(backbone, size, stage)
        y, x = look_by_gradient(backbone, size, stage, (row, column))
        assert abs(grid.start_y + row * grid.step_y - y) < tolerance
        assert abs(grid.start_x + column * grid.step_x - x) < tolerance
        assert (grid.step_y, grid.step_x) == pytest.approx((backbone.strides[stage],) * 2)


def responses(backbone: Backbone, places: Sequence[tuple[float, float]], brightness: float) -> Tensor:
    """(n, h, w) squared change of the last features by a blob at each place of a plain image."""
    side = torch.arange(PX) + 0.5
    plain = backbone.mean.expand(1, 3, PX, PX)
    colour = torch.tensor([1.0, 0.5, -0.5]).view(3, 1, 1)
    maps = []
    with torch.inference_mode():
        before = backbone(plain)[-1]
        for y, x in places:
            blob = torch.exp(-((side[:, None] - y) ** 2 + (side - x) ** 2) / 200)
            maps.append((backbone(plain + brightness * blob * colour)[-1] - before).square().sum(1)[0])
    return torch.stack(maps)


def mean_error(backbone: Backbone, brightness: float) -> tuple[float, float]:
    """Mean distance in y and x from blobs to the centres of the aligned responses to them, in px of 224."""
    places = [(y, x) for y in (82.0, 112.0, 142.0) for x in (80.0, 112.0, 144.0)]
    maps = responses(backbone, places, brightness)
    grid = cell_grid(backbone, (PX, PX)) or CellGrid.tiling((PX, PX), tuple(maps.shape[1:]))
    found = []
    for one in maps:
        row, column = (place - 0.5 for place in centre_of(one))
        found.append((grid.start_y + row * grid.step_y, grid.start_x + column * grid.step_x))
    error = torch.tensor(found) - torch.tensor(places)
    return float(error[:, 0].mean()), float(error[:, 1].mean())


@pytest.mark.parametrize("name", [*LISTED, "vit_tiny_patch16_224"])
def test_a_blob_is_found_where_it_is(name: str) -> None:
    torch.manual_seed(0)
    backbone, _ = build(name)
    if name.startswith("vit"):  # its weights mix the cells; without the blocks the patches remain
        for stage in backbone.stages:
            stage.blocks = nn.ModuleList()
    else:
        with_middle_weights(backbone)
    with AveragePools():
        y, x = mean_error(backbone.eval(), brightness=1.0)  # no ReLU6 is saturated
    assert abs(y) < 2
    assert abs(x) < 2


def small_backbone(*layers: nn.Module, stride: int) -> Backbone:
    return Backbone("small", StageSpec([nn.Sequential(*layers)], (3,), (stride,), classifier=None)).eval()


def test_a_cell_looks_at_the_weights_of_a_kernel_rather_than_at_its_middle() -> None:
    layer = nn.Conv2d(3, 3, 5, stride=2, padding=2)
    layer.weight.data.zero_()
    layer.weight.data[:, :, 1, 3] = -2.0
    grid = cell_grid(small_backbone(layer, stride=2), (64, 64))
    assert grid == CellGrid(-0.5, 1.5, 2.0, 2.0)


def test_offsets_of_several_layers_add_up() -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 3, 5, stride=2, padding=1, dilation=2),
        nn.Conv2d(3, 3, 3, stride=2),
        nn.Conv2d(3, 3, (1, 7)),
    ]
    for layer in layers:
        tap = [int(torch.randint(side, ())) for side in layer.kernel_size]
        layer.weight.data.zero_()
        layer.weight.data[:, :, tap[0], tap[1]] = 1.0
    backbone = small_backbone(*layers, stride=4)
    grid = cell_grid(backbone, (96, 96))
    assert grid is not None
    assert look_by_gradient(backbone, (96, 96), 0, (5, 4)) == pytest.approx((grid.start_y + 20, grid.start_x + 16))


def test_the_gain_of_a_channel_does_not_count() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1)
    before = cell_grid(small_backbone(layer, stride=1), (64, 64))
    layer.weight.data *= torch.tensor([1.0, 5.0, 0.1, 2.0]).view(4, 1, 1, 1)
    after = cell_grid(small_backbone(layer, stride=1), (64, 64))
    assert before is not None
    assert after is not None
    assert after.is_close_to(before)


def test_same_padding_depends_on_the_size_of_the_image() -> None:
    backbone = with_middle_weights(build("efficientnet_lite0")[0])
    even, odd = cell_grid(backbone, (224, 224)), cell_grid(backbone, (225, 224))
    assert even is not None
    assert odd is not None
    assert (even.start_y, even.start_x) == pytest.approx((15.5, 15.5))
    assert (odd.start_y, odd.start_x) == pytest.approx((0.5, 15.5))


def test_replaced_stages_have_a_grid_of_their_own() -> None:
    backbone = small_backbone(nn.Conv2d(3, 3, 3, stride=2, padding=1), stride=2)
    backbone.stages[0][0].weight.data.fill_(1)  # type: ignore[index]
    assert cell_grid(backbone, (64, 64)) == CellGrid(0.5, 0.5, 2.0, 2.0)
    backbone.stages = nn.ModuleList([nn.AvgPool2d(2), nn.Conv2d(3, 3, 1)])
    assert cell_grid(backbone, (64, 64)) == CellGrid(1.0, 1.0, 2.0, 2.0)


def test_tracing_leaves_the_mode_and_the_statistics_as_they_were() -> None:
    backbone = small_backbone(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), stride=1).train()
    cell_grid(backbone, (64, 64))
    norm = backbone.stages[0][1]  # type: ignore[index]
    assert norm.training
    assert int(norm.num_batches_tracked) == 0


def test_the_cells_of_a_plain_transformer_tile_the_image() -> None:
    assert cell_grid(build("vit_tiny_patch16_224")[0], (224, 224)) == CellGrid.tiling((224, 224), (14, 14))


def test_it_is_not_known_where_the_cells_of_shifted_windows_look() -> None:
    assert cell_grid(build("swin_tiny_patch4_window7_224")[0], (224, 224)) is None


def test_cells_that_tile_an_image_have_their_middles_at_half_a_step() -> None:
    assert CellGrid.tiling((64, 96), (4, 4)) == CellGrid(8.0, 12.0, 16.0, 24.0)


def test_rows_can_be_centred_without_moving_columns() -> None:
    assert CellGrid(1.0, 2.0, 16.0, 16.0).with_centred_rows(64, 3) == CellGrid(16.0, 2.0, 16.0, 16.0)


def test_resampling_to_pixels_interpolates_between_the_points_that_cells_look_at() -> None:
    level = torch.tensor([[[0.0, 1.0, 3.0]]])
    grid = CellGrid(0.5, 1.5, 1.0, 2.0)
    found = resample_cells(level, grid, CellGrid.tiling((1, 7), (1, 7)), (1, 7))
    assert torch.allclose(found[0, 0], torch.tensor([0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 3.0]))


def test_resampling_to_larger_cells_averages() -> None:
    level = torch.arange(8.0).view(1, 1, 1, 8)
    coarse = resample_cells(level, CellGrid.tiling((1, 8), (1, 8)), CellGrid.tiling((1, 8), (1, 4)), (1, 4))
    assert torch.allclose(coarse[0, 0, 0, 1:3], torch.tensor([2.5, 4.5]))
    constant = resample_cells(torch.ones(1, 1, 8), CellGrid.tiling((1, 8), (1, 8)), CellGrid(0.5, 7.0, 1, 5), (1, 4))
    assert torch.allclose(constant, torch.ones(1, 1, 4))


def test_resampling_commutes_with_mirroring() -> None:
    level = torch.randn(2, 6, 8, generator=torch.manual_seed(0))
    grid = CellGrid(7.0, 3.0, 16.0, 16.0)
    mirrored = CellGrid(7.0, 128 - 3.0 - 7 * 16.0, 16.0, 16.0)
    pixels = CellGrid.tiling((96, 128), (96, 128))
    plain = resample_cells(level, grid, pixels, (96, 128))
    assert torch.allclose(resample_cells(level.flip(2), mirrored, pixels, (96, 128)), plain.flip(2), atol=1e-5)


def test_a_grid_is_known_in_inference_mode_too() -> None:
    with torch.inference_mode():
        inside = cell_grid(build("mobilenet_v2")[0], (96, 128))
    torch.manual_seed(0)
    outside = cell_grid(build("mobilenet_v2")[0], (96, 128))
    assert inside is not None
    assert outside is not None
    assert inside.step_x == outside.step_x == 16
