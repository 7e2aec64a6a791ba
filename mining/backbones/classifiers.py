"""Whole classifiers, as torchvision and timm build them: with their own strides and their own head.

A backbone (see base.py) has its last down-sampling removed and no head. Methods that work on any network without a
change take a whole classifier instead: its stages, at the strides it was trained with, and the head behind them, for
example VGG-16's last max-pool and fully connected layers.

Images of any size pass: torchvision's and timm's heads pool the last features to the grid that their layers expect.
Fully connected layers after a 7 x 7 grid (VGG; 6 x 6 in AlexNet) see larger features averaged to that grid, and a
rectangle squeezed to a square. At scale 1 with `--resize square` the grid is exactly that of the training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from mining.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, StageSpec, read_weights
from mining.backbones.build import last_layer, load_state, refuse_other_outputs, resize_outputs
from mining.backbones.downloads import weights_download
from mining.backbones.graph_split import split_classifier
from mining.backbones.registry import IMAGENET_CLASSES, unknown_backbone
from mining.errors import ModelError


@dataclass(frozen=True)
class ClassifierSpec:
    """How a whole classifier is built.

    Attributes:
        name: torchvision's or timm's name of it.
        input_size: Side in px of the squares that its weights are evaluated on.
        mean: Per RGB channel, of values scaled to 0-1.
        std: Likewise.
        build_network: Builds the network with random weights.
        load_imagenet_weights: Returns the state dict of the pretrained network; may download it.
    """

    name: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    build_network: Callable[[], nn.Module]
    load_imagenet_weights: Callable[[], dict[str, Tensor]]


def classifier_spec(name: str) -> ClassifierSpec:
    """Return how torchvision's classifier of this name is built, or timm's if torchvision has none.

    Raises:
        ModelError: Neither library has one.
    """
    import torchvision

    if name in torchvision.models.list_models(module=torchvision.models):
        return _torchvision_spec(name)
    from mining.backbones.timm_networks import is_timm_model

    if is_timm_model(name):
        return _timm_spec(name)
    raise unknown_backbone(name)


def _torchvision_spec(name: str) -> ClassifierSpec:
    import torchvision

    weights = cast(Any, torchvision.models.get_model_weights(name))
    source = getattr(weights, "IMAGENET1K_V1", weights.DEFAULT)
    preset = source.transforms()

    def build_network() -> nn.Module:
        return torchvision.models.get_model(name, weights=None)

    def load_imagenet_weights() -> dict[str, Tensor]:
        with weights_download(name, from_hub=False):
            return cast(dict[str, Tensor], source.get_state_dict(progress=False, check_hash=True))

    return ClassifierSpec(
        name, preset.crop_size[0], tuple(preset.mean), tuple(preset.std), build_network, load_imagenet_weights
    )


def _timm_spec(name: str) -> ClassifierSpec:
    import timm

    from mining.backbones.timm_networks import timm_input_size

    config = timm.get_pretrained_cfg(name)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config is None else (tuple(config.mean), tuple(config.std))

    def load_imagenet_weights() -> dict[str, Tensor]:
        with weights_download(name, from_hub=True):
            return cast(dict[str, Tensor], timm.create_model(name, pretrained=True).state_dict())

    return ClassifierSpec(
        name, timm_input_size(name), mean, std,
        lambda: timm.create_model(name, pretrained=False), load_imagenet_weights,
    )  # fmt: skip


def build_classifier(
    name: str, *, weights: str = "none", classes: int = IMAGENET_CLASSES
) -> tuple[Backbone, nn.Module]:
    """Build a whole classifier.

    Args:
        name: torchvision's or timm's name of it.
        weights: 'none' (random, from torch's seed), 'imagenet' (downloaded, or from the library's cache), or the path
            of a file.
        classes: Number of its outputs; that of ImageNet's classes, or of those that the file was trained on.

    Returns:
        Its stages, and the head: from the (B, D, h, w) features of the last stage to (B, classes) logits.

    Raises:
        ModelError: There is no such network, it cannot be split into stages and head, or the weights are not available
            or do not fit.
    """
    spec = classifier_spec(name)
    network = spec.build_network()
    try:
        layer, _ = last_layer(network)
    except ModelError as error:
        raise ModelError(f"pretrained:{name} cannot mine: {error}") from None
    if classes != IMAGENET_CLASSES:
        resize_outputs(network, classes)
    parts = split_classifier(network, name)  # before anything is downloaded
    if weights != "none":
        state = spec.load_imagenet_weights() if weights == "imagenet" else read_weights(Path(weights))
        refuse_other_outputs(state, layer, classes, weights)
        load_state(network, state, name, weights)
    stages = StageSpec(
        parts.stages, parts.channels, parts.strides, None, mean=spec.mean, std=spec.std, input_size=spec.input_size
    )
    return Backbone(name, stages), parts.head
