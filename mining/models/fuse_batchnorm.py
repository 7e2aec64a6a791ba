"""Prepare a trained localizer for inference: the same function in fewer operations."""

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mining.backbones.base import Backbone
from mining.backbones.fast_depthwise import is_depthwise

N = TypeVar("N", bound=nn.Module)
_TOLERANCE = 1e-3


def prepare_for_inference(network: N, device: torch.device) -> N:
    """Move a network to the device, in evaluation mode, with the fastest memory format.

    The batch norms of its backbones are folded into the convolutions. Its weights then need no gradients, which threads
    that share it could not switch off and on again.
    """
    network = network.eval().requires_grad_(False)
    for part in network.modules():
        if isinstance(part, Backbone):  # a localizer may have more than one
            part.stages = _folded(part.stages)
    return network.to(device=device, memory_format=_memory_format(network, device))  # type: ignore[call-overload]


def _memory_format(network: nn.Module, device: torch.device) -> torch.memory_format:
    """Return the memory format that suits the convolutions.

    Torch's depthwise convolutions on GPUs are for contiguous images. On an H100, 32 images of 224 x 304 px take 4.6 ms
    through EfficientNet-Lite0 so, and 6.2 in channels-last; ResNet50 takes 6.4 and 4.7.
    """
    convolutions = (part for part in network.modules() if isinstance(part, nn.Conv2d))
    if device.type == "cuda" and any(is_depthwise(one.weight, one.groups) for one in convolutions):
        return torch.contiguous_format
    return torch.channels_last


def _folded(stages: nn.ModuleList) -> nn.ModuleList:
    """The stages with each batch norm folded into the convolution before it.

    Which convolution comes before is taken from the order of the modules, and the result is compared with the original
    on noise: stages that are built differently stay unchanged.
    """
    folded = copy.deepcopy(stages)
    if not _fold_children(folded):
        return stages
    noise = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain, fused = _through(stages, noise), _through(folded, noise)
    scale = float(plain.abs().max())
    return folded if float((plain - fused).abs().max()) <= _TOLERANCE * scale else stages


def _fold_children(module: nn.Module) -> int:
    count = 0
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            # timm's batch norms include the activation that follows them
            setattr(module, name, cast(nn.Module, getattr(child, "act", nn.Identity())))
            count += 1
        else:
            count += _fold_children(child)
        before = name, child
    return count


def _through(stages: nn.ModuleList, images: Tensor) -> Tensor:
    for stage in stages:
        images = stage(images)
    return images
