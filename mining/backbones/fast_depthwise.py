"""Depthwise convolutions: with a fast gradient on the CPU, and without cuDNN on a GPU.

The gradient of a depthwise convolution of stride 1 with respect to its input is a depthwise convolution with the kernel
rotated by 180 degrees. Computed as such, it uses the same fast CPU kernel as the convolution itself; torch's own
backward routine has no fast path for dilated kernels. For 4 images of 1152 channels, 14 x 14 cells and a 5 x 5 kernel
dilated by 2, it takes 15 ms instead of 1.0 (one core), more than half of a backward pass through the upper stages of
EfficientNet-Lite0.

In 16 bits, cuDNN compiles a kernel for each depthwise convolution and each shape of its input: the first pass of a
shape through EfficientNet-Lite0 took 1.5 to 2.3 s on an H100.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]
_ARGUMENTS = 7  # input, weight, bias, stride, padding, dilation, groups


class _ConvolutionMode(TorchFunctionMode):
    """In this context, `convolve` computes what `functional.conv2d` is called for."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (self.convolve if func is functional.conv2d else func)(*args, **(kwargs or {}))

    @abstractmethod
    def convolve(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute a convolution; the arguments of convolution layers are positional."""


class FastDepthwiseGradient(_ConvolutionMode):
    """In this context, depthwise convolutions of stride 1 on the CPU have the fast gradient, and none to the kernel."""

    def convolve(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute a convolution."""
        if not kwargs and (arguments := _depthwise_arguments(*args)) is not None:
            return cast(Tensor, _Depthwise.apply(*arguments))
        return functional.conv2d(*args, **kwargs)


class NativeDepthwise(_ConvolutionMode):
    """In this context, depthwise convolutions on a GPU are torch's own, not cuDNN's."""

    def convolve(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute a convolution."""
        is_native = not kwargs and len(args) == _ARGUMENTS and is_depthwise(args[1], args[-1])
        with torch.backends.cudnn.flags(enabled=False) if is_native else nullcontext():
            return functional.conv2d(*args, **kwargs)


def is_depthwise(kernel: Tensor, groups: int) -> bool:
    """Whether each of several groups of a convolution has one input channel, by its (D, D' / groups, h, w) kernel."""
    return groups > 1 and kernel.shape[1] == 1


def _depthwise_arguments(
    features: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: str | int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, Pair, Pair] | None:
    """The arguments of `_Depthwise`, from those of a convolution; None where it does not apply."""
    if groups == 1 or kernel.shape[:2] != (groups, 1) or features.device.type != "cpu" or isinstance(padding, str):
        return None
    padding, dilation = _pair(padding), _pair(dilation)
    if _pair(stride) != (1, 1) or min(_padding_back(kernel, padding, dilation)) < 0:
        return None
    return features, kernel, bias, padding, dilation


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, kernel: Tensor, bias: Tensor | None, padding: Pair, dilation: Pair
    ) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.padding, ctx.dilation = padding, dilation
        return functional.conv2d(features, kernel, bias, 1, padding, dilation, len(kernel))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (kernel,) = ctx.saved_tensors
        padding = _padding_back(kernel, ctx.padding, ctx.dilation)
        rotated = kernel.flip(2, 3)
        gradient = functional.conv2d(gradients[0], rotated, None, 1, padding, ctx.dilation, len(kernel))
        return gradient, None, None, None, None


def _padding_back(kernel: Tensor, padding: Pair, dilation: Pair) -> Pair:
    down, right = (rate * (side - 1) - pad for rate, side, pad in zip(dilation, kernel.shape[2:], padding, strict=True))
    return down, right


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
