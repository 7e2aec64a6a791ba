"""The network of mLDFR (sections III-D and IV-B).

The last down-sampling is replaced, batch norm is added where there is none, and the network is split where
self-attention stands. Every backbone follows one rule. The network is a row of units: layers, pools, blocks. A unit
that halves the resolution is a down-sampling, and attention follows the 2nd, 3rd and 4th of them:

    backbone         2nd           3rd                4th                the last becomes a transition layer
    vgg16            pool2  128    pool3  256         pool4  512         pool5: removed, a 3x3 convolution added
    googlenet        pool1   64    pool2  192         pool3  480         pool4: 1x1, 832 to 832
    inception_v3     pool1   64    pool2  192         Mixed_6a  768      Mixed_7a: 1x1, 768 to 1280
    resnet50         pool    64    layer2  512        layer3  1024       3x3 of stride 2 in layer4: 1x1, 512 to 512
    densenet161      pool    96    transition1  192   transition2  384   transition3: its 1x1, without the pool
    mobilenet_v2     block 2 24    block 4  32        block 7  64        block 14: 1x1, 96 to 160
    efficientnet_*   stage 2 24    stage 3  40        stage 4  80        stage 6: 1x1, 112 to 192 (of lite0 and lite1;
                     the first block of the stage, which has its stride)

Other networks of timm are a single stage: attention stands behind the block at which timm records features of 1/4, 1/8
and 1/16 of the image, and the last down-sampling stays as mining/backbones/timm_networks.py leaves it.

Where the paper leaves something open:

- The "down-sampling block" is the unit with the stride, except in ResNet: there only a 1x1 instead of the 3x3
  convolution gives the number of parameters in table V, and attention follows the whole layer2 and layer3 as in the
  released code (table V does not decide it, because their blocks have the same channels). The 1x1 on ResNet's shortcut
  keeps its weights at stride 1; in the released code it is initialised anew.
- DenseNet's transition3 has a 1x1 convolution of its own, which keeps its weights: only its pool is removed. The
  released code has the third attention behind it (1056 channels), the paper behind transition2.
- A transition layer is followed by batch norm and ReLU ("we insert a BN module after each convolutional module"), as in
  the released code; without ReLU in MobileNetV2 and EfficientNet, whose blocks have linear outputs.
- The convolutions behind it are not dilated: the paper mentions no dilation and the released code has none.
- torchvision's GoogLeNet has batch norms already, and the released code uses it unchanged: nothing is inserted.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models.resnet import Bottleneck

from mining.backbones.base import Backbone, dilate
from mining.errors import ModelError

_PROBE_PX = 96  # InceptionV3 takes no image much smaller
Units = list[nn.Module]


def rebuild(
    backbone: Backbone, *, last: Literal["transition", "dilated"], batch_norm: bool, extra_channels: int,
    cut_after: Sequence[int],
) -> Units:  # fmt: skip
    """Change a backbone into mLDFR's localization network, in place; its stages end where attention stands.

    Args:
        backbone: One of KNOWN.
        last: 'transition' as in the paper; 'dilated' keeps the backbone's own replacement of its last stride.
        batch_norm: After each convolution; False removes existing ones (ResNet50X of table IX).
        extra_channels: Channels of VGG16's added convolution.
        cut_after: Numbers of down-samplings, from 1, rising.

    Returns:
        The new modules, which are not pretrained.

    Raises:
        ModelError: The backbone has fewer down-samplings, or norms that cannot be removed.
    """
    if not batch_norm:
        _fold_batch_norms(backbone.stages, backbone.name)
    units = [unit for stage in backbone.stages[:-1] for unit in _units(stage)]
    behind = _units(backbone.stages[-1])
    new: Units = []
    if last == "transition":
        behind, new = _LAST[backbone.name](backbone.channels[-2], behind, batch_norm)
    units += behind
    if backbone.name == "vgg16":
        added = _extra_convolution(backbone.channels[-1], extra_channels)
        units, norms = _with_batch_norms([*units, *added], batch_norm)
        new = [*added, *norms]
    _cut(backbone, units, cut_after)
    return new


# --- the last down-sampling -------------------------------------------------------------------------------------------


def _transition(incoming: int, following: nn.Module, batch_norm: bool, activation: bool = True) -> nn.Sequential:
    """A 1x1 convolution with bias that "aligns the channel number between the previous and subsequent layers"."""
    outgoing = next(part.in_channels for part in following.modules() if isinstance(part, nn.Conv2d))
    layer = nn.Conv2d(incoming, outgoing, kernel_size=1, bias=True)
    _start(layer)
    norm = [nn.BatchNorm2d(outgoing)] if batch_norm else []
    return nn.Sequential(layer, *norm, *([nn.ReLU(inplace=True)] if activation else []))


def _googlenet(incoming: int, behind: Units, batch_norm: bool) -> tuple[Units, Units]:
    transition = _transition(incoming, behind[0], batch_norm)
    return [transition, *_undilated(behind)], [transition]


def _inception(incoming: int, behind: Units, batch_norm: bool) -> tuple[Units, Units]:
    transition = _transition(incoming, behind[1], batch_norm)
    return [transition, *_undilated(behind[1:])], [transition]


def _inverted_residuals(incoming: int, behind: Units, batch_norm: bool) -> tuple[Units, Units]:
    transition = _transition(incoming, behind[1], batch_norm, activation=False)
    return [transition, *_undilated(behind[1:])], [transition]


def _resnet(_: int, behind: Units, batch_norm: bool) -> tuple[Units, Units]:
    block = cast(Any, _undilated(behind)[0])[0]
    width = block.conv2.out_channels
    block.conv2 = nn.Conv2d(width, width, kernel_size=1, bias=True)
    _start(block.conv2)
    if not batch_norm:
        return behind, [block.conv2]
    block.bn2.reset_parameters()  # its statistics are those of the 3x3
    return behind, [block.conv2, block.bn2]


def _densenet(_: int, behind: Units, __: bool) -> tuple[Units, Units]:
    return _undilated(behind), []


def _vgg(_: int, behind: Units, __: bool) -> tuple[Units, Units]:
    return behind, []  # the fifth pool is not in the backbone


def _undilated(units: Units) -> Units:
    for unit in units:
        dilate(unit, rate=1)
    return units


_LAST: dict[str, Callable[[int, Units, bool], tuple[Units, Units]]] = {
    "vgg16": _vgg,
    "googlenet": _googlenet,
    "inception_v3": _inception,
    "resnet50": _resnet,
    "densenet161": _densenet,
    "mobilenet_v2": _inverted_residuals,
    "efficientnet_lite0": _inverted_residuals,
    "efficientnet_lite1": _inverted_residuals,
    "efficientnet_lite2": _inverted_residuals,
}
KNOWN = frozenset(_LAST)


# --- convolutions and their norms -------------------------------------------------------------------------------------


def _extra_convolution(incoming: int, channels: int) -> Units:
    """VGG16's 3x3 convolution "to compensate for the loss of learning capacity" of its fully connected layers."""
    layer = nn.Conv2d(incoming, channels, kernel_size=3, padding=1, bias=True)
    _start(layer)
    return [layer, nn.ReLU(inplace=True)]


