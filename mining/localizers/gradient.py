"""Maps from the gradient of a class score: Grad-CAM, Grad-CAM++ and LayerCAM, on any stage of the backbone.

Each method sums the channels of an activation, weighted by the gradient of the class score: Grad-CAM by a channel's
mean gradient, Grad-CAM++ by its positive gradients with closed-form coefficients, LayerCAM cell by cell.

Notation: S^c is the score of class c, A^k_ij channel k of the stage's activation at cell (i, j), Z the number of cells,
g^k_ij = dS^c / dA^k_ij. Where the classifier averages, g^k_ij = w_k^c / Z in every cell of the last stage: there
Grad-CAM is the positive part of CAM (divided by Z), and LayerCAM is CAM without its negative weights. The methods
differ more at lower stages, and on unmodified classifiers with other heads (`GradientLocalizer.use_head`).

Differences from the papers:

- A trained classifier is a linear layer on averaged features, without the papers' fully connected layers; at the last
  stage no backward pass is run then. Unmodified classifiers have their own head.
- The default thresholds are the best on the training photos of two sets (VOC's classes, and seven everyday objects)
  with EfficientNet-Lite0 at three scales. Maps that sum positive weights only are higher in the background, and are cut
  higher.
- LayerCAM without GrabCut and without the fusion of several stages, which the paper describes too.

Reference:
    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
    Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks",
    WACV 2018.
    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.backbones.fast_depthwise import FastDepthwiseGradient
from mining.backbones.receptive_fields import CellGrid, cell_grid
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, ClassChoice, Explanation, Localization, chosen_classes
from mining.localizers.classifier import Classifier
from mining.localizers.option_values import build_config
from mining.localizers.options import GradCAMConfig, GradCAMppConfig
from mining.regions.refinement import scale_to_peak

# --- the methods, as functions of activation and gradient ------------------------------------------------------------
# An activation is (B, D, h, w); a gradient is the same, or (B, D, 1, 1) where it is equal in all cells.


def gradcam_weights(gradient: Tensor) -> Tensor:
    """Compute w_k = 1/Z sum_ij g^k_ij (Grad-CAM eq. 1), (B, D), from a (B, D, h, w) gradient."""
    return gradient.mean(dim=(2, 3))


def gradcampp_alphas(activation: Tensor, gradient: Tensor, *, eps: float = 0.0) -> Tensor:
    """Compute the gradient weights of Grad-CAM++ (eq. 19); they are 0 where the gradient is 0.

    alpha^k_ij = g^2 / (2 g^2 + g^3 sum_ab A^k_ab), which without eps is 1 / (2 + g sum_ab A^k_ab): in (0, 1/2] where
    gradient and activation are positive, unbounded where the denominator passes 0.

    Args:
        activation: (B, D, h, w).
        gradient: (B, D, h, w) or (B, D, 1, 1).
        eps: Added to the denominator. 1e-6 gives the numbers of the package grad-cam, which for the gradients of
            averaging networks (g^2 about 1e-6) are far from the paper's.

    Returns:
        Of the shape of the gradient.
    """
    total = activation.sum(dim=(2, 3), keepdim=True)
    if eps == 0:
        denominator = (total * gradient).add_(2)  # the square of a small gradient would round to 0
        unknown = (gradient == 0) | (denominator == 0)
        return denominator.reciprocal_().masked_fill_(unknown, 0)
    square = gradient**2
    return torch.where(gradient != 0, square / (2 * square + total * (square * gradient) + eps), 0)


def gradcampp_weights(activation: Tensor, gradient: Tensor, *, eps: float = 0.0) -> Tensor:
    """Compute w_k = sum_ij alpha^k_ij relu(g^k_ij) (Grad-CAM++ eq. 5), (B, D), from (B, D, h, w) each."""
    cells = activation.shape[2] * activation.shape[3]
    return (gradcampp_alphas(activation, gradient, eps=eps) * gradient.relu()).mean(dim=(2, 3)) * cells


def weighted_sum(weights: Tensor, activation: Tensor) -> Tensor:
    """Compute sum_k w_k A^k, (B, h, w), from (B, D) weights and a (B, D, h, w) activation."""
    return torch.einsum("bd,bdhw->bhw", weights, activation)


def layercam_map(activation: Tensor, gradient: Tensor) -> Tensor:
    """Compute sum_k relu(g^k_ij) A^k_ij, each cell weighted by itself (LayerCAM): (B, h, w) from (B, D, h, w)."""
    return (gradient.relu() * activation).sum(dim=1)


# --- common part -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """The activation of a stage, and its gradient for one class per image; float32.

    Attributes:
        activation: (B, D, h, w).
        gradient: The same, or (B, D, 1, 1) where it is equal in all cells.
    """

    activation: Tensor
    gradient: Tensor


class GradientLocalizer(Classifier):
    """The classifier, with one backward pass per class from its score to the stages that the method reads.

    Stages below the lowest of these run without gradients. Stages above it run in the precision of the weights, because
    the gradients of an averaging head are too small for 16 bits. The gradient at the last stage is known without a
    backward pass, so a method that reads no other stage costs no more than CAM. Subclasses state which stages they read
    and how the map is made.
    """

    needs_gradients: ClassVar[bool] = True
    inference_parts: ClassVar[tuple[str, ...]] = ("lower_features",)

    config: Any
    head: nn.Module | None

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        config = build_config(self.Config, options)
        super().__init__(backbone, classes, dropout=config.dropout)
        self.config = config
        self.register_module("head", None)

    def use_head(self, head: nn.Module) -> None:
        """Classify by an unmodified network's own head, of any layers, instead of a linear layer on averaged features.

        Args:
            head: From the (B, D, h, w) features of the last stage to (B, C) logits.
        """
        self.head = head
        del self.classifier

    def logits(self, features: Tensor) -> Tensor:
        """Classify (B, D, h, w) last features: (B, C) logits."""
        return super().logits(features) if self.head is None else self.head(features).flatten(1)

    @abstractmethod
    def stages_read(self) -> Sequence[int]:
        """Return the indices of the backbone's stages that the maps are made from, lowest first."""

    @abstractmethod
    def map_of(self, stages: Sequence[Stage], scores: Tensor) -> Tensor:
        """Make the (B, h, w) map, of the lowest stage's size.

        Args:
            stages: The stages that are read, lowest first.
            scores: (B,) scores that were differentiated.
        """

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Compute logits and a map for each class asked for; use evaluation mode, so that there is no dropout.

        One backward pass serves the first class of every image, the next one the second, and so on; classes in columns
        that few images have run separately (see `split_columns`).
        """
        activations, logits = self.trace(images)
        wanted = chosen_classes(classes, logits.detach().float())
        shared, separate = split_columns(wanted)
        wanted, separate = wanted.to(logits.device), separate.to(logits.device)
        size = self.backbone.cells_of(activations[0]).shape[2:]
        maps = logits.new_zeros((*wanted.shape, *size), dtype=torch.float32)
        for start in range(0, len(separate), len(wanted)):
            image, place = separate[start : start + len(wanted)].unbind(dim=1)
            rerun = self.trace_from(activations[0].detach()[image])
            maps[image, place] = self.make_maps(*rerun, wanted[image, place])
        for column in shared:
            maps[:, column] = self.make_maps(activations, logits, wanted[:, column], retain_graph=column != shared[-1])
        return Localization(logits.detach().float(), wanted, maps)

    def explain(self, images: Tensor, classes: Tensor) -> dict[str, Explanation]:
        """Map the layers conv5, conv4 and conv3 one by one, and add the maps of all of them."""
        maps = {name: self._maps_of([stage], images, classes) for name, stage in self.layers().items()}
        if len(maps) > 1:
            maps["+".join(maps)] = self.sum_of_layers(list(maps.values())[::-1])
        return {name: Explanation(some) for name, some in maps.items()}

    def layers(self) -> dict[str, int]:
        """Return the stages that are shown as layers, by name."""
        return named_layers(self.backbone)

    def _maps_of(self, stages: Sequence[int], images: Tensor, classes: Tensor) -> Tensor:
        """Compute the (B, K, h, w) maps of other stages than the options name."""
        other = copy(self)  # shares weights and modules
        other.stages_read = lambda: stages  # type: ignore[method-assign]
        return other.localize(images, classes).maps

    def sum_of_layers(self, maps: Sequence[Tensor]) -> Tensor:
        """Add (B, K, h', w') maps of several layers, the lowest first; each is divided by its maximum before.

        The gradients of one layer are not comparable with those of another, and the papers add none.
        """
        finest = (maps[0].shape[-2], maps[0].shape[-1])
        scaled = [functional.interpolate(scale_to_peak(one), finest, mode="bilinear") for one in maps]
        return torch.stack(scaled).sum(dim=0)

    def cell_grid(self, size: tuple[int, int]) -> CellGrid | None:
        """Return where the cells of the lowest stage that is read look, see Localizer."""
        return cell_grid(self.backbone, size, self.stages_read()[0])

    def trace(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute the activations of the stages read and the (B, C) logits, with no graph below them."""
        with torch.no_grad():
            return self.trace_from(self.lower_features(images))

    def lower_features(self, images: Tensor) -> Tensor:
        """Compute the output of the lowest stage read, (B, D, h, w)."""
        features = self.backbone.normalise(images)
        for stage in list(self.backbone.stages)[: self.stages_read()[0] + 1]:
            features = stage(features)
        return features

    def trace_from(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute the same from the (B, D, h, w) output of the lowest stage read."""
        first, *further = self.stages_read()
        with (
            torch.autocast(features.device.type, enabled=False),
            torch.enable_grad(),
            constant(self.parameters()),
            FastDepthwiseGradient(),
        ):
            features = features.detach().to(next(self.parameters()).dtype).requires_grad_()
            activations = [features]
            for number, stage in enumerate(list(self.backbone.stages)[first + 1 :], start=first + 1):
                features = stage(features)
                if number in further:
                    activations.append(features)
            return activations, self.logits(self.backbone.cells_of(features))

    def make_maps(
        self, activations: Sequence[Tensor], logits: Tensor, classes: Tensor, *, retain_graph: bool = False
    ) -> Tensor:
        """Make the map of one class per image.

        Args:
            activations: See `trace`.
            logits: See `trace`.
            classes: (B,) int64; NO_CLASS gives an undefined map.
            retain_graph: Whether further backward passes follow.

        Returns:
            (B, h, w) float32.
        """
        direction = self.direction(classes, logits)
        gradients = self.gradients(activations, logits, direction, retain_graph=retain_graph)
        stages = [
            Stage(self.backbone.cells_of(activation).detach(), gradient)
            for activation, gradient in zip(activations, gradients, strict=True)
        ]
        return self.map_of(stages, (logits.detach() * direction).sum(dim=1)).float()

    def gradients(
        self, activations: Sequence[Tensor], logits: Tensor, direction: Tensor, *, retain_graph: bool = False
    ) -> list[Tensor]:
        """Compute the gradients of a score at the stages read; at the last stage of a head that averages (B, D, 1, 1).

        There dS^c / dA^k_ij = w_k^c / Z, and no backward pass is needed.

        Args:
            activations: See `trace`.
            logits: See `trace`.
            direction: (B, C), the score as weights of the logits.
            retain_graph: Whether further backward passes follow.
        """
        reads_last = self.stages_read()[-1] == len(self.backbone.stages) - 1
        is_known = reads_last and self.head is None
        lower = activations[:-1] if is_known else activations
        whole = torch.autograd.grad(logits, lower, direction, retain_graph=retain_graph) if lower else ()
        below = [self.backbone.cells_of(gradient) for gradient in whole]
        if not is_known:
            return below
        height, width = self.backbone.cells_of(activations[-1]).shape[2:]
        at_last = direction @ self.classifier.weight.detach().flatten(1) / (height * width)
        return [*below, at_last[:, :, None, None]]

    def direction(self, classes: Tensor, logits: Tensor) -> Tensor:
        """Return the differentiated score as (B, C) weights of the logits; zeros where (B,) classes are NO_CLASS."""
        named = (classes != NO_CLASS).to(logits.dtype)[:, None]
        direction = torch.zeros_like(logits).scatter_(1, classes.clamp(min=0)[:, None], named)
        if self.config.background == "mean" and logits.shape[1] > 1:
            direction = direction - named / logits.shape[1]
        return direction


def split_columns(classes: Tensor) -> tuple[list[int], Tensor]:
    """Decide which of the (B, K) classes share backward passes.

    A column that less than half of the images have is not shared: running the stages above the lowest one read forward
    and backward for its images takes less time than a backward pass through the whole batch.

    Returns:
        The columns of `classes` that share a backward pass through the graph of the whole batch, and the (n, 2) image
        and column of all other classes, whose stages run again.

    Measured with MSRD, in units of the bare forward pass (CPU, 4 images of 224 px). "1, 2, 5, 1" are the numbers of
    classes of the four images; "anew" runs every pair of image and class forward and backward; "at once" is
    is_grads_batched:

        VGG16      1: 1.09 (anew 1.14)  2: 1.2 (1.5; at once 1.4)  5: 1.6 (2.3; 1.5)  1, 2, 5, 1: 1.3 (1.4; columns 1.5)
        ResNet50   1: 1.8 (anew 2.0)    2: 2.6 (3.1; at once 2.6)  5: 4.7 (7.3; 4.9)  1, 2, 5, 1: 3.9 (3.5; columns 4.8)
        Lite0      1: 1.9 (anew 2.0)    2: 3.0 (3.1; at once 2.8)  5: 4.8 (10; 6.3)   1, 2, 5, 1: 4.1 (3.3; columns 5.1)
    """
    count, width = classes.shape
    if min(count, width) <= 1:
        return list(range(width)), torch.zeros((0, 2), dtype=torch.int64)
    is_class = (classes != NO_CLASS).cpu()
    shared = [column for column in range(width) if column == 0 or 2 * int(is_class[:, column].sum()) >= count]
    is_class[:, shared] = False
    return shared, is_class.nonzero()


@contextmanager
def constant(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Make parameters constants to autograd in the block, so that nothing is kept for their gradients."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def named_layers(backbone: Backbone, *, by_stage: bool = False) -> dict[str, int]:
    """Return the index of the stage that is conv5, conv4 and conv3.

    These are the deepest stages of the largest strides, as in VGG-16, or the last three stages where all stages have
    one stride (transformers). Layers that the backbone does not have are left out.

    Args:
        backbone: The backbone.
        by_stage: Whether they are the last three stages in any case.
    """
    strides = backbone.strides
    by_stage = by_stage or len(set(strides)) == 1
    named = [n for n in range(len(strides) - 1, -1, -1) if by_stage or strides[n] not in strides[n + 1 :]]
    return dict(zip(("conv5", "conv4", "conv3"), named, strict=False))


def stage_index(backbone: Backbone, layer: int) -> int:
    """Return the index of the stage that an option names, counted from the end if negative.

    Raises:
        ModelError: The backbone has no such stage.
    """
    count = len(backbone.stages)
    if not -count <= layer < count:
        raise ModelError(
            f"Option 'layer' of the localizer: {backbone.name} has {count} stages, 0 to {count - 1} or -{count} to -1 "
            f"(got {layer})."
        )
    return layer % count


# --- the localizers --------------------------------------------------------------------------------------------------


class OneStage(GradientLocalizer):
    """A gradient method that reads one stage; option `relu` sets negative activation to 0."""

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__(backbone, classes, **options)
        self.layer = stage_index(backbone, self.config.layer)

    def stages_read(self) -> Sequence[int]:
        """Return the one stage of option `layer`."""
        return (self.layer,)

    def map_of(self, stages: Sequence[Stage], scores: Tensor) -> Tensor:
        """Make the map, see GradientLocalizer."""
        activation = self.activation_map(stages[0], scores)
        return activation.relu() if self.config.relu else activation

    @abstractmethod
    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        """Make the (B, h, w) map before the final ReLU.

        Args:
            stage: Activation and gradient.
            scores: (B,) scores that were differentiated.
        """


class GradCAM(OneStage):
    """Grad-CAM: L = relu(sum_k w_k A^k) (eq. 2), with w_k the mean gradient of the channel; options in GradCAMConfig.

    The paper reports 56.51 % top-1 localization error on ILSVRC with VGG-16, with maps cut at 0.15 of their maximum. A
    class that no cell supports has a map of zeros; `background: mean` helps there.
    """

    Config = GradCAMConfig
    name: ClassVar[str] = "gradcam"

    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        """Weight each channel by its mean gradient."""
        return weighted_sum(gradcam_weights(stage.gradient), stage.activation)


class GradCAMpp(OneStage):
    """Grad-CAM++: w_k is the sum of positive gradients weighted by alpha (eqs. 5, 19); options in GradCAMppConfig.

    Reported: 52.76 % top-1 localization error on ILSVRC with VGG-16 (quoted in the MSRD paper). The alphas assume
    activations that are not negative.
    """

    Config = GradCAMppConfig
    name: ClassVar[str] = "gradcampp"

    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        """Weight each channel by its positive gradients and the alphas."""
        weights = gradcampp_weights(stage.activation, stage.gradient, eps=self.config.eps)
        if self.config.score == "exp":  # dY/dA = exp(S) g
            weights = weights * scores.exp()[:, None]
        return weighted_sum(weights, stage.activation)


class LayerCAM(OneStage):
    """LayerCAM: each cell is weighted by its own positive gradient; options in GradCAMConfig.

    Lower stages (option `layer`) give finer maps. The released code localizes with one stage and cuts maps at 0.15 of
    their maximum, after GrabCut for the lower stages.
    """

    Config = GradCAMConfig
    name: ClassVar[str] = "layercam"

    def activation_map(self, stage: Stage, scores: Tensor) -> Tensor:
        """Weight each cell by its positive gradient."""
        return layercam_map(stage.activation, stage.gradient)
