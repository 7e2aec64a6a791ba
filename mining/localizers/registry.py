"""The localizers: one table of names, classes, summaries and references.

Importing this module imports no network library, so that lists and misspelt names are answered at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from mining.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from mining.localizers.base import Localizer


class LocalizerEntry(NamedTuple):
    """A localizer before its class is imported.

    module, class_name: where the class is. summary: one line. reference: "First author et al., title, where and when".
    """

    module: str
    class_name: str
    summary: str
    reference: str

    @property
    def citation(self) -> str:
        """The reference in short: "Zhou et al. 2016"."""
        return f"{self.reference.partition(',')[0]} {self.reference[-4:]}"


def _entry(module: str, class_name: str, summary: str, reference: str) -> LocalizerEntry:
    return LocalizerEntry(f"mining.localizers.{module}", class_name, summary, reference)


LOCALIZERS = {
    "cam": _entry(
        "cam",
        "CAM",
        "class activation maps of a linear head, measured against the mean class",
        "Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016",
    ),
    "ccam": _entry(
        "nlccam",
        "CCAM",
        "the maps of all classes, likely to unlikely, in one weighted sum",
        "Yang et al., Combinational Class Activation Maps for Weakly Supervised Object Localization, WACV 2020",
    ),
    "nlccam": _entry(
        "nlccam",
        "NLCCAM",
        "CCAM with non-local blocks at low and high level",
        "Yang et al., Combinational Class Activation Maps for Weakly Supervised Object Localization, WACV 2020",
    ),
    "ornet": _entry(
        "ornet",
        "ORNet",
        "masks from shallow layers, refined against a fixed classifier",
        "Xie et al., Online Refinement of Low-level Feature Based Activation Map, ICCV 2021",
    ),
    "spg": _entry(
        "spg",
        "SPG",
        "attention maps, supervised stage by stage by masks made of them",
        "Zhang et al., Self-produced Guidance for Weakly-supervised Object Localization, ECCV 2018",
    ),
    "gradcam": _entry(
        "gradient",
        "GradCAM",
        "channels weighted by their mean gradient",
        "Selvaraju et al., Grad-CAM, ICCV 2017",
    ),
    "gradcampp": _entry(
        "gradient",
        "GradCAMpp",
        "channels weighted by their positive gradients and higher-order terms",
        "Chattopadhay et al., Grad-CAM++, WACV 2018",
    ),
    "layercam": _entry(
        "gradient",
        "LayerCAM",
        "cells weighted by their own positive gradients; finer at lower stages",
        "Jiang et al., LayerCAM, IEEE TIP 2021",
    ),
    "msrd": _entry(
        "msrd",
        "MSRD",
        "local maxima of gradient weights at two layers, their maps added",
        "Lv et al., Multi-scale discriminative Region Discovery for Weakly-Supervised Object Localization, 2019",
    ),
    "mldfr": _entry(
        "mldfr",
        "MLDFR",
        "self-attention after each down-sampling, and a finer last stage",
        "Wang et al., Multi-Scale Low-Discriminative Feature Reactivation for Weakly Supervised Object Localization, "
        "IEEE TIP 2021",
    ),
}


def refuse_unknown_localizer(name: str) -> None:
    """Raise ModelError where there is no such localizer; it names the nearest one and lists the choices."""
    if name not in LOCALIZERS:
        raise ModelError(f"Unknown localizer {name!r}: {did_you_mean(name, LOCALIZERS)}")


def localizer_named(name: str) -> "type[Localizer]":
    """Import the class of a localizer.

    Raises:
        ModelError: There is no localizer of this name; it lists the choices.
    """
    refuse_unknown_localizer(name)
    entry = LOCALIZERS[name]
    kind: type[Localizer] = getattr(import_module(entry.module), entry.class_name)
    return kind
