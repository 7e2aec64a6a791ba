"""torchvision's networks, each split into stages with its last down-sampling removed."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import BackboneSpec, StageSpec, dilate
from mining.backbones.downloads import weights_download
from mining.backbones.registry import COCO_BACKBONES

_HALVES = (0.5, 0.5, 0.5)
_BODY = "backbone.body."  # before the names of a detector's network


def make_spec(name: str, input_size: int) -> BackboneSpec:
    """Return how a listed network of torchvision is built and split."""
    network = _NETWORKS[name]

    def build_network() -> nn.Module:
        return torchvision.models.get_model(name, weights=None, **network.options)

    def load_imagenet_weights() -> dict[str, Tensor]:
        source = cast(Any, torchvision.models.get_model_weights(name)).IMAGENET1K_V1
        with weights_download(name, from_hub=False):
            return cast(dict[str, Tensor], source.get_state_dict(progress=False, check_hash=True))

    def load_coco_weights() -> dict[str, Tensor]:
        source = cast(Any, torchvision.models.get_model_weights(network.detector)).COCO_V1
        remedy = (
            f"Download {source.url} on another computer into {Path(torch.hub.get_dir()) / 'checkpoints'}, or give "
            "`weights` imagenet."
        )
        with weights_download(name, from_hub=False, data="COCO", remedy=remedy):
            return body_of_detector(source.get_state_dict(progress=False, check_hash=True))

    return BackboneSpec(
        name, input_size, network.split_into_stages, build_network, load_imagenet_weights,
        load_coco_weights=load_coco_weights if network.detector else None,
    )  # fmt: skip


def body_of_detector(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the layers of the network that a detector of torchvision has as its body, named as in the network."""
    return {name.removeprefix(_BODY): value for name, value in state.items() if name.startswith(_BODY)}


def _split_vgg16(network: nn.Module) -> StageSpec:
    layers = cast(Any, network).features
    cuts = (0, 4, 9, 16, 23, 30)  # before each max-pool; the fifth is left out
    stages = [layers[start:end] for start, end in pairwise(cuts)]
    return StageSpec(stages, (64, 128, 256, 512, 512), (1, 2, 4, 8, 16), classifier=None)


def _split_googlenet(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    dilate(net.inception5a)
    dilate(net.inception5b)
    stages = [
        nn.Sequential(net.conv1, net.maxpool1, net.conv2, net.conv3),
        nn.Sequential(net.maxpool2, net.inception3a, net.inception3b),
        nn.Sequential(
            net.maxpool3, net.inception4a, net.inception4b, net.inception4c, net.inception4d, net.inception4e
        ),
        nn.Sequential(net.inception5a, net.inception5b),
    ]
    return StageSpec(stages, (192, 480, 832, 1024), (4, 8, 16, 16), net.fc, _HALVES, _HALVES)


class _UnstridedReduction(nn.Module):
    """InceptionV3's Mixed_7a without its stride: (B, 768, h, w) to (B, 1280, h, w)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        for unit in (cast(Any, block).branch3x3_2, cast(Any, block).branch7x7x3_4):
            unit.conv.stride, unit.conv.padding = (1, 1), (1, 1)

    def forward(self, features: Tensor) -> Tensor:
        block = cast(Any, self.block)
        small = block.branch3x3_2(block.branch3x3_1(features))
        wide = block.branch7x7x3_1(features)
        wide = block.branch7x7x3_4(block.branch7x7x3_3(block.branch7x7x3_2(wide)))
        pooled = functional.max_pool2d(features, kernel_size=3, stride=1, padding=1)
        return torch.cat([small, wide, pooled], dim=1)


def _split_inception_v3(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    dilate(net.Mixed_7b)
    dilate(net.Mixed_7c)
    stages = [
        nn.Sequential(net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3),
        nn.Sequential(net.maxpool1, net.Conv2d_3b_1x1, net.Conv2d_4a_3x3),
        nn.Sequential(net.maxpool2, net.Mixed_5b, net.Mixed_5c, net.Mixed_5d),
        nn.Sequential(net.Mixed_6a, net.Mixed_6b, net.Mixed_6c, net.Mixed_6d, net.Mixed_6e),
        nn.Sequential(_UnstridedReduction(net.Mixed_7a), net.Mixed_7b, net.Mixed_7c),
    ]
    return StageSpec(stages, (64, 192, 288, 768, 2048), (2, 4, 8, 16, 16), net.fc, _HALVES, _HALVES, 299)


def _split_resnet50(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    stages = [nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool), net.layer1, net.layer2, net.layer3, net.layer4]
    return StageSpec(stages, (64, 256, 512, 1024, 2048), (4, 4, 8, 16, 16), net.fc)


def _split_densenet161(network: nn.Module) -> StageSpec:
    layers = cast(Any, network).features
    layers.transition3.pool = nn.Identity()
    dilate(layers.denseblock4)
    stages = [
        nn.Sequential(layers.conv0, layers.norm0, layers.relu0, layers.pool0, layers.denseblock1),
        nn.Sequential(layers.transition1, layers.denseblock2),
        nn.Sequential(layers.transition2, layers.denseblock3),
        nn.Sequential(layers.transition3, layers.denseblock4, layers.norm5, nn.ReLU()),
    ]
    return StageSpec(stages, (384, 768, 2112, 2208), (4, 8, 16, 16), cast(Any, network).classifier)


def _split_mobilenet_v2(network: nn.Module) -> StageSpec:
    layers = cast(Any, network).features
    layers[14].conv[1][0].stride = (1, 1)
    dilate(layers[15:18])
    cuts = (0, 2, 4, 7, 14, 19)
    stages = [layers[start:end] for start, end in pairwise(cuts)]
    return StageSpec(stages, (16, 24, 32, 96, 1280), (2, 4, 8, 16, 16), cast(Any, network).classifier[1])


class _Network(NamedTuple):
    split_into_stages: Callable[[nn.Module], StageSpec]
    options: Mapping[str, Any]
    detector: str = ""  # of torchvision, on this network, trained on COCO


_WITHOUT_AUXILIARY_HEADS = {"aux_logits": False, "init_weights": False, "transform_input": False}

_NETWORKS = {
    "vgg16": _Network(_split_vgg16, {}),
    "googlenet": _Network(_split_googlenet, _WITHOUT_AUXILIARY_HEADS),
    "inception_v3": _Network(_split_inception_v3, _WITHOUT_AUXILIARY_HEADS),
    "resnet50": _Network(
        _split_resnet50, {"replace_stride_with_dilation": [False, False, True]}, COCO_BACKBONES["resnet50"]
    ),
    "densenet161": _Network(_split_densenet161, {}),
    "mobilenet_v2": _Network(_split_mobilenet_v2, {}),
}
