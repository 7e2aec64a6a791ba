"""The layers of a picture, which a page stacks and can hide: photo, activation map, mask, boxes."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mining.arrays import FloatMap
from mining.localizers.map_colours import heat_colours, mask_colours, multiply

PHOTO_SIDE = 320
JPEG_QUALITY = 80
_HEAT_SIDE = 96  # the page enlarges it smoothly
_CONTOUR_SIDE = 160
_LEVELS = 32


@dataclass(frozen=True)
class Mark:
    """A box on a picture.

    Attributes:
        left: Left edge in percent of the picture's width.
        top: Top edge in percent of its height.
        width: Width in percent of the picture's width.
        height: Height in percent of its height.
        label: The box's score; empty for a true box.
        is_ignored: Whether a true box is not counted.
    """

    left: float
    top: float
    width: float
    height: float
    label: str = ""
    is_ignored: bool = False


@dataclass(frozen=True)
class Heat:
    """An activation map as a layer.

    Attributes:
        uri: PNG as a data URI.
        outline: SVG path around the region that reaches the threshold; empty where the threshold is not known.
        width: Width of the path's coordinate system.
        height: Height of it.
    """

    uri: str
    outline: str
    width: int
    height: int


def size_within(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the size at which an image is at most `side` long; it is not enlarged."""
    shrink = min(1.0, side / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def box_mark(xyxy: Iterable[float], width: int, height: int, label: str = "", *, is_ignored: bool = False) -> Mark:
    """Place a box, xyxy in px, on a picture of an image of this size."""
    limits = (width, height, width, height)
    x0, y0, x1, y1 = (100 * min(max(edge / limit, 0.0), 1.0) for edge, limit in zip(xyxy, limits, strict=True))
    return Mark(round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2), label, is_ignored)


def encode_photo(pixels: Tensor) -> str:
    """Encode (3, H, W) uint8 RGB as JPEG, as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _data_uri("image/jpeg", file)


def draw_heat(level: FloatMap, threshold: float | None) -> Heat:
    """Draw an (H, W) normalised map, with the outline of what reaches the threshold."""
    uri = _data_uri("image/png", io.BytesIO(heat_png(level)))
    outlined = _shrunk(level, _CONTOUR_SIDE)
    outline = "" if threshold is None else _outline(outlined >= threshold)
    return Heat(uri, outline, outlined.shape[1], outlined.shape[0])


def heat_png(level: FloatMap) -> bytes:
    """Encode an (H, W) normalised map as a small PNG in the colours of a map, transparent where it is low."""
    small = _shrunk(level, _HEAT_SIDE)
    picture = Image.fromarray((np.clip(small, 0, 1) * (_LEVELS - 1)).round().astype(np.uint8), "L").convert("P")
    colours = heat_colours(np.linspace(0, 1, _LEVELS, dtype=np.float32))
    picture.putpalette(colours[:, :3].tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, bits=8, transparency=colours[:, 3].tobytes())
    return file.getvalue()


def draw_mask(mask: FloatMap) -> Heat:
    """Draw an (H, W) mask of 0 background, 1 object, 0.5 neither."""
    height, width = size_within(mask.shape[0], mask.shape[1], _CONTOUR_SIDE)
    small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    file = io.BytesIO()
    Image.fromarray(mask_colours(np.asarray(small, np.float32))).save(file, "PNG", optimize=True)
    return Heat(_data_uri("image/png", file), "", width, height)


def multiply_photo(pixels: Tensor, level: FloatMap) -> str:
    """Multiply (3, H, W) uint8 RGB by an (h, w) map in 0-1: JPEG as a data URI."""
    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    resized = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
    product = multiply(pixels.permute(1, 2, 0).numpy(), np.asarray(resized, np.float32))
    file = io.BytesIO()
    Image.fromarray(product).save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _data_uri("image/jpeg", file)


def _shrunk(level: FloatMap, side: int) -> FloatMap:
    height, width = size_within(level.shape[0], level.shape[1], side)
    return np.asarray(cv2.resize(level, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _outline(reaches: NDArray[np.bool_]) -> str:
    contours, _ = cv2.findContours(reaches.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    smooth = (cv2.approxPolyDP(contour, 0.6, True)[:, 0] + 0.5 for contour in contours)
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in contour.tolist()) + "Z" for contour in smooth)


def _data_uri(kind: str, file: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
