"""Mine single images, from a file or from memory, by the way that runs take."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mining.arrays import FloatMap
from mining.corpus.images.orientation import turn_upright
from mining.corpus.images.pixel_values import write_rgb
from mining.corpus.schema import QUARANTINED
from mining.engine.box_extraction import MapCallback, PreparedImage
from mining.engine.miner import Miner
from mining.engine.outcome import ImageOutcome
from mining.errors import ImageError
from mining.regions.extraction import normalise_map

Maps = dict[str, FloatMap | None]  # (h, w) normalised map by class, 0-1; None where it is constant
_IN_MEMORY = "pixels"  # key of a row whose image is in memory


class SingleImageMiner(Miner):
    """A miner that takes one image at a time; the settings' image folder does not matter."""

    def mine_image(self, source: Path | Tensor, labels: list[str] | None) -> ImageOutcome:
        """Mine one image.

        Args:
            source: File, or (3, H, W) uint8 RGB.
            labels: Classes to map; None maps those that the classifier predicts.

        Raises:
            ImageError: The image cannot be read, or its maps hold NaN.
        """
        return self.mine_with_maps(source, labels)[0]

    def heatmap(self, source: Path | Tensor, category: str, labels: list[str] | None = None) -> FloatMap:
        """Draw the fused map of one class.

        Args:
            source: File, or (3, H, W) uint8 RGB.
            category: The class.
            labels: All classes of the image, with which a cell classifier compares the class; None if there is no
                other.

        Returns:
            (H, W) float32, the normalised map, 0 to 1, in pixels of the upright image.

        Raises:
            ImageError: See `mine_image`.
        """
        outcome, maps = self.mine_with_maps(source, list(dict.fromkeys([category, *(labels or [])])))
        height, width = cast(int, outcome.height), cast(int, outcome.width)  # only unreadable images have none
        level = maps[category]
        if level is None:
            return np.zeros((height, width), np.float32)
        resized = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)

    def mine_with_maps(self, source: Path | Tensor, labels: list[str] | None) -> tuple[ImageOutcome, Maps]:
        """Mine one image, and keep the maps that its boxes are extracted from.

        Args:
            source: File, or (3, H, W) uint8 RGB.
            labels: See `mine_image`.

        Returns:
            The outcome, and the map of each class.

        Raises:
            ImageError: See `mine_image`.
        """
        maps: Maps = {}
        (outcome,) = self.mine([self._row(source, labels)], on_map=self._keep_in(maps))
        return _usable(outcome), maps

    def mine_by_scale(
        self, source: Path | Tensor, labels: list[str]
    ) -> dict[tuple[float, ...], tuple[ImageOutcome, Maps]]:
        """Mine one image by the sum of all scales, and by each scale alone; for maps that are not refined.

        Args:
            source: See `mine_with_maps`.
            labels: Classes to map.

        Returns:
            What `mine_with_maps` returns, by the scales.

        Raises:
            ImageError: See `mine_image`.
        """
        image = self.prepare(0, self._row(source, labels))
        output = self._run_one(image)
        found = {}
        for scales in dict.fromkeys([tuple(self.scales), *((scale,) for scale in self.scales)]):
            maps: Maps = {}
            some = replace(output, levels={scale: output.levels[scale] for scale in scales})
            found[scales] = _usable(self.extractor.extract(image, some, self._keep_in(maps))), maps
        return found

    def _keep_in(self, maps: Maps) -> MapCallback:
        def keep(row: dict[str, Any], name: str, activation: FloatMap) -> None:
            maps[name] = normalise_map(activation, self.extractor.params.normalise)

        return keep

    def _row(self, source: Path | Tensor, labels: list[str] | None) -> dict[str, Any]:
        row: dict[str, Any] = {"image_id": 1, "width": None, "height": None, "labels": labels}
        if isinstance(source, Path):
            path = source.absolute()
            self.settings = self.settings.model_copy(update={"images": path.parent})
            self.extractor.settings = self.settings
            return {**row, "file_name": path.name}
        return {**row, "file_name": "", _IN_MEMORY: source}

    def prepare(self, place: int, row: dict[str, Any]) -> PreparedImage:
        """Decode the image of a row and resize it to every scale. Raises ImageError."""
        pixels = row.get(_IN_MEMORY)
        if pixels is None:
            return super().prepare(place, row)
        return self._resize(place, row, pixels, int(pixels.shape[1]), int(pixels.shape[2]))


def _usable(outcome: ImageOutcome) -> ImageOutcome:
    if outcome.state == QUARANTINED:
        raise ImageError(outcome.reason)
    return outcome


def pixels_of_pil(image: Image.Image) -> Tensor:
    """Give a PIL image as (3, H, W) uint8 RGB, turned upright; colours as those of a file (see `pixel_values`)."""
    try:
        upright = turn_upright(image)
        pixels = torch.empty(3, upright.height, upright.width, dtype=torch.uint8)
        write_rgb(pixels.permute(1, 2, 0).numpy(), upright)
    except (OSError, ValueError) as error:
        raise ImageError(f"The image cannot be used: {error}.") from None
    return pixels
