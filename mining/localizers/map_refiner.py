"""Refine the activation maps of a batch, on the device of the network and without a further pass through it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mining.config import Normalisation, Refinement
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.cell_classifier import (
    CLIP,
    CellClassifier,
    affinity_features,
    cell_spec,
    grid_of,
    on_one_grid,
)
from mining.localizers.stage_recorder import StageRecorder
from mining.regions.normalised_cut import NormalisedCut
from mining.regions.refinement import AffinityWalk, scale_to_peak

# Scale of the pyramid whose features are used. On VOC's photos, CorLoc of the boxes is 4 points lower at scale 1, whose
# cells are larger, and no higher at scale 2.
FEATURE_SCALE = 1.5
# Steps of the walk. From 8 to 24, the second one gives the same boxes within the spread of seeds.
CLASS_MAP_STEPS = 8
PROBABILITY_STEPS = 12
WALK_ONLY_STEPS = 4


@dataclass(frozen=True)
class RefinedMaps:
    """The refined maps of a batch, or of one image without the dimension B.

    Attributes:
        maps: (B, K, h, w) float32 in 0-1, from which boxes are extracted.
        class_maps: (B, K, h, w) float32 in 0-1, the localizer's own maps after the walk, to compare with.
        features: (B, D, h, w) float16, by which cells are compared; None if they were not asked for.
    """

    maps: Tensor
    class_maps: Tensor
    features: Tensor | None = None

    def of_image(self, position: int, count: int) -> "RefinedMaps":
        """Return the first `count` maps of one image."""
        features = None if self.features is None else self.features[position]
        return RefinedMaps(self.maps[position, :count], self.class_maps[position, :count], features)


class MapRefiner:
    """Refines the maps of a localizer by its cell classifier, by the walk alone, or by normalised cuts.

    The features are recorded while the localizer computes its maps, so that refining them needs no further pass, except
    for localizers that run a part of the backbone only (ORNet). They are those of the scale nearest to FEATURE_SCALE;
    the class maps are the sum over all scales.

    Args:
        localizer: The localizer, on its device.
        how: 'cells', 'walk' or 'cut'.
        steps: Steps of the walk; None for the default.
        keep_features: Whether to return the features, for 'cells'.

    Attributes:
        recorder: Records features during the pass of the scale that `feature_scale` chooses.

    Raises:
        ModelError: The localizer has no cell classifier.
    """

    def __init__(
        self, localizer: Localizer, how: Refinement, steps: int | None = None, *, keep_features: bool = False
    ) -> None:
        if how == "cells" and localizer.cells is None:
            raise ModelError("The model has no cell classifier; train one, or use --refine walk.")
        self._cells: CellClassifier | None = localizer.cells if how == "cells" else None
        self._cuts = how == "cut"
        self._normalise = localizer.normalise
        self._keep_features = keep_features
        default = WALK_ONLY_STEPS if self._cells is None else PROBABILITY_STEPS
        self._steps = default if steps is None else steps
        spec = cell_spec(localizer.backbone) if self._cells is None else self._cells.spec
        self.recorder = StageRecorder(localizer.backbone, spec.stages)

    def refine(self, images: Tensor, levels: Mapping[float, Tensor], classes: Tensor) -> RefinedMaps:
        """Refine the maps of a batch.

        Args:
            images: (B, 3, H, W) at the scale whose features are recorded.
            levels: Raw maps (B, K, h, w) by scale.
            classes: (B, K) int64, NO_CLASS as padding.

        Reference:
            See mining/localizers/cell_classifier.py, mining/regions/refinement.py and normalised_cut.py.
        """
        features = self.recorder.features(images)
        with torch.autocast(images.device.type, enabled=False):
            projected = standardise(features) if self._cells is None else self._cells.project(features)
            compared = affinity_features(projected)
            own = class_maps_on_grid(levels, grid_of(features), self._normalise)
            if self._cuts:
                # neither is the object: a cut goes around whatever stands out, a class map shows the object's best part
                maps = scale_to_peak((scale_to_peak(NormalisedCut(compared).spread(own)) * own).sqrt())
                return RefinedMaps(maps, maps)
            walk = AffinityWalk(compared)
            if self._cells is None:
                maps = scale_to_peak(walk.spread(own, self._steps))
                return RefinedMaps(maps, maps)
            probabilities = self._cells.probabilities(projected, classes)
            kept = compared.half() if self._keep_features else None
            return RefinedMaps(walk.spread(probabilities, self._steps), walk_class_maps(walk, own), kept)


def feature_scale(scales: Iterable[float]) -> float:
    """Choose the scale whose features are recorded, from those that are run."""
    return min(scales, key=lambda scale: (abs(scale - FEATURE_SCALE), -scale))


def class_maps_on_grid(levels: Mapping[float, Tensor], size: tuple[int, int], normalise: Normalisation) -> Tensor:
    """Sum the maps of all scales on one grid.

    Args:
        levels: Raw maps (B, K, h', w') by scale.
        size: (h, w) of the grid.
        normalise: As the localizer's maps are normalised.

    Returns:
        (B, K, h, w) float32 in 0-1.
    """
    total = torch.stack([_on_grid(level.float(), size) for level in levels.values()]).sum(dim=0)
    return scale_to_peak(total if normalise == "max" else total - total.amin(dim=(2, 3), keepdim=True))


def walk_class_maps(walk: AffinityWalk, class_maps: Tensor) -> Tensor:
    """Spread class maps (B, K, h, w) to resembling cells, normalised to 0-1: what a cell classifier learns from."""
    return scale_to_peak(walk.spread(class_maps, CLASS_MAP_STEPS))


def standardise(features: list[Tensor]) -> list[Tensor]:
    """Bring stages to the grid of the first one, each channel with mean 0 and variance 1 within its image."""
    return [functional.instance_norm(stage).clamp_(-CLIP, CLIP) for stage in on_one_grid(features)]


def _on_grid(level: Tensor, size: tuple[int, int]) -> Tensor:
    if not level.shape[1]:
        return level.new_zeros(len(level), 0, *size)
    if level.shape[-2] > size[0]:
        return functional.adaptive_avg_pool2d(level, size)
    return functional.interpolate(level, size, mode="bilinear", align_corners=False)
