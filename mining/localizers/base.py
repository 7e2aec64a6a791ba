"""The contract of every localizer: logits from images, raw activation maps for the classes asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.backbones.receptive_fields import CellGrid
from mining.config import Normalisation, Objective
from mining.errors import ModelError
from mining.localizers.registry import LOCALIZERS

if TYPE_CHECKING:
    from mining.localizers.cell_classifier import CellClassifier

NO_CLASS = -1
ClassChoice = Tensor | Callable[[Tensor], Tensor]
_LISTED = ("threshold", "normalise", "needs_gradients", "class_agnostic", "weights_of")


@dataclass(frozen=True)
class Localization:
    """The result of localizing a batch.

    Attributes:
        logits: (B, C) float32.
        classes: (B, K) int64, the class of each map; NO_CLASS where an image has fewer than K.
        maps: (B, K, h, w) float32, raw and not normalised; those of NO_CLASS are undefined. Of a class-agnostic
            localizer (B, 1, h, w).
    """

    logits: Tensor
    classes: Tensor
    maps: Tensor


@dataclass(frozen=True)
class Explanation:
    """A map that a localizer computes on the way to those that it localizes with, for people to look at.

    Attributes:
        maps: (B, K, h, w) float32, or (B, 1, h, w) where the map is the same for every class.
        kind: How it is drawn. activation: any range, normalised as the localizer's maps are. relative: any range,
            drawn from its lowest to its highest value. probability: 0-1. mask: 0 background, 1 object, 0.5 neither.
            product: 0-1, which the image is multiplied by.
        classes: (B, K) int64, the classes of the maps if they are not those asked for.
        logits: (B, C), what a classifier makes of the image multiplied by the map; None if none was asked.
    """

    maps: Tensor
    kind: Literal["activation", "relative", "probability", "mask", "product"] = "activation"
    classes: Tensor | None = None
    logits: Tensor | None = None


class Localizer(nn.Module, ABC):
    """A classifier that also localizes; one subclass per paper, built as kind(backbone, classes, **options).

    A subclass that is in the registry takes `threshold`, `normalise`, `needs_gradients`, `class_agnostic` and
    `weights_of` from its entry there (see LocalizerEntry), so that they are known without importing torch.

    Attributes:
        Config: Frozen dataclass of its options, see `mining.localizers.options`.
        name: Its name in the registry.
        keeps_last: Whether the last epoch's weights are kept, because the classification loss does not show which
            epoch is best.
        trains_in_stages: Whether its training has stages with different losses, so that not every parameter has a
            gradient in every step.
        trains_on_features: Whether all layers that are trained with a frozen backbone follow the backbone, so that the
            training can start from features of its stages (see `frozen_stages`), which are computed once per image.
        learning_rate: Default rate of its new layers, for AdamW and short trainings; not the papers'.
        backbone: The network whose features it uses.
        frozen: Whether the backbone is kept as it is.
        cells: A classifier of single cells, taught by the trained localizer's maps; None if there is none.
        inference_parts: Names of its methods that take most of the time of `localize` and `maps`, and compute a tensor
            from (B, 3, H, W) images without gradients. A runtime may replace them by its own.
        int8_networks: File of these methods' networks in int8, which need not exist; None if it was not loaded from a
            model folder.
    """

    Config: ClassVar[type[Any]]
    name: ClassVar[str]
    threshold: float = 0.25
    normalise: Normalisation = "max"
    needs_gradients: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = False
    weights_of: ClassVar[str | None] = None
    keeps_last: ClassVar[bool] = False
    trains_in_stages: ClassVar[bool] = False
    trains_on_features: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 3e-3
    inference_parts: ClassVar[tuple[str, ...]] = ()

    backbone: Backbone
    frozen: bool = False
    int8_networks: Path | None = None
    cells: "CellClassifier | None"

    def __init__(self) -> None:
        super().__init__()
        self.register_module("cells", None)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        entry = LOCALIZERS.get(cls.__dict__.get("name", ""))
        if entry is not None and entry.class_name == cls.__name__:
            for attribute in _LISTED:
                setattr(cls, attribute, getattr(entry, attribute))

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: (B, 3, H, W) RGB values 0-255.

        Returns:
            (B, C) logits.
        """

    def backbone_features(self, images: Tensor) -> Tensor:
        """Compute the last features of the whole backbone from (B, 3, H, W) RGB values 0-255."""
        return self.backbone(images)[-1]

    @abstractmethod
    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Compute logits, and one map for each class asked for.

        Args:
            images: (B, 3, H, W) RGB values 0-255.
            classes: (B, K) int64 with NO_CLASS as padding, or a function that chooses them from the (B, C) logits.
        """

    def maps(self, images: Tensor, classes: Tensor) -> Tensor:
        """Compute the maps alone, for further scales of a pyramid.

        Overridden where maps are cheaper without logits.

        Args:
            images: (B, 3, H, W) RGB values 0-255.
            classes: (B, K) int64 with NO_CLASS as padding.
        """
        return self.localize(images, classes).maps

    def explain(self, images: Tensor, classes: Tensor) -> dict[str, Explanation]:
        """Compute what the method has to show besides its maps, by name, in the order of the computation.

        Overridden by methods whose paper has such pictures. Use evaluation mode and no gradients.

        Args:
            images: (B, 3, H, W) RGB values 0-255.
            classes: (B, K) int64 with NO_CLASS as padding.
        """
        return {}

    def cell_grid(self, size: tuple[int, int]) -> CellGrid | None:
        """Return where the cells of the maps look in an input of (height, width) px; None if they tile it evenly."""
        return None

    @abstractmethod
    def training_step(self, images: Tensor, targets: Tensor, loss: "ClassificationLoss") -> dict[str, Tensor]:
        """Compute the paper's losses by name, each a scalar; their sum is minimised.

        Args:
            images: (B, 3, H, W) RGB values 0-255.
            targets: (B, C) of 0 and 1.
            loss: The classification loss.
        """

    def frozen_stages(self) -> Sequence[int]:
        """Return the indices of the backbone's stages that the training starts from, if it `trains_on_features`."""
        raise NotImplementedError

    def condense(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Reduce the (B, D, h, w) outputs of `frozen_stages` to what the training uses, as it is to be kept."""
        raise NotImplementedError

    def logits_from(self, features: Sequence[Tensor]) -> Tensor:
        """Classify what `condense` returned: (B, C) logits."""
        raise NotImplementedError

    def training_step_from(
        self, features: Sequence[Tensor], size: tuple[int, int], targets: Tensor, loss: "ClassificationLoss"
    ) -> dict[str, Tensor]:
        """Compute the losses of `training_step` from what `condense` returned, for images of (height, width) px."""
        raise NotImplementedError

    def start_from_class_shares(self, shares: Tensor, objective: Objective, weights: Tensor | None) -> None:
        """Prepare a new training for the frequency of the classes; overridden by methods that need it.

        Args:
            shares: (C,) share of the training images that show each class.
            objective: One class per image, or several.
            weights: Those of the classification loss.
        """

    def use_evaluator(self, classifier: "Localizer") -> None:
        """Take a trained classifier (CAM) of the same backbone and classes as evaluator.

        Overridden by localizers whose entry in the registry has `takes_evaluator`; called for no others.
        """
        raise ModelError(f"{self.name} has no evaluator.")

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare an epoch of the training; overridden by methods that train in stages.

        Args:
            epoch: From 0.
            epochs: How many are planned.
        """

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return the optimizer's groups: new layers at the full rate, an unfrozen backbone at a tenth of it."""
        inherited = self.pretrained_parameters()
        new = [p for p in self.parameters() if p.requires_grad and id(p) not in inherited]
        old = [p for p in self.backbone.parameters() if p.requires_grad and id(p) in inherited]
        groups: list[dict[str, object]] = [{"params": new, "lr": learning_rate}]
        return [*groups, {"params": old, "lr": learning_rate / 10}] if old else groups

    def pretrained_parameters(self) -> set[int]:
        """Return the ids of the parameters that may come with the backbone's weights."""
        added = {id(parameter) for module in self.new_layers() for parameter in module.parameters()}
        return {id(parameter) for parameter in self.backbone.parameters()} - added

    def new_layers(self) -> list[nn.Module]:
        """List the layers that the paper adds to the backbone; they are trained even where the backbone is frozen."""
        return []

    def freeze_backbone(self) -> None:
        """Keep the pretrained features as they are: no gradients, batch-norm statistics unchanged."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        for module in self.new_layers():
            module.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode, except for its new layers."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            for module in self.new_layers():
                module.train(mode)
        return self


class ClassificationLoss(nn.Module):
    """Cross-entropy for one class per image, binary cross-entropy for several, with rare classes weighted up.

    Args:
        objective: 'single' or 'multi'.
        weights: (C,) one weight per class, or None. A 'multi' weight multiplies the loss of the class's positives.
    """

    weights: Tensor | None

    def __init__(self, objective: Objective, weights: Tensor | None = None) -> None:
        super().__init__()
        self.objective = objective
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss, a scalar, from (B, C) logits and (B, C) targets of 0 and 1."""
        if self.objective == "single":
            return functional.cross_entropy(logits, targets.argmax(dim=1), weight=self.weights)
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.weights)


def probabilities(logits: Tensor, objective: Objective) -> Tensor:
    """Convert (B, C) logits to the classifier's probabilities, by softmax or sigmoid."""
    return logits.softmax(dim=1) if objective == "single" else logits.sigmoid()


def chosen_classes(classes: ClassChoice, logits: Tensor) -> Tensor:
    """Return the (B, K) classes asked for, or those that the function chooses from the logits."""
    return classes if isinstance(classes, Tensor) else classes(logits)


def pad_classes(lists: list[list[int]]) -> Tensor:
    """Pad ragged class lists to (B, K) int64, with NO_CLASS at the end of the shorter ones."""
    width = max((len(classes) for classes in lists), default=0)
    padded = [classes + [NO_CLASS] * (width - len(classes)) for classes in lists]
    return torch.tensor(padded, dtype=torch.int64).view(len(lists), width)
