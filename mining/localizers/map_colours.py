"""The colours of maps and masks in pictures; distinct from those of boxes for every kind of colour vision."""

import numpy as np
from numpy.typing import NDArray

from mining.arrays import FloatMap

# value, red, green, blue, opacity
_HEAT = np.array([[0, 90, 40, 200, 0], [0.25, 150, 40, 190, 50], [0.6, 220, 38, 127, 120], [1, 255, 170, 190, 180]])
_MASK = np.array([[0, 80, 200, 210], [0, 0, 0, 0], [255, 176, 0, 210]], np.uint8)  # background, neither, object


def heat_colours(level: FloatMap) -> NDArray[np.uint8]:
    """Return the RGBA colours, (..., 4), of values in 0-1."""
    channels = [np.interp(level, _HEAT[:, 0], _HEAT[:, channel]).round() for channel in range(1, 5)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def mask_colours(mask: FloatMap) -> NDArray[np.uint8]:
    """Return the RGBA colours, (..., 4), of a mask of 0 background, 1 object, 0.5 neither."""
    return _MASK[(2 * mask).round().astype(np.uint8)]


def blend(pixels: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay (H, W, 4) RGBA colours over (H, W, 3) RGB pixels."""
    opacity = colours[..., 3:] / 255
    return (pixels * (1 - opacity) + colours[..., :3] * opacity).round().astype(np.uint8)


def multiply(pixels: NDArray[np.uint8], level: FloatMap) -> NDArray[np.uint8]:
    """Multiply (H, W, 3) RGB pixels by an (H, W) map in 0-1."""
    return (pixels * np.clip(level, 0, 1)[..., None]).round().astype(np.uint8)
