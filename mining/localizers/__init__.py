"""The localizers by name."""

from mining.catalogue import refuse_unknown_localizer
from mining.localizers.base import Localization, Localizer
from mining.localizers.cam import CAM
from mining.localizers.gradient import GradCAM, GradCAMpp, LayerCAM
from mining.localizers.mldfr import MLDFR
from mining.localizers.msrd import MSRD
from mining.localizers.nlccam import CCAM, NLCCAM
from mining.localizers.ornet import ORNet
from mining.localizers.spg import SPG

LOCALIZERS: dict[str, type[Localizer]] = {
    kind.name: kind for kind in (CAM, CCAM, NLCCAM, ORNet, SPG, GradCAM, GradCAMpp, LayerCAM, MSRD, MLDFR)
}


def localizer_named(name: str) -> type[Localizer]:
    """The localizer's class; raises ModelError that lists the choices."""
    if name not in LOCALIZERS:
        refuse_unknown_localizer(name)
    return LOCALIZERS[name]


__all__ = ["LOCALIZERS", "Localization", "Localizer", "localizer_named"]
