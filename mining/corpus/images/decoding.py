"""From a file to upright RGB pixels, and from pixels to the sizes of a pyramid.

What cannot be read raises ImageError with a reason a person can act on.
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
from mining.corpus.images.image_formats import FORMATS_IN_WORDS, install_hint, open_image
from mining.corpus.images.memory_budget import BUDGET, check_decode_bytes, estimate_decode_bytes
from mining.corpus.images.orientation import load_pixels, orientation_of, swaps_sides, upright_size
from mining.corpus.images.pixel_values import has_deep_colour, write_deep_colour_rgb, write_rgb
from mining.errors import ImageError, ImageReplacedError, RunStoppedError

RequiredSize = Callable[[int, int], tuple[int, int]]
MAX_PIXELS = 128_000_000
MAX_RATIO = 4.0
MAX_SCANS = 500  # of a progressive JPEG, each of which goes over all of its pixels; encoders write about 10
_START_OF_SCAN, _END_OF_JPEG = b"\xff\xda", b"\xff\xd9"


def resolve_image_path(root: Path, name: str) -> Path:
    """Where the image `name` of the folder `root` lies. Raises ImageError where that is not in the folder.

    A name with '..', an absolute one or a link may lead anywhere, and not everybody who writes a label file or an
    archive of images may read whatever this process may.
    """
    path = root / name
    if not is_inside(os.path.realpath(path), _real(root)):
        raise ImageError(f"{path}: leads out of {root}; put the image itself there.")
    return path


@lru_cache(maxsize=16)
def _real(root: Path) -> str:
    return os.path.realpath(root)


def read_image(path: Path) -> Tensor:
    """The image as (3, H, W) uint8 RGB, turned by its EXIF orientation (see `orientation`).

    Grey, palette, CMYK, 16-bit and float images are converted to 8-bit RGB (see `pixel_values`); transparent pixels
    become white; of an animation or a file of several pages the first picture is taken.
    Raises ImageError when the file is missing, empty, corrupt, truncated, has more than MAX_PIXELS pixels or MAX_BYTES
    bytes, or would take more memory than the budget.
    """
    return read_reduced(path, full_size)[0]


def full_size(height: int, width: int) -> tuple[int, int]:
    """For `decode_image`: every pixel is needed."""
    return height, width


def read_reduced(path: Path, needed: RequiredSize, sha256: str | None = None) -> tuple[Tensor, tuple[int, int]]:
    """What `decode_image` gives, for whoever decodes one image at a time."""
    with decode_image(path, needed, sha256) as found:
        return found


@contextmanager
def decode_image(
    path: Path, needed: RequiredSize, sha256: str | None = None, keep_sha256: Callable[[str], None] | None = None
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """The image as `read_image` gives it, or a JPEG at a half, a quarter or an eighth of its size.

    That where it still has the pixels that are needed; libjpeg then computes no others. Its memory counts against the
    budget of all threads until the block ends: make the image smaller there.
    needed: from an image's height and width to those that are needed, px; with its sides swapped, its result's are.
    sha256: of the file that is meant, 64 hex digits; None takes any. keep_sha256: called with that of the file read.
    Gives (3, h, w) uint8, and the height and width of the image itself. Raises what `read_image` raises,
    ImageReplacedError where the file is not the one that is meant, and RunStoppedError when the thread is to stop.
    """
    with ExitStack() as stack:
        with _sentences(path, sha256):
            found = _decoded(path, needed, sha256, keep_sha256, stack)
        yield found


def _decoded(
    path: Path, needed: RequiredSize, sha256: str | None, keep_sha256: Callable[[str], None] | None, stack: ExitStack
) -> tuple[Tensor, tuple[int, int]]:
    file = open_image_file(path, MAX_BYTES)
    stack.callback(file.close)
    image, size = _opened(path, file, needed, stack)
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
        image, size = _opened(path, LargeBytes(data), needed, stack)
    with _without_warnings():
        pixels = _pixels(image, data, is_reduced=image.format == "JPEG" and image.size not in (size, size[::-1]))
    # what a PNG holds behind its pixels is known only now
    return pixels, size[::-1] if image.format == "JPEG" else (int(pixels.shape[1]), int(pixels.shape[2]))


def _opened(
    path: Path, file: SmallFile | LargeFile | LargeBytes, needed: RequiredSize, stack: ExitStack
) -> tuple[Image.Image, tuple[int, int]]:
    """The image, a JPEG set to be decoded at a smaller size where that suffices; and its whole size, (w, h) upright."""
    with _without_warnings():
        image = stack.enter_context(open_image(file))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{path}: {width} x {height} is more than {MAX_PIXELS:,} pixels; reduce the image first.")
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
    """(3, H, W) uint8, turned upright."""
    if image.info.get("progressive") and data.count(_START_OF_SCAN) > MAX_SCANS:
        raise ValueError(f"more than {MAX_SCANS} scans, which take for ever to decode")
    if image.format == "JPEG" and image.mode in ("RGB", "L") and not is_reduced and data.endswith(_END_OF_JPEG):
        # not turned by torchvision, which has a rule of its own for which EXIF block counts
        pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
        return _turned(pixels, orientation_of(image))
    return _turned(*_through_pillow(image, data))


def _through_pillow(image: Image.Image, data: bytes) -> tuple[Tensor, int]:
    """(3, H, W) uint8, and the orientation it has to be turned by."""
    pixels = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    target = pixels.permute(1, 2, 0).numpy()
    is_deep = has_deep_colour(image)
    load_pixels(image)
    if image.size != target.shape[1::-1]:
        raise ValueError("its size is not the one that its header names")
    if not (is_deep and write_deep_colour_rgb(target, data)):
        write_rgb(target, image)
    orientation = orientation_of(image)
    image.close()  # frees Pillow's pixels, before others are made of ours
    return pixels, orientation


def _turned(pixels: Tensor, orientation: int) -> Tensor:
    """(C, H, W) turned upright by an EXIF orientation, 1 to 8."""
    if swaps_sides(orientation):
        pixels = pixels.transpose(1, 2)
    flipped = [side for side, turns in ((1, (3, 4, 7, 8)), (2, (2, 3, 6, 7))) if orientation in turns]
    return pixels.flip(flipped).contiguous() if flipped or orientation > 1 else pixels


@contextmanager
def _sentences(path: Path, sha256: str | None) -> Iterator[None]:
    """Turn what goes wrong in reading into an ImageError that says what to do."""
    try:
        yield
    except (ImageReplacedError, RunStoppedError):
        raise
    except Exception as error:  # Pillow's readers raise whatever damaged bytes make them trip over, TypeError included
        if sha256 is not None:
            _refuse_replaced(path, sha256)
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path}: {_reason(path, error)}.") from None


def _refuse_replaced(path: Path, sha256: str) -> None:
    # what cannot be read may be another file than the one that was listed, which then is what counts
    try:
        found = sha256_of_image(path)
    except OSError as error:
        raise ImageReplacedError(f"{path}: cannot be opened any more ({error.strerror}).") from None
    if found != sha256:
        raise ImageReplacedError(f"{path}: the file changed after it was listed.")


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in a known format ({FORMATS_IN_WORDS}){install_hint(path.suffix.lower())}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels; reduce the image first"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened ({error.strerror})"
    return f"corrupt or truncated ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def network_input_size(height: int, width: int, *, short_side: int, step: int = 16) -> tuple[int, int]:
    """Height and width (px) at which an image is shown to a network at scale 1.

    The shorter side becomes `short_side`; the longer keeps the aspect to the nearest multiple of `step`,
    so that images of alike shapes share a batch (the aspect is off by at most step / 2 / short_side),
    and is capped at MAX_RATIO times the shorter (longer strips are squeezed).
    """
    ratio = min(max(height, width) / min(height, width), MAX_RATIO)
    short = max(step, round(short_side / step) * step)
    long = max(short, round(short * ratio / step) * step)
    return (short, long) if height <= width else (long, short)


def scaled_input_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """A working size at another scale of the pyramid, at least 32 px a side."""
    return max(32, round(size[0] * scale)), max(32, round(size[1] * scale))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 3, H, W) uint8 to (..., 3, *size) uint8: bilinear, antialiased."""
    if tuple(image.shape[-2:]) == size:
        return image
    return transforms.resize_image(
        image, list(size), interpolation=transforms.InterpolationMode.BILINEAR, antialias=True
    )
