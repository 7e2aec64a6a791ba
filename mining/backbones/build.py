"""Build a backbone, with or without pretrained weights."""

from pathlib import Path

from torch import Tensor, nn

from mining.backbones.base import Backbone, read_weights
from mining.backbones.registry import spec_of
from mining.errors import ModelError

_AUXILIARY_HEADS = ("AuxLogits", "aux1", "aux2")  # of InceptionV3 and GoogLeNet, in training only


def build(name: str, *, weights: str = "none") -> tuple[Backbone, nn.Linear | None]:
    """Build a backbone.

    Args:
        name: A listed backbone or a timm model.
        weights: 'none' (random, from torch's seed), 'imagenet' (installed or downloaded), or the path of a file.

    Returns:
        The backbone, and its ImageNet classifier where that is one linear layer on averaged features.

    Raises:
        ModelError: The name is unknown, or the weights are not available or do not fit.
    """
    spec = spec_of(name)
    network = spec.build_network()
    if weights != "none":
        if weights == "imagenet":
            state = spec.load_imagenet_weights()
        else:
            state = spec.convert_weights(read_weights(Path(weights)), network)
        _load_state(network, state, name, weights)
    stages = spec.split_into_stages(network)
    return Backbone(name, stages), stages.classifier


def _load_state(network: nn.Module, state: dict[str, Tensor], name: str, source: str) -> None:
    """Load a state dict; that of auxiliary heads which the network lacks is ignored."""
    own = network.state_dict()
    auxiliary = [key for key in state if key.split(".")[0] in _AUXILIARY_HEADS]
    state = {key: value for key, value in state.items() if key not in auxiliary or key in own}
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    misshapen = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or misshapen:
        fault = f"lacks {missing[0]!r}" if missing else f"has another shape of {misshapen[0]!r}"
        raise ModelError(f"The weights {source!r} do not fit the backbone {name}: the file {fault}.")
    network.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)
