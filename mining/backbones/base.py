"""Backbones as localizers use them: split into stages, with known channels, strides and normalisation.

A backbone takes RGB values 0-255 and returns the features after each of its stages. The last down-sampling of a
convolutional network is removed (output stride 16), as is usual in weakly supervised localization: the convolutions
behind it are dilated, so that pretrained weights see what they were trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from mining.backbones.tokens import cells_of, prefix_of, with_cells
from mining.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_PARALLEL = "module."  # before all names of a state dict that was saved from a network on several devices


@dataclass(frozen=True)
class StageSpec:
    """A network split into stages.

    Attributes:
        stages: Modules that run one after the other.
        channels: Channels of each stage's output.
        strides: Stride of each stage's output, in input px per cell.
        classifier: The ImageNet layer on the globally averaged last features; None where the network has no such layer.
        mean: Per RGB channel, of values scaled to 0-1.
        std: Likewise.
        input_size: Side in px of the squares it was trained on.
        prefix_tokens: Number of class and register tokens of a transformer, see mining/backbones/tokens.py.
        has_class_token: Whether the first of them is a class token.
        patch: Height and width in px of a transformer's patches, if its cells divide any image evenly.
    """

    stages: Sequence[nn.Module]
    channels: Sequence[int]
    strides: Sequence[int]
    classifier: nn.Linear | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    input_size: int = 224
    prefix_tokens: int = 0
    has_class_token: bool = False
    patch: tuple[int, int] | None = None


class Backbone(nn.Module):
    """A network that returns the features of all its stages.

    What runs the stages one by one passes on their outputs as they are, and reads them with `cells_of`.

    Attributes:
        stages: The stages, shallow to deep.
        channels: Channels of each stage's output.
        strides: Stride of each stage's output, in input px per cell.
        input_size: Side in px of the squares it was trained on.
        normalisation: Mean and deviation as a model card records them.
        prefix_tokens: Number of class and register tokens in the outputs of its stages.
        has_class_token: Whether the first of them is a class token.
        patch: Height and width in px of its patches, if its cells divide any image evenly; None if they do not.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, spec: StageSpec) -> None:
        super().__init__()
        self.name = name
        self.stages = nn.ModuleList(spec.stages)
        self.channels = tuple(spec.channels)
        self.strides = tuple(spec.strides)
        self.input_size = spec.input_size
        self.prefix_tokens, self.has_class_token = spec.prefix_tokens, spec.has_class_token
        self.patch = spec.patch
        self.normalisation = {"range": "0-255", "mean": list(spec.mean), "std": list(spec.std)}
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the features of every stage.

        Args:
            images: (B, 3, H, W) RGB values 0-255, uint8 or float.

        Returns:
            Shallow to deep, (B, channels[i], about H / strides[i], about W / strides[i]) each.
        """
        features = self.normalise(images)
        collected = []
        for stage in self.stages:
            features = stage(features)
            collected.append(self.cells_of(features))
        return collected

    def cells_of(self, features: Tensor) -> Tensor:
        """Return the (B, D, h, w) cells in the output of a stage."""
        return cells_of(features, self.prefix_tokens)

    def with_cells(self, features: Tensor, cells: Tensor) -> Tensor:
        """Replace the cells in the output of a stage by (B, D, h, w) others."""
        return with_cells(features, cells, self.prefix_tokens)

    def image_vector(self, features: Tensor) -> Tensor:
        """Return what describes the whole image in the output of a stage, (B, D): class token, or mean of the cells."""
        if self.has_class_token:
            return prefix_of(features, self.prefix_tokens)[:, 0]
        return self.cells_of(features).mean(dim=(2, 3))

    def keep(self, count: int) -> None:
        """Remove all stages but the first `count`."""
        self.stages = self.stages[:count]
        self.channels, self.strides = self.channels[:count], self.strides[:count]

    def normalise(self, images: Tensor) -> Tensor:
        """Convert (B, 3, H, W) RGB values 0-255 to the input of the first stage."""
        return (images.to(self.mean.dtype) - self.mean) / self.std


@dataclass(frozen=True)
class BackboneSpec:
    """How a backbone is built.

    Attributes:
        name: As in the registry.
        input_size: Side in px of the squares it was trained on.
        split_into_stages: Splits what `build_network` returns.
        build_network: Builds the network with random weights.
        load_imagenet_weights: Returns the state dict of the pretrained network; may download it.
        convert_weights: Converts a state dict from a file to the names and shapes of the network.
        load_coco_weights: Returns the state dict of the network in a detector trained on COCO, without the classifier;
            may download it. None if no such detector is published.
    """

    name: str
    input_size: int
    split_into_stages: Callable[[nn.Module], StageSpec]
    build_network: Callable[[], nn.Module]
    load_imagenet_weights: Callable[[], dict[str, Tensor]]
    convert_weights: Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] = lambda state, network: state
    load_coco_weights: Callable[[], dict[str, Tensor]] | None = None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or from a PyTorch file that holds no code (weights_only=True).

    Raises:
        ModelError: The file is missing or is not a file of plain weights.
    """
    if not path.is_file():
        raise ModelError(f"No weights file {path}; give 'imagenet', 'none' or an existing file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if "weights_only" in reason:  # torch advises to run the code in the file
            reason = "it is no file of torch.save, or contains code, which is not run."
        raise ModelError(f"{path} is not a file of plain weights: {reason}") from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict (names to tensors).")
    if state and all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): value for name, value in state.items()}
    return cast(dict[str, Tensor], state)


def dilate(module: nn.Module, rate: int = 2) -> None:
    """Dilate every k x k convolution of `module` by `rate`, keeping output sizes."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1:
            part.dilation = (rate, rate)
            part.padding = tuple(rate * (k // 2) for k in part.kernel_size)
