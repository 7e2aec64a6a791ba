"""Convert the pixels of an opened image to 8-bit RGB, in strips of rows to avoid copies of the whole image.

Transparent pixels become white. Values of more than 8 bits are converted to 8 bits as `bits_in_use` describes, float
values as `_FloatScale` describes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mining.arrays import Bytes

_STRIP_BYTES = 8_000_000
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
INTEGERS = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def write_rgb(target: Bytes, image: Image.Image) -> None:
    """Write the pixels of a loaded image to an array.

    Args:
        target: (H, W, 3) uint8, which is overwritten.
        image: The image.
    """
    convert = _converter(image)
    for rows in _strips(image.height, image.width, 16):
        whole = rows.start == 0 and rows.stop == image.height
        target[rows] = convert(image if whole else image.crop((0, rows.start, image.width, rows.stop)))


def has_deep_colour(image: Image.Image) -> bool:
    """Whether an image that is not yet loaded has several 16-bit channels, of which Pillow keeps the upper 8 bits."""
    if image.format not in ("PNG", "TIFF") or image.mode in INTEGERS:
        return False
    return any(";16" in str(tile.args) for tile in getattr(image, "tile", []))


def write_deep_colour_rgb(target: Bytes, data: bytes) -> bool:
    """Decode a PNG or TIFF with 16-bit channels, without applying its orientation.

    Args:
        target: (H, W, 3) uint8, which is overwritten.
        data: Content of the file.

    Returns:
        False if OpenCV cannot decode it; Pillow's upper 8 bits are then the best available.
    """
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return False
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[:2] != target.shape[:2]:
        return False
    shift = max(bits_in_use(int(pixels[..., :3].max())) - 8, 0)
    for rows in _strips(target.shape[0], target.shape[1], 2 * pixels.shape[2]):
        colours = (pixels[rows, :, 2::-1] >> shift).astype(np.uint8)
        if pixels.shape[2] == 4:
            alpha = (pixels[rows, :, 3] >> 8).astype(np.uint8)
            colours = _on_white(Image.fromarray(np.dstack([colours, alpha])))
        target[rows] = colours
    return True


def bits_in_use(highest: int) -> int:
    """Number of bits, at least 8, that the values of an image use: 12 if the highest value is 3000.

    Cameras and scanners write 10, 12 or 14 bits into 16-bit files, which are nearly black if 65535 is taken as white.
    No header states the number, and a range over all images would change with every image that is added. So the
    highest value of each file decides, rounded up to a whole number of bits: it ends up in the upper half of the grey
    levels.

    Args:
        highest: Highest value in the file.
    """
    return max(8, highest.bit_length())


def _strips(height: int, width: int, bytes_per_pixel: int) -> Iterator[slice]:
    step = max(1, _STRIP_BYTES // (width * bytes_per_pixel))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _converter(image: Image.Image) -> Callable[[Image.Image], Bytes]:
    if image.mode in INTEGERS:
        shift = max(bits_in_use(int(max(_range_of(image)[1], 0))) - 8, 0)
        return lambda strip: _grey((np.asarray(strip).astype(np.int64).clip(0) >> shift).astype(np.uint8))
    if image.mode == "F":
        scale = _FloatScale(*_range_of(image))
        return lambda strip: _grey(scale(np.asarray(strip)))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return lambda strip: _on_white(strip.convert("RGBA"))
    return lambda strip: np.asarray(strip.convert("RGB"))


def _grey(values: Bytes) -> Bytes:
    return np.broadcast_to(values[..., None], (*values.shape, 3))


def _on_white(transparent: Image.Image) -> Bytes:
    background = Image.new("RGBA", transparent.size, "white")
    return np.asarray(Image.alpha_composite(background, transparent).convert("RGB"))


def _range_of(image: Image.Image) -> tuple[float, float]:
    """Lowest and highest finite value; (0, 0) if there is none."""
    low, high = np.inf, -np.inf
    for rows in _strips(image.height, image.width, 16):
        values = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


class _FloatScale:
    """Converts float values to grey levels.

    Values in 0-1 are taken as an ordinary image and scaled as integers are: white is the power of two at or above the
    highest value. All others (elevation, temperature) have no defined white: the lowest value of the file becomes
    black, the highest white. Values that are not finite become black.
    """

    def __init__(self, low: float, high: float) -> None:
        is_unit_range = low >= 0.0 and 0.0 < high <= 1.0 and low < high
        white = 2.0 ** np.ceil(np.log2(high)) if is_unit_range else high
        self._low = 0.0 if is_unit_range else low
        self._span = (white - self._low) or 1.0

    def __call__(self, values: NDArray[np.float32]) -> Bytes:
        shares = (values.astype(np.float64) - self._low) / self._span
        return (np.nan_to_num(shares, nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1) * 255).astype(np.uint8)
