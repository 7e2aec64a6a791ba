"""The cost of localizers is counted correctly and equals the tables in mining/localizers/README.md."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mining.backbones.build import build
from mining.localizers.loading import localizer_named
from mining.localizers.pyramid import localize_pyramid
from mining.localizers.registry import LOCALIZERS
from tests.benchmarks.costs import (
    BACKBONES,
    BEGIN,
    END,
    README,
    SCALES,
    SIDE,
    costs_of_mining,
    counting,
    drawn,
    mining_table,
    passes,
    tables,
)
from tests.factories import slow_except


def on_meta(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(size, dtype=dtype, device="meta")


def multiply_adds(function: Callable[[], object]) -> float:
    with counting() as seen:
        function()
    return seen.multiply_adds


# --- counting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 4])
def test_each_gradient_of_a_convolution_costs_what_the_convolution_does(groups: int) -> None:
    layer = nn.Conv2d(8, 12, kernel_size=3, groups=groups, device="meta")
    once = 6 * 7 * 12 * (8 // groups) * 9
    assert multiply_adds(lambda: layer(on_meta(1, 8, 8, 9))) == once
    assert multiply_adds(lambda: layer(on_meta(1, 8, 8, 9)).sum().backward()) == 2 * once
    assert multiply_adds(lambda: layer(on_meta(1, 8, 8, 9).requires_grad_()).sum().backward()) == 3 * once
    image = on_meta(1, 8, 8, 9).requires_grad_()
    assert multiply_adds(lambda: torch.autograd.grad(layer(image).sum(), image)) == 2 * once


def test_parameters_are_counted_where_they_are_used() -> None:
    network = nn.ModuleList(nn.Conv2d(3, 4, kernel_size=1, device="meta") for _ in range(2))
    used = network[0]
    with counting() as seen:
        torch.einsum("oi,bi->bo", used.weight.flatten(1), on_meta(2, 3))
    assert seen.parameters == {id(used.weight): 12}


@pytest.mark.parametrize("name", [name for name in LOCALIZERS if not localizer_named(name).needs_gradients])
def test_counts_are_the_same_with_real_tensors_and_on_the_meta_device(name: str) -> None:
    localizer = localizer_named(name)(build("efficientnet_lite0")[0], 20).eval()
    images, labels = torch.zeros(1, 3, 64, 96, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.int64)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        localizer.localize(images, labels)
    empty = drawn(name, "efficientnet_lite0").eval()
    with torch.no_grad():
        counted = multiply_adds(lambda: empty.localize(images.to("meta"), labels.to("meta")))
    assert counted == counter.get_total_flops() / 2


@pytest.mark.parametrize("name", slow_except(("ornet", "msrd"), ["cam", "nlccam", "ornet", "msrd"]))
def test_the_scales_add_up_to_the_pyramid(name: str) -> None:
    localizer, label = drawn(name, "mobilenet_v2").eval(), on_meta(1, 1, dtype=torch.int64)
    sides = {scale: round(SIDE * scale) for scale in SCALES}
    images = {scale: on_meta(1, 3, side, side, dtype=torch.uint8) for scale, side in sides.items()}
    with torch.no_grad():
        counted = multiply_adds(lambda: localize_pyramid(localizer, images, classes=label))
    assert sum(costs_of_mining(name, "mobilenet_v2").scales) == pytest.approx(counted / 1e9)


def test_a_partial_pass_is_distinguished_from_a_whole_one() -> None:
    first, further = passes_of("ornet", "resnet50")
    assert (first, further) == ("1 + 4 of 5 stages", "4 of 5 stages")
    assert passes_of("ornet", "resnet50", preset="paper") == ("1 + 1 of 5 stages", "1 of 5 stages")
    assert passes_of("nlccam", "vgg16", pooling="after") == ("1", "1")


def passes_of(name: str, backbone: str, **options: object) -> tuple[str, str]:
    cost = costs_of_mining(name, backbone, **options)
    return passes(cost.first), passes(cost.further)


# --- what is said of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", slow_except(("efficientnet_lite0",), BACKBONES))
def test_ornet_runs_the_evaluator_at_one_scale_only(backbone: str) -> None:
    localizer = drawn("ornet", backbone).eval()
    image, label = on_meta(1, 3, SIDE, SIDE, dtype=torch.uint8), on_meta(1, 1, dtype=torch.int64)
    with torch.no_grad():
        both = multiply_adds(lambda: localizer.localize(image, label))
        logits, the_map = multiply_adds(lambda: localizer(image)), multiply_adds(lambda: localizer.maps(image, label))
    assert both == logits + the_map


def committed() -> str:
    return README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def test_the_readme_row_of_cam_on_the_first_backbone_is_current() -> None:
    """`make costs` updates it."""
    heading, *rows = mining_table(next(iter(BACKBONES)), ["cam"]).splitlines()
    committed_rows = committed().splitlines()
    assert heading in committed_rows
    assert set(rows) - {""} <= set(committed_rows)


@pytest.mark.slow
def test_the_readme_tables_are_current() -> None:
    assert committed() == tables()
