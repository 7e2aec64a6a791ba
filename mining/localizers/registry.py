"""The localizers: one table of names, classes, descriptions and references.

Importing this module imports no network library, so that lists, help and misspelt names are answered at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mining.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from mining.config import Normalisation


@dataclass(frozen=True)
class LocalizerEntry:
    """A localizer before its class is imported.

    Attributes:
        module: Module of its class.
        class_name: Name of its class.
        summary: One line.
        reference: "First author et al., title, venue and year".
        description: A few sentences: the idea, how it is trained, how maps are made.
        threshold: Default share of the normalised map at which maps are cut.
        normalise: Default normalisation, see MineOptions.
        needs_gradients: Whether `localize` runs backward, so that it must not be called in inference mode.
        class_agnostic: Whether there is one map per image, the same for every class.
        weights_of: Family of localizers whose weights are interchangeable; None where it has weights of its own.
        scales: Default scales of its own maps, when they are not refined.
        takes_evaluator: Whether a classifier that was trained beforehand evaluates its maps in training.
        preset_cuts: Threshold and normalisation by the value of its option `preset`, where they are not the above.
    """

    module: str
    class_name: str
    summary: str
    reference: str
    description: str = ""
    threshold: float = 0.25
    normalise: "Normalisation" = "max"
    needs_gradients: bool = False
    class_agnostic: bool = False
    weights_of: str | None = None
    scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    takes_evaluator: bool = False
    preset_cuts: "Mapping[str, tuple[float, Normalisation]]" = field(default_factory=dict)

    def map_cut(self, options: Mapping[str, Any]) -> "tuple[float, Normalisation]":
        """Return the threshold and the normalisation of the localizer's maps with these options."""
        return self.preset_cuts.get(str(options.get("preset")), (self.threshold, self.normalise))

    @property
    def citation(self) -> str:
        """The reference in short: "Zhou et al. 2016"."""
        return f"{self.reference.partition(',')[0]} {self.reference[-4:]}"


CLASSIFIER = "classifier"  # a linear head on averaged features, and nothing else