def _with_batch_norms(units: Units, batch_norm: bool) -> tuple[Units, Units]:
    """A batch norm behind each convolution of a plain row of layers, and the norms alone."""
    norms = {unit: nn.BatchNorm2d(unit.out_channels) for unit in units if isinstance(unit, nn.Conv2d) and batch_norm}
    row = [part for unit in units for part in ([unit, norms[unit]] if unit in norms else [unit])]
    return row, list(norms.values())


def _fold_batch_norms(module: nn.Module, name: str) -> None:
    """Fold batch norms, as in evaluation mode, into the convolutions before them.

    Pretrained features stay the same, but nothing is normalised by a batch's statistics any more.
    """
    before: nn.Module | None = None
    for key, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            if not isinstance(before, nn.Conv2d):
                raise ModelError(
                    f"Option 'batch_norm' of the localizer: {name} has norms that follow no convolution and cannot be "
                    "removed (the paper removes them from VGG16, GoogLeNet and ResNet50)."
                )
            norm = cast(Any, child)
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            setattr(module, key, getattr(child, "act", nn.Identity()))  # timm's norms carry the activation
        else:
            _fold_batch_norms(child, name)
        before = child


def _start(layer: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(cast(Tensor, layer.bias))


# --- the row of units -------------------------------------------------------------------------------------------------


def _units(module: nn.Module) -> Units:
    """The layers, pools and blocks of a network in the order they run; a row of residual blocks is one unit."""
    if type(module) is not nn.Sequential or isinstance(module[0], Bottleneck):
        return [module]
    return [unit for child in module for unit in _units(child)]


def _halves(unit: nn.Module) -> bool:
    layers = (part for part in unit.modules() if isinstance(part, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d))
    return any(layer.stride in (2, (2, 2)) for layer in layers)


def _cut(backbone: Backbone, units: Units, cut_after: Sequence[int]) -> None:
    """Make the units the backbone's stages, each but the last ending with one of the named down-samplings."""
    places = [place for place, unit in enumerate(units, start=1) if _halves(unit)]
    if cut_after and cut_after[-1] > len(places):
        raise ModelError(f"Option 'after' of the localizer: {backbone.name} has only {len(places)} down-samplings.")
    ends = [0, *(places[number - 1] for number in cut_after), len(units)]
    backbone.stages = nn.ModuleList(nn.Sequential(*units[start:end]) for start, end in pairwise(ends))
    backbone.strides = tuple(2 ** sum(place <= end for place in places) for end in ends[1:])
    backbone.channels = _channels_of(backbone.stages)


def _channels_of(stages: nn.ModuleList) -> tuple[int, ...]:
    """Channels of each stage's output, found with an empty image."""
    modes = [part.training for part in stages.modules()]
    features = next(stages.parameters()).new_zeros(1, 3, _PROBE_PX, _PROBE_PX)
    channels = []
    with torch.no_grad():
        for stage in stages.eval():
            features = stage(features)
            channels.append(features.shape[1])
    for part, mode in zip(stages.modules(), modes, strict=True):
        part.training = mode
    return tuple(channels)


# --- networks of one stage --------------------------------------------------------------------------------------------


def timm_places(backbone: Backbone, numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Find where the down-samplings with these numbers end in a network of timm.

    Returns:
        Path in the backbone's stages and number of channels, one pair per down-sampling.

    Raises:
        ModelError: timm records no such place, as in a transformer.
    """
    places: dict[int, tuple[str, int]] = {}
    for info in getattr(getattr(backbone.stages[0], "network", None), "feature_info", []):
        places.setdefault(info["reduction"], (f"0.network.{info['module']}", info["num_chs"]))
    if not all(2**number in places for number in numbers):
        raise ModelError(
            f"mldfr needs features of 1/{', 1/'.join(str(2**number) for number in numbers)} of the image's size, which "
            f"{backbone.name} does not have. Use one of: {', '.join(sorted(KNOWN))}, or other options 'after'."
        )
    return [places[2**number] for number in numbers]
