"""Build a backbone, with or without pretrained weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, BackboneSpec, read_weights
from mining.backbones.registry import COCO, IMAGENET_CLASSES, refuse_without_coco, spec_of
from mining.errors import ModelError

_AUXILIARY_HEADS = ("AuxLogits", "aux1", "aux2")  # of InceptionV3 and GoogLeNet, in training only


def build(name: str, *, weights: str = "none", classes: int = IMAGENET_CLASSES) -> tuple[Backbone, nn.Linear | None]:
    """Build a backbone.

    Args:
        name: A listed backbone or a timm model.
        weights: 'none' (random, from torch's seed), 'imagenet' (installed or downloaded), 'coco' (downloaded; of a
            detector, which has no ImageNet classifier), or the path of a file.
        classes: Number of outputs of its classifier, if that is not ImageNet's.

    Returns:
        The backbone, and its ImageNet classifier where that is one linear layer on averaged features.

    Raises:
        ModelError: The name is unknown, or the weights are not available or do not fit.
    """
    spec = spec_of(name)
    network = spec.build_network()
    if classes != IMAGENET_CLASSES:
        layer, _ = last_layer(network)
        resize_outputs(network, classes)
    if weights != "none":
        if weights == "imagenet":
            state = spec.load_imagenet_weights()
        elif weights == COCO:
            state = _coco_weights(spec, network)
        else:
            state = spec.convert_weights(read_weights(Path(weights)), network)
        if classes != IMAGENET_CLASSES:
            refuse_other_outputs(state, layer, classes, weights)
        load_state(network, state, name, weights)
    stages = spec.split_into_stages(network)
    return Backbone(name, stages), stages.classifier if weights != COCO else None


def _coco_weights(spec: BackboneSpec, network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a detector's network, with the random classifier of the network given."""
    refuse_without_coco(spec.name)
    assert spec.load_coco_weights is not None
    name, _ = last_layer(network)
    classifier = {key: value for key, value in network.state_dict().items() if key.startswith(f"{name}.")}
    return {**classifier, **spec.load_coco_weights()}


def load_state(network: nn.Module, state: dict[str, Tensor], name: str, source: str) -> None:
    """Load a state dict; that of auxiliary heads which the network lacks is ignored.

    Args:
        network: The network.
        state: The state dict.
        name: The backbone's name, for messages.
        source: Where the state dict comes from, for messages.

    Raises:
        ModelError: It lacks a layer, or has one of another shape.
    """
    own = network.state_dict()
    auxiliary = [key for key in state if key.split(".")[0] in _AUXILIARY_HEADS]
    state = {key: value for key, value in state.items() if key not in auxiliary or key in own}
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    misshapen = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or misshapen:
        fault = f"lacks {missing[0]!r}" if missing else f"has another shape of {misshapen[0]!r}"
        if not missing:
            fault += f", {_shape(state[misshapen[0]])} instead of {_shape(own[misshapen[0]])}"
        raise ModelError(f"The weights {source!r} do not fit the backbone {name}: the file {fault}.")
    network.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def resize_outputs(network: nn.Module, classes: int) -> None:
    """Give a classifier of ImageNet another number of outputs: its last layer becomes a random one of that size.

    Raises:
        ModelError: No layer has as many outputs as ImageNet has classes.
    """
    _, last = last_layer(network)
    size = (classes, *last.weight.shape[1:])
    last.weight = nn.Parameter(torch.randn(size, device=last.weight.device) * 0.01)
    if last.bias is not None:
        last.bias = nn.Parameter(torch.zeros(classes, device=last.weight.device))
    if isinstance(last, nn.Linear):
        last.out_features = classes
    else:
        last.out_channels = classes


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the last layer that has as many outputs as ImageNet has classes, and its name.

    Raises:
        ModelError: There is none.
    """
    layers = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    last = next((one for one in reversed(layers) if one[1].weight.shape[0] == IMAGENET_CLASSES), None)
    if last is None:
        raise ModelError(f"The network has no layer of {IMAGENET_CLASSES} outputs, one for each class of ImageNet-1k.")
    return last


def refuse_other_outputs(state: dict[str, Tensor], layer: str, classes: int, source: str) -> None:
    """Check that a file of weights has one output for each class.

    Args:
        state: The state dict of the file.
        layer: Name of the last layer.
        classes: Number of classes.
        source: The file, for the message.

    Raises:
        ModelError: It has another number.
    """
    weight = state.get(f"{layer}.weight")
    if weight is not None and len(weight) != classes:
        raise ModelError(
            f"The weights {source!r} have {len(weight)} outputs, and there are {classes} class names; give "
            f"--class-names FILE with {len(weight)} names, one per line."
        )
