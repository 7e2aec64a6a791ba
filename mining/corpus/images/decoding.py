"""Decode image files to upright RGB pixels, and resize them to the input sizes of a network.

An image that cannot be decoded raises ImageError, whose message says why and what to do.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as transforms

from mining.corpus.image_root import is_inside
from mining.corpus.images.image_file import (
    MAX_BYTES,
    LargeBytes,
    LargeFile,
    SmallFile,
    open_image_file,
    sha256_of_image,
)
from mining.corpus.images.image_formats import SUPPORTED_FORMATS, install_hint, open_image
from mining.corpus.images.memory_budget import BUDGET, check_decode_bytes, estimate_decode_bytes
from mining.corpus.images.orientation import load_pixels, orientation_of, swaps_sides, upright_size
from mining.corpus.images.pixel_values import has_deep_colour, write_deep_colour_rgb, write_rgb
from mining.errors import ImageError, ImageReplacedError, RunStoppedError

RequiredSize = Callable[[int, int], tuple[int, int]]
MAX_PIXELS = 128_000_000
MAX_RATIO = 4.0
MAX_SCANS = 500  # of a progressive JPEG; each scan covers all pixels, and encoders write about 10
_START_OF_SCAN, _END_OF_JPEG = b"\xff\xda", b"\xff\xd9"


def resolve_image_path(root: Path, name: str) -> Path:
    """Return the path of an image, and check that it lies below the image root.

    A name with '..', an absolute name or a symbolic link could otherwise make this process read files that the author
    of the label file or image archive has no access to.

    Args:
        root: The folder of the images.
        name: File name relative to it.

    Raises:
        ImageError: The path leads out of `root`.
    """
    path = root / name
    if not is_inside(os.path.realpath(path), _real(root)):
        raise ImageError(f"{path}: leads out of {root}. Put the image itself into that folder.")
    return path


@lru_cache(maxsize=16)
def _real(root: Path) -> str:
    return os.path.realpath(root)


def read_image(path: Path) -> Tensor:
    """Decode an image file.

    The EXIF orientation is applied (see `orientation`). Grey, palette, CMYK, 16-bit and float images are converted to
    8-bit RGB (see `pixel_values`); transparent pixels become white. Of an animation or a file of several pages the
    first image is used.

    Args:
        path: The file.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        ImageError: The file is missing, empty, corrupt or truncated, has more than MAX_PIXELS pixels or MAX_BYTES
            bytes, or decoding it needs more memory than the budget.
    """
    return read_reduced(path, full_size)[0]


def full_size(height: int, width: int) -> tuple[int, int]:
    """Require all pixels; for `decode_image`."""
    return height, width


def read_reduced(path: Path, needed: RequiredSize, sha256: str | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Decode as `decode_image` does, for code that decodes one image at a time; arguments and result are the same."""
    with decode_image(path, needed, sha256) as found:
        return found


