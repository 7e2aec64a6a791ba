"""Maps from the gradient of a class score: Grad-CAM, Grad-CAM++ and LayerCAM, on any stage of the backbone.

Notation: S^c is the score of class c, A^k_ij channel k of the stage's activation at cell (i, j), Z the number of cells,
g^k_ij = dS^c / dA^k_ij. The head of the classifier averages, so at the last stage g^k_ij = w_k^c / Z in every cell:
there Grad-CAM is the positive part of CAM (over Z), and LayerCAM is CAM without its negative weights. The methods go
their own ways at the stages below.

Thresholds are those of the highest CorLoc on the train photos of two sets together (VOC's classes, and seven everyday
objects) with EfficientNet-Lite0 at three scales; maps that hold positive weights only lie higher above 0 in the
background, and are cut higher.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone
from mining.backbones.fast_depthwise import FastDepthwiseGradient
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, ClassChoice, Localization, chosen_classes
from mining.localizers.classifier import Classifier
from mining.localizers.options import GradCAMConfig, GradCAMppConfig, build_config

# --- the methods, as functions of activation and gradient ------------------------------------------------------------
# An activation is (B, D, h, w); a gradient is, too, or (B, D, 1, 1) where it is the same in every cell.


def gradcam_weights(gradient: Tensor) -> Tensor:
    """w_k = 1/Z sum_ij g^k_ij (Grad-CAM eq. 1). (B, D, h, w) gradient to (B, D)."""
    return gradient.mean(dim=(2, 3))


def gradcampp_alphas(activation: Tensor, gradient: Tensor, *, eps: float = 0.0) -> Tensor:
    """The gradient weights of Grad-CAM++ (eq. 19), 0 where the gradient is: (B, D, h, w) each, alphas as gradient.

    alpha^k_ij = g^2 / (2 g^2 + g^3 sum_ab A^k_ab), which without eps is 1 / (2 + g sum_ab A^k_ab): in (0, 1/2] where
    gradient and activation are positive, without bound where the denominator passes 0.
    eps: added to the denominator; 1e-6 gives the numbers of the package grad-cam, which for gradients of averaging
        networks (g^2 about 1e-6) are far from the paper's.
    """
    total = activation.sum(dim=(2, 3), keepdim=True)
    if eps == 0:
        denominator = (total * gradient).add_(2)  # no square of a small gradient that would round to 0
        unknown = (gradient == 0) | (denominator == 0)
        return denominator.reciprocal_().masked_fill_(unknown, 0)
    square = gradient**2
    return torch.where(gradient != 0, square / (2 * square + total * (square * gradient) + eps), 0)


def gradcampp_weights(activation: Tensor, gradient: Tensor, *, eps: float = 0.0) -> Tensor:
    """w_k = sum_ij alpha^k_ij relu(g^k_ij) (Grad-CAM++ eq. 5). (B, D, h, w) each to (B, D)."""
    cells = activation.shape[2] * activation.shape[3]
    return (gradcampp_alphas(activation, gradient, eps=eps) * gradient.relu()).mean(dim=(2, 3)) * cells


def weighted_sum(weights: Tensor, activation: Tensor) -> Tensor:
    """sum_k w_k A^k: (B, D) weights and (B, D, h, w) activation to (B, h, w)."""
    return torch.einsum("bd,bdhw->bhw", weights, activation)


def layercam_map(activation: Tensor, gradient: Tensor) -> Tensor:
    """sum_k relu(g^k_ij) A^k_ij, each cell weighted by itself (LayerCAM). (B, D, h, w) each to (B, h, w)."""
    return (gradient.relu() * activation).sum(dim=1)


# --- what they share -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A stage of the backbone seen by one class of each image, float32.

    activation: (B, D, h, w). gradient: the same, or (B, D, 1, 1) where it is the same in every cell.
    """

    activation: Tensor
    gradient: Tensor


