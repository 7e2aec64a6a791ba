"""The pictures of one localizer on the page of maps: its maps after each refinement, at each scale, and on the way."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mining.arrays import FloatMap
from mining.config import MapsSettings, MineSettings, Refinement
from mining.corpus.images.decoding import full_size, network_input_size, read_reduced, resize_image
from mining.engine.outcome import ImageOutcome
from mining.engine.single_image import Maps, SingleImageMiner
from mining.errors import ImageError, MapError, ModelError
from mining.localizers.base import Explanation, Localizer
from mining.models.card import ModelCard
from mining.models.class_outputs import class_probabilities
from mining.models.device import resolve_device
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.models.pretrained import load_reference
from mining.regions.extraction import normalise_map
from mining.reporting.maps_inputs import Column
from mining.reporting.picture_layers import (
    PHOTO_SIDE,
    Heat,
    Mark,
    box_mark,
    draw_heat,
    draw_mask,
    encode_photo,
    multiply_photo,
    size_within,
)

REFINEMENTS: dict[Refinement, str] = {
    "cells": "Refined by the cell classifier",
    "walk": "Refined by the walk",
    "cut": "Refined by the normalised cut",
    "none": "Not refined, sum of scales",
}


@dataclass(frozen=True)
class Photo:
    """An image of the page.

    Attributes:
        path: The file.
        pixels: (3, h, w) uint8, at most PHOTO_SIDE px.
        height: Height of the file's image in px.
        width: Width of it in px.
        uri: JPEG as a data URI.
    """

    path: Path
    pixels: Tensor
    height: int
    width: int
    uri: str

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width in px of the picture."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])


@dataclass(frozen=True)
class Picture:
    """A picture over a photo.

    Attributes:
        name: What it shows.
        heat: Activation map or mask; None where the map is constant.
        product: The photo multiplied by a map, as a data URI, in place of photo and map.
        boxes: The mined boxes, best first.
        caption: Class, probability, score.
        kind: As that of an Explanation.
    """

    name: str
    heat: Heat | None
    product: str = ""
    boxes: list[Mark] = field(default_factory=list)
    caption: str = ""
    kind: str = "activation"


@dataclass(frozen=True)
class Cell:
    """What one localizer shows of one class in one image.

    Attributes:
        category: The class.
        probability: Of the class at scale 1, 0-1.
        pictures: By row of the table, e.g. "Scale 1.5".
        own: Pictures that only this method has.
    """

    category: str
    probability: float
    pictures: dict[str, Picture]
    own: list[Picture]


@dataclass(frozen=True)
class ColumnPictures:
    """The pictures of a column.

    Attributes:
        column: The column.
        card: The model's card.
        default: The row that `boxmine mine` extracts boxes from by default.
        cells: By number of the photo and of the class in it; a class that the model does not know has none.
    """

    column: Column
    card: ModelCard
    default: str
    cells: dict[tuple[int, int], Cell]

    @property
    def trained(self) -> str:
        """How the model was trained, in a few words."""
        record = self.card.training
        if "epochs" not in record:
            return str(record.get("weights", ""))
        value = "" if record.get("value") is None else f", {record['metric']} {record['value']:.3f}"
        return f"{record['epochs']} epochs on {record['images']} images{value}"

    def of_photo(self, number: int) -> list[Cell]:
        """Return the cells of a photo."""
        return [cell for (photo, _), cell in self.cells.items() if photo == number]


def read_photo(path: Path) -> Photo:
    """Read an image for the page. Raises ImageError."""
    pixels, (height, width) = read_reduced(path, full_size)
    small = resize_image(pixels, size_within(height, width, PHOTO_SIDE))
    return Photo(path, small, height, width, encode_photo(small))


def load_column(column: Column, settings: MapsSettings) -> tuple[Localizer, ModelCard]:
    """Load the localizer of a column, in evaluation mode on the CPU. Raises ModelError."""
    return load_reference(column.model, mine_settings(column, settings, "none"))


def mine_settings(column: Column, settings: MapsSettings, refine: Refinement) -> MineSettings:
    """Return the settings by which a column is mined: the defaults, but in float32 by PyTorch, as explanations are."""
    here = Path.cwd()
    values: dict[str, Any] = {
        "images": here, "out": here, "model": column.model, "curves": False, "workers": 1, "refine": refine,
        "scales": settings.scales, "device": settings.device, "runtime": "torch", "precision": "float32",
    }  # fmt: skip
    return MineSettings(**values, localizer=None if column.is_own else column.localizer)


def draw_column(
    column: Column, settings: MapsSettings, photos: Sequence[Photo], advance: Callable[[], None]
) -> ColumnPictures:
    """Draw all pictures of one localizer.

    Args:
        column: The localizer and the model.
        settings: The classes and scales.
        photos: The images.
        advance: Called `steps_of_column` times for each photo.

    Raises:
        ModelError: The model cannot be used, or its maps hold NaN.
    """
    localizer, card = load_column(column, settings)
    localizer = prepare_for_inference(localizer, resolve_device(settings.device))  # once for all copies
    kinds = [kind for kind in REFINEMENTS if kind != "cells" or card.cells is not None]
    drawn = ColumnPictures(column, card, REFINEMENTS[kinds[0]], {})
    try:
        explainer = _Explainer(copy.deepcopy(localizer), card, settings)
        for number, photo in enumerate(photos):
            drawn.cells.update({(number, place): cell for place, cell in explainer.cells(photo)})
            advance()
        for refine in kinds:
            miner = SingleImageMiner(copy.deepcopy(localizer), card, mine_settings(column, settings, refine))
            for number, photo in enumerate(photos):
                for cell in drawn.of_photo(number):
                    cell.pictures.update(_mined(miner, photo, cell, refine))
                advance()
    except (ImageError, MapError) as error:  # the image itself has been read before
        raise ModelError(f"{column.localizer} of {column.model}: {error}") from None
    return drawn


def steps_of_column(card: ModelCard) -> int:
    """Return how often `draw_column` reports progress for each photo."""
    return 1 + len(REFINEMENTS) - (card.cells is None)


def _mined(miner: SingleImageMiner, photo: Photo, cell: Cell, refine: Refinement) -> Iterator[tuple[str, Picture]]:
    """The rows that one miner draws, each with its boxes."""
    if refine != "none":
        yield REFINEMENTS[refine], _boxed(*miner.mine_with_maps(photo.path, [cell.category]), miner, photo, cell)
        return
    for scales, found in miner.mine_by_scale(photo.path, [cell.category]).items():
        is_sum = scales == tuple(miner.scales)
        yield REFINEMENTS["none"] if is_sum else f"Scale {scales[0]:g}", _boxed(*found, miner, photo, cell)


def _boxed(outcome: ImageOutcome, maps: Maps, miner: SingleImageMiner, photo: Photo, cell: Cell) -> Picture:
    level = maps.get(cell.category)
    threshold = cast(float, miner.extractor.threshold_of(cell.category))
    boxes = [
        box_mark((box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]), photo.width, photo.height,
                 f"{box['score']:.2f}")
        for box in outcome.boxes
    ]  # fmt: skip
    found = f"score {outcome.boxes[0]['score']:.2f}" if boxes else "no box"
    more = f", {len(boxes)} boxes" if len(boxes) > 1 else ""
    scales = ", ".join(f"{scale:g}" for scale in miner.scales)
    return Picture(
        scales, None if level is None else draw_heat(level, threshold), boxes=boxes,
        caption=f"{cell.category} {100 * cell.probability:.0f} %, {found}{more}",
    )  # fmt: skip


class _Explainer:
    """Classifies photos at scale 1, and draws what a localizer has to show besides its maps."""

    def __init__(self, localizer: Localizer, card: ModelCard, settings: MapsSettings) -> None:
        self.device = resolve_device(settings.device)
        self.localizer = localizer
        self.card = card
        self.settings = settings

    @torch.no_grad()
    def cells(self, photo: Photo) -> Iterator[tuple[int, Cell]]:
        """Yield the number and the cell of each class of a photo, without the rows of the table."""
        needed = partial(network_input_size, short_side=self.card.input_size)
        pixels, (height, width) = read_reduced(photo.path, needed)
        images = resize_image(pixels, needed(height, width))[None].to(self.device)
        scores = class_probabilities(self.localizer(images).float(), self.card)[0].cpu()
        for place, index in self._classes(scores):
            wanted = torch.tensor([[index]], device=self.device)
            shown = self.localizer.explain(images, wanted)
            own = [self._picture(photo, name, one, index, scores) for name, one in shown.items()]
            yield place, Cell(self.card.class_names[index], float(scores[index]), {}, own)

    def _classes(self, scores: Tensor) -> list[tuple[int, int]]:
        """Number and index of each class to map."""
        names = self.card.class_names
        if self.settings.classes:
            return [(place, names.index(name)) for place, name in enumerate(self.settings.classes) if name in names]
        best = scores.topk(min(self.settings.max_classes, len(scores))).indices.tolist()
        return list(enumerate(best))

    def _picture(self, photo: Photo, name: str, one: Explanation, index: int, scores: Tensor) -> Picture:
        level = one.maps[0, 0].float().cpu().numpy()
        if one.kind == "product":
            return Picture(name, None, multiply_photo(photo.pixels, level), caption=self._verdict(one, index, scores),
                           kind=one.kind)  # fmt: skip
        heat = draw_mask(level) if one.kind == "mask" else self._heat(level, one.kind)
        other = "" if one.classes is None else self.card.class_names[int(one.classes[0, 0])]
        return Picture(name, heat, caption=other, kind=one.kind)

    def _heat(self, level: FloatMap, kind: str) -> Heat | None:
        if kind in ("activation", "relative"):
            normalised = normalise_map(level, "minmax" if kind == "relative" else self.localizer.normalise)
            return None if normalised is None else draw_heat(normalised, None)
        return draw_heat(level, None)

    def _verdict(self, one: Explanation, index: int, scores: Tensor) -> str:
        """What the classifier makes of the masked image, and of the whole one."""
        if one.logits is None:
            return ""
        masked = class_probabilities(one.logits, self.card)[0].cpu()
        best = int(masked.argmax())
        names = self.card.class_names
        verdict = f"evaluator: {names[index]} {100 * masked[index]:.0f} % here, {100 * scores[index]:.0f} % unmasked"
        return verdict if best == index else f"{verdict}; here most probable: {names[best]} {100 * masked[best]:.0f} %"
