"""The backbones that are listed; importing this module imports no network library."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mining.errors import ModelError, did_you_mean


class ListedBackbone(NamedTuple):
    """A backbone before anything is built.

    input_size: px, the side it was trained at. mines_untrained: its ImageNet classifier is one linear layer on averaged
    features.
    """

    input_size: int
    note: str
    mines_untrained: bool = True


BACKBONES = {
    "efficientnet_lite0": ListedBackbone(224, "timm; ImageNet weights come with boxmine, no download"),
    "efficientnet_lite1": ListedBackbone(240, "timm; ImageNet weights come with boxmine, no download"),
    "efficientnet_lite2": ListedBackbone(260, "timm; ImageNet weights come with boxmine, no download"),
    "vgg16": ListedBackbone(224, "torchvision; the classic of the papers, no linear ImageNet head", False),
    "googlenet": ListedBackbone(224, "torchvision; light"),
    "inception_v3": ListedBackbone(299, "torchvision; SPG's backbone"),
    "resnet50": ListedBackbone(224, "torchvision; the usual one"),
    "densenet161": ListedBackbone(224, "torchvision; strong and slow"),
    "mobilenet_v2": ListedBackbone(224, "torchvision; for small devices"),
}


def refuse_unknown_backbone(name: str) -> None:
    """Raises ModelError for a name that is neither listed nor anywhere in timm. Does not import timm."""
    if name in BACKBONES or _is_in_timm(name.partition(".")[0]):
        return
    raise ModelError(f"Unknown backbone {name!r}: {did_you_mean(name, BACKBONES)} Any timm model name works too.")


def _is_in_timm(name: str) -> bool:
    """Whether timm's sources define or mention a model of this name; those that it builds by rule are mentioned."""
    found = find_spec("timm")
    if found is None or not found.submodule_search_locations or not re.fullmatch(r"\w{3,100}", name):
        return False
    pattern = re.compile(rf"def {name}\(|['\"]{name}['\".]")
    sources = sorted(Path(found.submodule_search_locations[0], "models").glob("*.py"))
    return any(pattern.search(source.read_text(encoding="utf-8", errors="replace")) for source in sources)


def refuse_to_mine_untrained(backbone: str) -> None:
    """Raises ModelError for a backbone whose own ImageNet classifier gives no maps."""
    if backbone in BACKBONES and BACKBONES[backbone].mines_untrained:
        return
    refuse_unknown_backbone(backbone)
    raise cannot_mine_untrained(backbone)


def cannot_mine_untrained(backbone: str) -> ModelError:
    """The error that says so."""
    listed = ", ".join(name for name, known in BACKBONES.items() if known.mines_untrained)
    return ModelError(
        f"pretrained:{backbone} cannot mine: its ImageNet classifier is not one linear layer on averaged features. "
        f"Train it on your classes (`boxmine train --backbone {backbone}`), or take one of: {listed}."
    )
