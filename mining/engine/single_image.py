"""Mine single images, from a file or from memory, by the way that runs take."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mining.arrays import FloatMap
from mining.corpus.images.orientation import turn_upright
from mining.corpus.images.pixel_values import write_rgb
from mining.corpus.schema import QUARANTINED
from mining.engine.box_extraction import PreparedImage
from mining.engine.miner import Miner
from mining.engine.outcome import ImageOutcome
from mining.errors import ImageError
from mining.regions.extraction import normalise_map

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
        (outcome,) = self.mine([self._row(source, labels)])
        if outcome.state == QUARANTINED:
            raise ImageError(outcome.reason)
        return outcome

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
        maps: dict[str, tuple[dict[str, Any], FloatMap]] = {}

        def keep(row: dict[str, Any], name: str, activation: FloatMap) -> None:
            maps[name] = row, activation

        (outcome,) = self.mine([self._row(source, list(dict.fromkeys([category, *(labels or [])])))], on_map=keep)
        if outcome.state == QUARANTINED:
            raise ImageError(outcome.reason)
        row, activation = maps[category]
        height, width = row["height"], row["width"]
        level = normalise_map(activation, self.extractor.params.normalise)
        if level is None:
            return np.zeros((height, width), np.float32)
        resized = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)

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


def pixels_of_pil(image: Image.Image) -> Tensor:
    """Give a PIL image as (3, H, W) uint8 RGB, turned upright; colours as those of a file (see `pixel_values`)."""
    try:
        upright = turn_upright(image)
        pixels = torch.empty(3, upright.height, upright.width, dtype=torch.uint8)
        write_rgb(pixels.permute(1, 2, 0).numpy(), upright)
    except (OSError, ValueError) as error:
        raise ImageError(f"The image cannot be used: {error}.") from None
    return pixels
