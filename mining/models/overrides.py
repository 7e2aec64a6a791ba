"""What settings change about a model: its localizer, its options, and where its maps are cut."""

from dataclasses import dataclass, replace

from mining.config import MapThreshold, MineOptions, Normalisation, Refinement
from mining.errors import ModelError
from mining.localizers.loading import localizer_named
from mining.localizers.option_values import build_config
from mining.localizers.registry import LOCALIZERS
from mining.models.card import ModelCard
from mining.models.pretrained_choice import refuse_localizer_without_gradients

_CLASS_CUT = {"single": 0.2, "multi": 0.4}
CELL_THRESHOLD = 0.5  # share of the highest probability
# Cells are classified by the features of one scale. A second scale for the class maps, with which boxes are compared,
# changed CorLoc on the training images of four sets by at most 0.6 points, and by 0.1 on average (docs/benchmarks.md).
_REFINED_SCALES: dict[Refinement, tuple[float, ...]] = {"cells": (1.5,), "walk": (1.0, 1.5), "cut": (1.0, 1.5)}
_THREE_SCALES = (1.0, 1.5, 2.0)
WALK_RAISES_BY = 0.15  # spread maps are higher around the object, and are cut higher
CUT_THRESHOLD = 0.3  # of the geometric mean of cut and class map


@dataclass(frozen=True)
class ExtractionParams:
    """At which scales maps are computed, and at which values they are cut and classes taken.

    Attributes:
        threshold: Share of the normalised map, in (0, 1), or a rule that finds one for each map.
        class_thresholds: Thresholds of classes that have their own.
        normalise: How maps are normalised.
        class_cut: Least probability of a class in an unlabelled image.
        refine: How maps are refined.
        walk_steps: Steps of the walk; None for the default.
        scales: Scales that the network runs at, in multiples of the model's input size.
    """

    threshold: float | MapThreshold
    class_thresholds: dict[str, float]
    normalise: Normalisation
    class_cut: float
    refine: Refinement = "none"
    walk_steps: int | None = None
    scales: tuple[float, ...] = _THREE_SCALES


def apply_overrides(card: ModelCard, settings: MineOptions) -> ModelCard:
    """Return the card with the localizer and the options that the settings ask for.

    Raises:
        ModelError: The localizer or an option is unknown, or the localizer has other weights than the model, or cannot
            read the model's head.
    """
    trained = localizer_named(card.localizer)
    if settings.localizer is None or settings.localizer == card.localizer:
        options = {**card.options, **settings.options}
        build_config(trained.Config, options)
        return replace(card, options=options)
    wanted = localizer_named(settings.localizer)
    if card.own_head:
        refuse_localizer_without_gradients(settings.localizer, card.backbone)
    build_config(wanted.Config, settings.options)
    if wanted.weights_of is None or wanted.weights_of != trained.weights_of:
        raise ModelError(
            f"The model was trained for {card.localizer}, whose weights are not those of {settings.localizer}; "
            f"train one with --localizer {settings.localizer}."
        )
    return replace(card, localizer=settings.localizer, options=settings.options)


def extraction_params(card: ModelCard, settings: MineOptions) -> ExtractionParams:
    """Return the settings' thresholds and scales, or the defaults of the localizer and of the refinement.

    Args:
        card: The card that `apply_overrides` returned.
        settings: Settings of mining.
    """
    refine = refinement(settings, has_cells=card.cells is not None)
    entry = LOCALIZERS[card.localizer]
    threshold, normalise = entry.map_cut(card.options)
    if refine != "none":  # refined maps are probabilities, or were normalised before
        thresholds = {"cells": CELL_THRESHOLD, "cut": CUT_THRESHOLD, "walk": threshold + WALK_RAISES_BY}
        threshold, normalise = thresholds[refine], "max"
    return ExtractionParams(
        threshold if settings.threshold is None else settings.threshold,
        settings.class_thresholds,
        normalise if settings.normalise is None else settings.normalise,
        _CLASS_CUT[card.objective] if settings.class_cut is None else settings.class_cut,
        refine,
        settings.walk_steps,
        settings.scales or (_THREE_SCALES if settings.adaptive else _REFINED_SCALES.get(refine, entry.scales)),
    )


def refinement(settings: MineOptions, *, has_cells: bool) -> Refinement:
    """Return how maps are refined: as the settings ask, by default by the cell classifier, or by the walk without one.

    Args:
        settings: Settings of mining.
        has_cells: Whether the model has a cell classifier.

    Raises:
        ModelError: The settings ask for a cell classifier that the model does not have.
    """
    if settings.refine == "cells" and not has_cells:
        raise ModelError(
            "--refine cells needs a model with a cell classifier, which `boxmine train` adds by default; this model "
            "has none. Train one, or use --refine walk."
        )
    return settings.refine or ("cells" if has_cells else "walk")