# Thresholds are the best on the training photos of two sets (VOC's classes, and seven everyday objects) with
# EfficientNet-Lite0 at three scales, unless the description says otherwise. Maps that sum positive weights only are
# higher in the background, and are cut higher.
LOCALIZERS = {
    "cam": LocalizerEntry(
        "mining.localizers.cam",
        "CAM",
        "class activation maps of a linear head, measured against the mean class",
        "Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016",
        "A linear classifier on globally averaged features is applied to every cell instead of to the average: its "
        "score in each cell is the class activation map. By default the mean map of all classes is subtracted, so "
        "that the map shows what distinguishes this class rather than any object. One forward pass gives logits and "
        "maps; only the classifier is trained.",
        weights_of=CLASSIFIER,
    ),
    "ccam": LocalizerEntry(
        "mining.localizers.nlccam",
        "CCAM",
        "the maps of all classes, from most to least probable, in one weighted sum",
        "Yang et al., Combinational Class Activation Maps for Weakly Supervised Object Localization, WACV 2020",
        "The map of a class is a weighted sum of the class activation maps of all classes, ranked by probability: "
        "the most probable ones are added, the least probable ones are subtracted as background. It reads the same "
        "classifier as CAM, so that a trained CAM model can be mined with it.",
        weights_of=CLASSIFIER,
    ),
    "nlccam": LocalizerEntry(
        "mining.localizers.nlccam",
        "NLCCAM",
        "CCAM with non-local blocks at low and high level",
        "Yang et al., Combinational Class Activation Maps for Weakly Supervised Object Localization, WACV 2020",
        "CCAM on a network with non-local blocks between its stages: each cell adds what it finds at the cells that "
        "resemble it, so that activation spreads from the most discriminative part to the whole object. The blocks "
        "start as identity and are trained with the classifier.",
        threshold=0.35,
    ),
    "ornet": LocalizerEntry(
        "mining.localizers.ornet",
        "ORNet",
        "masks from shallow layers, refined against a fixed classifier",
        "Xie et al., Online Refinement of Low-level Feature Based Activation Map, ICCV 2021",
        "A small encoder-decoder in the shallow layers of a classifier predicts one mask per image. In stage one it "
        "learns to mask the features without loss of classification; in stage two a fixed evaluator must recognise "
        "the class in the masked image, while an entropy loss makes the mask decided and an area loss keeps it small. "
        "Further scales cost little, because they run the shallow layers only. An image with two classes has the same "
        "boxes for both.",
        threshold=0.7,  # chosen on train photos of objects7-mini: areas above lower ones are too large
        # the border between background and foreground in eq. 12; in the paper 0.2 to 0.8 are as good (Fig. 11)
        preset_cuts={"paper": (0.5, "max")},
        class_agnostic=True,
        scales=(1.0,),  # as in the paper; at three, train photos of voc-mini have 43.2 % CorLoc instead of 46.9
        takes_evaluator=True,
    ),
    "spg": LocalizerEntry(
        "mining.localizers.spg",
        "SPG",
        "attention maps, supervised stage by stage by masks made from them",
        "Zhang et al., Self-produced Guidance for Weakly-supervised Object Localization, ECCV 2018",
        "The confident pixels of the classifier's attention map become masks of object and background. They supervise "
        "small branches at lower layers, whose outputs in turn supervise further branches, so that the shared "
        "features learn whole objects. When mining, only the attention map is computed.",
        preset_cuts={"paper": (0.35, "minmax")},
    ),
    "gradcam": LocalizerEntry(
        "mining.localizers.gradient",
        "GradCAM",
        "channels weighted by their mean gradient",
        "Selvaraju et al., Grad-CAM, ICCV 2017",
        "The channels of one stage are summed, each weighted by the mean gradient of the class score. At the last "
        "stage the gradient is known from the classifier and no backward pass is run; there the map is the positive "
        "part of CAM.",
        threshold=0.2,
        needs_gradients=True,
        weights_of=CLASSIFIER,
    ),
    "gradcampp": LocalizerEntry(
        "mining.localizers.gradient",
        "GradCAMpp",
        "channels weighted by their positive gradients and higher-order terms",
        "Chattopadhay et al., Grad-CAM++, WACV 2018",
        "As Grad-CAM, but a channel's weight is a sum of its positive gradients, each weighted by a closed-form "
        "coefficient, so that several instances of a class count equally.",
        threshold=0.3,
        needs_gradients=True,
        weights_of=CLASSIFIER,
    ),
    "layercam": LocalizerEntry(
        "mining.localizers.gradient",
        "LayerCAM",
        "cells weighted by their own positive gradients; finer at lower stages",
        "Jiang et al., LayerCAM, IEEE TIP 2021",
        "Each cell of each channel is weighted by its own positive gradient instead of by its channel's. This keeps "
        "the maps of lower stages (option `layer`) reliable, which are finer.",
        threshold=0.3,
        needs_gradients=True,
        weights_of=CLASSIFIER,
    ),
    "msrd": LocalizerEntry(
        "mining.localizers.msrd",
        "MSRD",
        "local maxima of gradient weights at two layers, their maps added",
        "Lv et al., Multi-scale discriminative Region Discovery for Weakly-Supervised Object Localization, 2019",
        "A channel's weight is the mean of all local maxima of its gradient weights (those of Grad-CAM++), so that "
        "small regions with a weak response count as much as large ones. The maps of two layers are added. Nothing is "
        "trained beyond the classifier.",
        threshold=0.45,  # the paper cuts maps "scaled between 0 and 1" (section IV-A), which is minmax, at 0.25
        needs_gradients=True,
        weights_of=CLASSIFIER,
    ),
    "mldfr": LocalizerEntry(
        "mining.localizers.mldfr",
        "MLDFR",
        "self-attention after each down-sampling, and a finer last stage",
        "Wang et al., Multi-Scale Low-Discriminative Feature Reactivation for Weakly Supervised Object Localization, "
        "IEEE TIP 2021",
        "Batch norm and a channel and spatial self-attention after the down-samplings reactivate features that a "
        "classifier alone would ignore, and the last down-sampling is replaced, which gives finer maps. The maps of "
        "several scales are summed.",
        preset_cuts={"paper": (0.2, "minmax")},
    ),
    "trilite": LocalizerEntry(
        "mining.localizers.trilite",
        "TriLite",
        "foreground, background and ambiguous regions on a frozen transformer",
        "Sabaghi and Oramas, TriLite: Efficient Weakly Supervised Object Localization with Universal Visual Features "
        "and Tri-Region Disentanglement, CVPR 2026",
        "A convolution and a softmax divide the patches of a frozen vision transformer into foreground, background and "
        "ambiguous. The mean of the foreground must be classified as the image's class, that of the background must "
        "not; ambiguous patches take part in neither. A second classifier reads the class token. Made for DINOv2; an "
        "image with two classes has the same boxes for both.",
        threshold=0.5,
        class_agnostic=True,
    ),
}


def refuse_unknown_localizer(name: str) -> None:
    """Check a localizer's name.

    Raises:
        ModelError: There is no such localizer; the message has the nearest name and the choices.
    """
    if name not in LOCALIZERS:
        raise ModelError(f"Unknown localizer {name!r}: {did_you_mean(name, LOCALIZERS)}")


def localizers_on_same_weights(name: str) -> list[str]:
    """List the other localizers that can be mined with a model trained for this one."""
    family = LOCALIZERS[name].weights_of
    return [other for other, entry in LOCALIZERS.items() if entry.weights_of == family and other != name and family]
