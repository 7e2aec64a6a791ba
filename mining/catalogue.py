"""What there is to choose from, in one line each; light to import, so that lists and misspelt names do not wait."""

from typing import NamedTuple

from mining.errors import ModelError, did_you_mean


class ListedBackbone(NamedTuple):
    """A backbone before anything is built. input_size: px, the side it was trained at."""

    input_size: int
    note: str


LOCALIZERS = {
    "cam": "class activation maps of a linear head, measured against the mean class (Zhou 2016)",
    "ccam": "the maps of all classes, likely to unlikely, in one weighted sum (CCAM, Yang 2020)",
    "nlccam": "CCAM with non-local blocks at low and high level (NL-CCAM, Yang 2020)",
    "ornet": "masks from shallow layers, refined against a fixed classifier (ORNet, Xie 2021)",
    "spg": "attention maps that are taught by masks made of them, in stages (SPG, Zhang 2018)",
    "gradcam": "channels weighted by their mean gradient (Grad-CAM, Selvaraju 2017)",
    "gradcampp": "channels weighted by their positive gradients, higher orders too (Grad-CAM++ 2018)",
    "layercam": "cells weighted by their own positive gradients, fine at lower stages (LayerCAM 2021)",
    "msrd": "local maxima of gradient weights at two layers, their maps added (MSRD 2019)",
    "mldfr": "self-attention after each down-sampling, and a finer last stage (mLDFR, Wang 2021)",
}

BACKBONES = {
    "efficientnet_lite0": ListedBackbone(224, "timm; ImageNet weights come with boxmine, no download"),
    "efficientnet_lite1": ListedBackbone(240, "timm; ImageNet weights come with boxmine, no download"),
    "efficientnet_lite2": ListedBackbone(260, "timm; ImageNet weights come with boxmine, no download"),
    "vgg16": ListedBackbone(224, "torchvision; the classic of the papers, no linear ImageNet head"),
    "googlenet": ListedBackbone(224, "torchvision; light"),
    "inception_v3": ListedBackbone(299, "torchvision; SPG's backbone"),
    "resnet50": ListedBackbone(224, "torchvision; the usual one"),
    "densenet161": ListedBackbone(224, "torchvision; strong and slow"),
    "mobilenet_v2": ListedBackbone(224, "torchvision; for small devices"),
}


def refuse_unknown_localizer(name: str) -> None:
    """Raises ModelError that names the nearest and lists the choices."""
    if name not in LOCALIZERS:
        raise ModelError(f"Unknown localizer {name!r}: {did_you_mean(name, LOCALIZERS)}")
