"""Depthwise convolutions with the fast gradient give the numbers of autograd; other convolutions are unchanged."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mining.backbones.fast_depthwise import FastDepthwiseGradient

CHANNELS = 6
QUICK = "_DepthwiseBackward"


def convolution(**options: Any) -> nn.Conv2d:
    torch.manual_seed(1)
    settings = {"kernel_size": 3, "groups": CHANNELS, **options}
    return nn.Conv2d(CHANNELS, settings.pop("channels", CHANNELS), **settings).double()


def there_and_back(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """The layer's output, and the gradient to its input of a weighted sum of it."""
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, CHANNELS, 11, 13, dtype=torch.float64, generator=generator).requires_grad_()
    out = layer(features)
    weights = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    return out, torch.autograd.grad(out, features, weights)[0]


def assert_equal_to_autograd(layer: nn.Conv2d, *, quick: bool) -> None:
    plain, gradient = there_and_back(layer)
    with FastDepthwiseGradient():
        out, ours = there_and_back(layer)
    assert (type(out.grad_fn).__name__ == QUICK) is quick
    assert type(plain.grad_fn).__name__ != QUICK
    assert torch.equal(out, plain)
    assert gradient.abs().max() > 0.1
    torch.testing.assert_close(ours, gradient, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 2, "dilation": 2},
        {"kernel_size": 5, "padding": 4, "dilation": 2},
        {"kernel_size": 4, "padding": 1},
        {"kernel_size": (3, 5), "padding": (0, 3), "dilation": (1, 2)},
        {"padding": 0},
    ],
)
def test_the_gradient_equals_autograds(options: dict[str, Any], bias: bool) -> None:
    assert_equal_to_autograd(convolution(bias=bias, **options), quick=True)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"groups": 1, "padding": 1},
        {"groups": 3, "padding": 1},
        {"channels": 2 * CHANNELS, "padding": 1},
        {"padding": 3},  # more than the kernel reaches: the turned one would have to cut off
        {"padding": "same"},
    ],
)
def test_other_convolutions_are_unchanged(options: dict[str, Any]) -> None:
    assert_equal_to_autograd(convolution(**options), quick=False)