class GradientLocalizer(Classifier):
    """The classifier, and for each class asked for one backward pass from its score to the stages it is read at.

    What lies below the lowest of these stages runs without gradients; from there on everything is in the precision
    of the weights, because the gradients of an averaging head are too small for 16 bits. The gradient at the last stage
    is known without a pass, so a method that reads no other costs no more than CAM.
    Subclasses say at which stages and what map is made of them.
    """

    needs_gradients: ClassVar[bool] = True

    config: Any

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        config = build_config(self.Config, options)
        super().__init__(backbone, classes, dropout=config.dropout)
        self.config = config

    @abstractmethod
    def stages_read(self) -> Sequence[int]:
        """Indices of the backbone's stages that the maps are made of, lowest first."""

    @abstractmethod
    def map_of(self, stages: Sequence[Stage], scores: Tensor) -> Tensor:
        """(B, h, w), of the lowest stage's size, from the stages read and the (B,) scores that were differentiated."""

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Logits, and a map for each class asked for; in evaluation mode, for the gradients are those without dropout.

        A backward pass serves the first class of every image, the next the second, and so on; what few images ask for
        goes apart (see `taken_together`).
        """
        activations, logits = self.traced(images)
        wanted = chosen_classes(classes, logits.detach().float())
        together, apart = taken_together(wanted)
        wanted, apart = wanted.to(logits.device), apart.to(logits.device)
        maps = logits.new_zeros((*wanted.shape, *activations[0].shape[2:]), dtype=torch.float32)
        for start in range(0, len(apart), len(wanted)):
            image, place = apart[start : start + len(wanted)].unbind(dim=1)
            again = self.traced_above(activations[0].detach()[image])
            maps[image, place] = self.mapped(*again, wanted[image, place])
        for column in together:
            maps[:, column] = self.mapped(activations, logits, wanted[:, column], again=column != together[-1])
        return Localization(logits.detach().float(), wanted, maps)

    def traced(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The activations of the stages read and the (B, C) logits, with the graph between them and none below."""
        features = self.backbone.normalise(images)
        with torch.no_grad():
            for stage in list(self.backbone.stages)[: self.stages_read()[0] + 1]:
                features = stage(features)
        return self.traced_above(features)

    def traced_above(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same from the (B, D, h, w) features of the lowest stage read."""
        first, *further = self.stages_read()
        with (
            torch.autocast(features.device.type, enabled=False),
            torch.enable_grad(),
            constant(self.parameters()),
            FastDepthwiseGradient(),
        ):
            features = features.detach().to(self.classifier.weight.dtype).requires_grad_()
            activations = [features]
            for number, stage in enumerate(list(self.backbone.stages)[first + 1 :], start=first + 1):
                features = stage(features)
                if number in further:
                    activations.append(features)
            return activations, self.logits(features)

    def mapped(self, activations: Sequence[Tensor], logits: Tensor, classes: Tensor, *, again: bool = False) -> Tensor:
        """(B, h, w) float32: the map of a (B,) class of each image, from what was traced, which `again` keeps."""
        direction = self.direction(classes, logits)
        gradients = self.gradients(activations, logits, direction, again=again)
        stages = [Stage(one.detach(), gradient) for one, gradient in zip(activations, gradients, strict=True)]
        return self.map_of(stages, (logits.detach() * direction).sum(dim=1)).float()

    def gradients(
        self, activations: Sequence[Tensor], logits: Tensor, direction: Tensor, *, again: bool = False
    ) -> list[Tensor]:
        """Of the score that is the (B, C) direction, at the stages read; at the last stage (B, D, 1, 1).

        The head averages, so there dS^c / dA^k_ij = w_k^c / Z, and no pass is needed for it.
        """
        if self.stages_read()[-1] < len(self.backbone.stages) - 1:
            return list(torch.autograd.grad(logits, activations, direction, retain_graph=again))
        *lower, last = activations
        at_last = direction @ self.classifier.weight.detach().flatten(1) / (last.shape[2] * last.shape[3])
        below = torch.autograd.grad(logits, lower, direction, retain_graph=again) if lower else ()
        return [*below, at_last[:, :, None, None]]

    def direction(self, classes: Tensor, logits: Tensor) -> Tensor:
        """(B, C): the score that is differentiated, as weights of the logits. classes: (B,); NO_CLASS gives zeros."""
        named = (classes != NO_CLASS).to(logits.dtype)[:, None]
        direction = torch.zeros_like(logits).scatter_(1, classes.clamp(min=0)[:, None], named)
        if self.config.background == "mean" and logits.shape[1] > 1:
            direction = direction - named / logits.shape[1]
        return direction


def taken_together(classes: Tensor) -> tuple[list[int], Tensor]:
    """Which of the (B, K) classes share backward passes, and which go apart.

    Gives the columns of `classes` that are passed back through the graph of the whole batch, one after the other, and
    the (n, 2) image and column of the others, for which the stages above the lowest one read run again. That is so for
    a column that less than half of the images have: forward and backward through these takes less time than backward
    through all. One image has no such columns, and one column is everyone's.

    Measured with MSRD, in computing time of the bare forward pass (CPU, 4 images of 224 px); "1, 2, 5, 1" are classes
    of the four images, "anew" is all pairs of image and class forward and backward, "at once" is_grads_batched:

        VGG16      1: 1.09 (anew 1.14)  2: 1.2 (1.5; at once 1.4)  5: 1.6 (2.3; 1.5)  1, 2, 5, 1: 1.3 (1.4; columns 1.5)
        ResNet50   1: 1.8 (anew 2.0)    2: 2.6 (3.1; at once 2.6)  5: 4.7 (7.3; 4.9)  1, 2, 5, 1: 3.9 (3.5; columns 4.8)
        Lite0      1: 1.9 (anew 2.0)    2: 3.0 (3.1; at once 2.8)  5: 4.8 (10; 6.3)   1, 2, 5, 1: 4.1 (3.3; columns 5.1)
    """
    count, width = classes.shape
    if min(count, width) <= 1:
        return list(range(width)), torch.zeros((0, 2), dtype=torch.int64)
    asked = (classes != NO_CLASS).cpu()
    together = [place for place in range(width) if place == 0 or 2 * int(asked[:, place].sum()) >= count]
    asked[:, together] = False
    return together, asked.nonzero()


@contextmanager
def constant(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """In it the parameters are constants to autograd, which then keeps nothing for their gradients."""
    learning = [one for one in parameters if one.requires_grad]
    for one in learning:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in learning:
            one.requires_grad_(True)


def stage_index(backbone: Backbone, layer: int) -> int:
    """The stage that an option names, counted from the end where negative; raises ModelError where there is none."""
    count = len(backbone.stages)
    if not -count <= layer < count:
        raise ModelError(
            f"Option 'layer' of the localizer: {backbone.name} has {count} stages, 0 to {count - 1} or -{count} to -1 "
            f"(got {layer})."
        )
    return layer % count


# --- the localizers --------------------------------------------------------------------------------------------------


class OneStage(GradientLocalizer):
    """A gradient method that reads one stage, and shows what speaks for the class."""

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__(backbone, classes, **options)
        self.layer = stage_index(backbone, self.config.layer)

    def stages_read(self) -> Sequence[int]:
        return (self.layer,)

    def map_of(self, stages: Sequence[Stage], scores: Tensor) -> Tensor:
        activation = self.activation_map(stages[0], scores)
        return activation.relu() if self.config.relu else activation

    @abstractmethod
    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        """(B, h, w) before the final ReLU."""


class GradCAM(OneStage):
    """Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (2017).

    L = relu(sum_k w_k A^k) (eq. 2), w_k the mean gradient of the channel. Reported: 56.51 % top-1 localization error on
    ILSVRC with VGG-16, maps cut at 0.15 of their maximum. A class whose score no cell speaks for gets a map of zeros;
    `background` mean helps there. Options: see GradCAMConfig.
    """

    Config = GradCAMConfig
    name: ClassVar[str] = "gradcam"

    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        return weighted_sum(gradcam_weights(stage.gradient), stage.activation)


class GradCAMpp(OneStage):
    """Chattopadhyay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional
    Networks" (2018).

    L = relu(sum_k w_k A^k), w_k the positive gradients of the channel weighted by alpha (eqs. 5 and 19). Reported:
    52.76 % top-1 localization error on ILSVRC with VGG-16 (as the MSRD paper quotes it). The alphas suppose
    activations that are not negative. Options: see GradCAMppConfig.
    """

    Config = GradCAMppConfig
    name: ClassVar[str] = "gradcampp"

    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        weights = gradcampp_weights(stage.activation, stage.gradient, eps=self.config.eps)
        if self.config.score == "exp":  # dY/dA = exp(S) g
            weights = weights * scores.exp()[:, None]
        return weighted_sum(weights, stage.activation)


class LayerCAM(OneStage):
    """Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization" (2021).

    Each cell is weighted by its own positive gradient, so that lower stages (option `layer`) give fine maps. The
    released code localizes with one stage and cuts maps at 0.15 of their maximum, after GrabCut for the lower stages;
    GrabCut and the paper's fusion of several stages are not part of this. Options: see GradCAMConfig.
    """

    Config = GradCAMConfig
    name: ClassVar[str] = "layercam"

    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        return layercam_map(stage.activation, stage.gradient)