@contextmanager
def decode_image(
    path: Path, needed: RequiredSize, sha256: str | None = None, keep_sha256: Callable[[str], None] | None = None
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Decode an image file as `read_image` does, a JPEG possibly at a half, a quarter or an eighth of its size.

    A JPEG is reduced if it still has the required pixels; libjpeg then computes no others. The memory of the image
    counts against the budget of all threads until the block ends, so resize it there.

    Args:
        path: The file.
        needed: Maps the height and width of an image to those that are required, in pixels. Must be symmetric: with
            the sides swapped, its result is swapped.
        sha256: Expected SHA-256 of the file, 64 hex digits; None accepts any content.
        keep_sha256: Called with the SHA-256 of the file that was read.

    Yields:
        (3, h, w) uint8 RGB, and the height and width of the image itself.

    Raises:
        ImageError: As for `read_image`.
        ImageReplacedError: The SHA-256 of the file is not the expected one.
        RunStoppedError: The thread is to stop.
    """
    with ExitStack() as stack:
        with _image_errors(path, sha256):
            decoded = _decode(path, needed, sha256, keep_sha256, stack)
        yield decoded


def _decode(
    path: Path, needed: RequiredSize, sha256: str | None, keep_sha256: Callable[[str], None] | None, stack: ExitStack
) -> tuple[Tensor, tuple[int, int]]:
    file = open_image_file(path, MAX_BYTES)
    stack.callback(file.close)
    image, size = _open(path, file, needed, stack)
    needed_bytes = estimate_decode_bytes(image, size, file.size)
    check_decode_bytes(path, needed_bytes, BUDGET.limit)
    stack.enter_context(BUDGET.reserve(needed_bytes))
    data = file.read_whole()
    if sha256 is not None or keep_sha256 is not None:
        digest = hashlib.sha256(data).hexdigest()
        if sha256 is not None and digest != sha256:
            raise ImageReplacedError(f"{path}: the file changed after it was listed.")
        if keep_sha256 is not None:
            keep_sha256(digest)
    if not file.is_in_memory:
        image, size = _open(path, LargeBytes(data), needed, stack)
    with _without_warnings():
        pixels = _pixels(image, data, is_reduced=image.format == "JPEG" and image.size not in (size, size[::-1]))
    # the EXIF block of a PNG may follow its pixels, so that the size is known only now
    return pixels, size[::-1] if image.format == "JPEG" else (int(pixels.shape[1]), int(pixels.shape[2]))


def _open(
    path: Path, file: SmallFile | LargeFile | LargeBytes, needed: RequiredSize, stack: ExitStack
) -> tuple[Image.Image, tuple[int, int]]:
    """The image, a JPEG set to the smallest size that suffices; and its full upright size, (width, height)."""
    with _without_warnings():
        image = stack.enter_context(open_image(file))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{path}: {width} x {height} is more than {MAX_PIXELS:,} pixels. Reduce the image.")
        size = upright_size(image)
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            image.draft(image.mode, needed(height, width)[::-1])
    return image, size


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _pixels(image: Image.Image, data: bytes, *, is_reduced: bool) -> Tensor:
    """(3, H, W) uint8, upright."""
    if image.info.get("progressive") and data.count(_START_OF_SCAN) > MAX_SCANS:
        raise ValueError(f"more than {MAX_SCANS} scans, which take too long to decode")
    if image.format == "JPEG" and image.mode in ("RGB", "L") and not is_reduced and data.endswith(_END_OF_JPEG):
        # rotated here rather than by torchvision, which chooses among several EXIF blocks by another rule
        pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
        return _turned(pixels, orientation_of(image))
    return _turned(*_through_pillow(image, data))


def _through_pillow(image: Image.Image, data: bytes) -> tuple[Tensor, int]:
    """(3, H, W) uint8, and the EXIF orientation that is still to be applied."""
    pixels = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    target = pixels.permute(1, 2, 0).numpy()
    is_deep = has_deep_colour(image)
    load_pixels(image)
    if image.size != target.shape[1::-1]:
        raise ValueError("the size of the pixels differs from that in the header")
    if not (is_deep and write_deep_colour_rgb(target, data)):
        write_rgb(target, image)
    orientation = orientation_of(image)
    image.close()  # frees Pillow's pixels before further copies are made
    return pixels, orientation


def _turned(pixels: Tensor, orientation: int) -> Tensor:
    """(C, H, W) rotated and flipped by an EXIF orientation, 1 to 8."""
    if swaps_sides(orientation):
        pixels = pixels.transpose(1, 2)
    flipped = [side for side, turns in ((1, (3, 4, 7, 8)), (2, (2, 3, 6, 7))) if orientation in turns]
    return pixels.flip(flipped).contiguous() if flipped or orientation > 1 else pixels


@contextmanager
def _image_errors(path: Path, sha256: str | None) -> Iterator[None]:
    """Turn errors while decoding into an ImageError that says why and what to do."""
    try:
        yield
    except (ImageReplacedError, RunStoppedError):
        raise
    except Exception as error:  # Pillow's readers raise any exception for damaged bytes, including TypeError
        if sha256 is not None:
            _check_not_replaced(path, sha256)
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path}: {_reason(path, error)}.") from None


def _check_not_replaced(path: Path, sha256: str) -> None:
    # if the file that cannot be decoded is not the listed one, that is what to report
    try:
        digest = sha256_of_image(path)
    except OSError as error:
        raise ImageReplacedError(f"{path}: can no longer be opened ({error.strerror}).") from None
    if digest != sha256:
        raise ImageReplacedError(f"{path}: the file changed after it was listed.")


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in a supported format ({SUPPORTED_FORMATS}){install_hint(path.suffix.lower())}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels. Reduce the image"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened ({error.strerror})"
    return f"corrupt or truncated ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def network_input_size(
    height: int, width: int, *, short_side: int, step: int = 16, keep_aspect: bool = True
) -> tuple[int, int]:
    """Compute the input size of a network for an image, at scale 1.

    The shorter side becomes `short_side`. The longer keeps the aspect ratio to the nearest multiple of `step`, so that
    images of similar shapes share a batch (the ratio is off by at most step / 2 / short_side), and is at most MAX_RATIO
    times the shorter (longer images are squeezed).

    Args:
        height: Height of the image.
        width: Width of the image.
        short_side: Shorter side of the input, in pixels.
        step: Sides are multiples of it, in pixels.
        keep_aspect: Whether the aspect ratio is kept; otherwise the input is a square.

    Returns:
        Height and width in pixels.
    """
    short = max(step, round(short_side / step) * step)
    if not keep_aspect:
        return short, short
    ratio = min(max(height, width) / min(height, width), MAX_RATIO)
    long = max(short, round(short * ratio / step) * step)
    return (short, long) if height <= width else (long, short)


def scaled_input_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Scale an input size for another level of the image pyramid; each side is at least 32 px."""
    return max(32, round(size[0] * scale)), max(32, round(size[1] * scale))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image with antialiased bilinear interpolation.

    Args:
        image: (..., 3, H, W) uint8.
        size: Height and width of the result.

    Returns:
        (..., 3, *size) uint8.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    return transforms.resize_image(
        image, list(size), interpolation=transforms.InterpolationMode.BILINEAR, antialias=True
    )
