"""From a file to upright RGB pixels, and from pixels to the sizes of a pyramid.

What cannot be read raises ImageError with a reason a person can act on.
"""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as transforms

from mining.corpus.walk import is_inside
from mining.errors import ImageError, ImageReplacedError

Needed = Callable[[int, int], tuple[int, int]]
MAX_PIXELS = 128_000_000
MAX_BYTES = 1_000_000_000
MAX_RATIO = 4.0
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


def path_below(root: Path, name: str) -> Path:
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
    """The image as (3, H, W) uint8 RGB with its EXIF orientation applied.

    Grey, palette, CMYK, 16-bit and float images are brought to 8-bit RGB; transparent pixels become white.
    Raises ImageError when the file is missing, empty, corrupt, truncated or has more than MAX_PIXELS pixels
    or MAX_BYTES bytes.
    """
    return read_reduced(path, lambda height, width: (height, width))[0]


def read_reduced(
    path: Path, needed: Needed, sha256: str | None = None, keep_sha256: Callable[[str], None] | None = None
) -> tuple[Tensor, tuple[int, int]]:
    """The image as `read_image` gives it, or a JPEG at a half, a quarter or an eighth of its size.

    That where it still has the pixels that are needed; libjpeg then computes no others.
    needed: from an image's height and width to those that are needed, px; with its sides swapped, its result's are.
    sha256: of the file that is meant, 64 hex digits; None takes any. keep_sha256: called with that of the file read.
    Gives (3, h, w) uint8, and the height and width of the image itself. Raises what `read_image` raises, and
    ImageReplacedError where the file is not the one that is meant.
    """
    data = _bytes_of(path) if sha256 is None else _bytes_meant(path, sha256)
    if keep_sha256 is not None:
        keep_sha256(sha256 or hashlib.sha256(data).hexdigest())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                _refuse_bomb(path, *image.size)
                whole = image.size
                if image.format == "JPEG" and image.mode in ("RGB", "L") and data.endswith(b"\xff\xd9"):
                    image.draft(image.mode, needed(*whole[::-1])[::-1])
                    if image.size == whole:
                        pixels = decode_jpeg(
                            torch.frombuffer(bytearray(data), dtype=torch.uint8),
                            mode=ImageReadMode.RGB,
                            apply_exif_orientation=True,
                        )
                        return pixels, (int(pixels.shape[1]), int(pixels.shape[2]))
                pixels = _through_pillow(image)
                turned = tuple(pixels.shape[1:]) != image.size[::-1]
                return pixels, whole if turned else whole[::-1]
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image in a known format (JPEG, PNG, WebP, BMP or TIFF).") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS:,} pixels; reduce the image first.") from None
    except Exception as error:  # Pillow's readers raise whatever damaged bytes make them trip over, TypeError included
        raise ImageError(f"{path}: corrupt or truncated ({_first_line(error)}).") from None


def _bytes_of(path: Path) -> bytes:
    try:
        data = _read(path)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file.") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}).") from None
    if not data:
        raise ImageError(f"{path}: the file is empty (0 bytes).")
    return data


def _read(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device never ends
        raise ImageError(f"{path}: cannot be opened (it is not a file).")
    if found.st_size > MAX_BYTES:
        raise ImageError(f"{path}: more than {MAX_BYTES:,} bytes; reduce the image first.")
    return path.read_bytes()


def _bytes_meant(path: Path, sha256: str) -> bytes:
    try:
        data = _read(path)
    except OSError as error:
        raise ImageReplacedError(f"{path}: cannot be opened any more ({error.strerror}).") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ImageReplacedError(f"{path}: the file changed after it was listed.")
    return data or _bytes_of(path)


def _refuse_bomb(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: {width} x {height} is more than {MAX_PIXELS:,} pixels; reduce the image first.")


def _through_pillow(image: Image.Image) -> Tensor:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _SIXTEEN_BIT or upright.mode == "I":
        upright = Image.fromarray((np.asarray(upright).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    elif upright.mode == "F":
        values = np.nan_to_num(np.asarray(upright, dtype=np.float64))
        span = np.ptp(values)
        upright = Image.fromarray(((values - values.min()) / (span or 1.0) * 255).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        see_through = upright.convert("RGBA")
        ground = Image.new("RGBA", see_through.size, "white")
        upright = Image.alpha_composite(ground, see_through)
    return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1).contiguous()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def working_size(height: int, width: int, *, short_side: int, step: int = 16) -> tuple[int, int]:
    """Height and width (px) at which an image is shown to a network at scale 1.

    The shorter side becomes `short_side`; the longer keeps the aspect to the nearest multiple of `step`,
    so that images of alike shapes share a batch (the aspect is off by at most step / 2 / short_side),
    and is capped at MAX_RATIO times the shorter (longer strips are squeezed).
    """
    ratio = min(max(height, width) / min(height, width), MAX_RATIO)
    short = max(step, round(short_side / step) * step)
    long = max(short, round(short * ratio / step) * step)
    return (short, long) if height <= width else (long, short)


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """A working size at another scale of the pyramid, at least 32 px a side."""
    return max(32, round(size[0] * scale)), max(32, round(size[1] * scale))


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 3, H, W) uint8 to (..., 3, *size) uint8: bilinear, antialiased."""
    if tuple(image.shape[-2:]) == size:
        return image
    return transforms.resize_image(
        image, list(size), interpolation=transforms.InterpolationMode.BILINEAR, antialias=True
    )
