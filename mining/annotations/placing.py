"""Images brought into an export: linked where that is safe, else copied or written anew."""

import os
import shutil
import struct
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from mining.errors import ImageError, RunError
from mining.files import link_or_copy

JPEG_FORMATS = ("JPEG", "MPO")
_ORIENTATION = 0x0112
_END_OF_JPEG = b"\xff\xd9"
_PNG_METADATA = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}
_WRITERS: dict[str, dict[str, Any]] = {"JPEG": _JPEG, "MPO": _JPEG, "WEBP": {"format": "WEBP", "lossless": True}}


def place_image(source: Path, target: Path, *, size: tuple[int, int], copy: bool, only: tuple[str, ...] = ()) -> None:
    """Bring one image to `target` so that every reader sees the pixels the boxes were drawn on.

    size: (width, height) in pixels that the run saw, EXIF orientation applied.
    only: formats in Pillow's names that may stay as they are, others are re-encoded to what the target's suffix says
    (JPEG quality 95); empty = all may stay.

    Some readers turn an image by its EXIF orientation and some do not, so an image that has one is written upright and
    without EXIF (JPEG quality 95, other formats lossless). Everything else is hard-linked, or copied where that
    cannot be or `copy` asks for it; never a symbolic link. A JPEG without its end marker is copied: some trainers
    mend such files in place, which through a link would change the original.
    Raises RunError when the file is gone, unreadable or of another size than the run saw.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _opened(source) as image:
        orientation = _orientation(image, source)
        _check_size(image, orientation, source, size)
        if only and image.format not in only:
            _write_as_suffix(source, target)
        elif orientation != 1:
            _write_upright(image, source, target)
        else:
            place = shutil.copyfile if copy or _is_cut_jpeg(image, source) else link_or_copy
            place(source, target)


def _opened(source: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(source)
    except FileNotFoundError:
        raise RunError(f"{source} is gone since the run. Bring it back, or mine again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(f"{source} cannot be read any more ({error}). Bring it back, or mine again.") from None


def _orientation(image: Image.Image, source: Path) -> int:
    if image.format == "JPEG":
        return _jpeg_orientation(image)
    # Pillow decodes a whole PNG to look for metadata behind the pixels; few have any
    if image.format == "PNG" and not any(mark in source.read_bytes() for mark in _PNG_METADATA):
        return 1
    return _turned(image.getexif())


def _jpeg_orientation(image: Image.Image) -> int:
    # EXIF alone, as JPEG decoders do; image.getexif() would also believe XMP
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return _turned(exif)
    except (SyntaxError, OSError, ValueError, struct.error):
        return 1


def _turned(exif: Image.Exif) -> int:
    orientation = exif.get(_ORIENTATION, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def _check_size(image: Image.Image, orientation: int, source: Path, size: tuple[int, int]) -> None:
    # Pillow gives TIFF sizes upright already
    is_swapped = orientation >= 5 and image.format != "TIFF"
    upright = (image.height, image.width) if is_swapped else image.size
    if upright != size:
        raise RunError(
            f"{source} is {upright[0]} x {upright[1]} px, but was {size[0]} x {size[1]} during the run: "
            "it was changed since. Bring the old file back, or mine again."
        )


def _write_upright(image: Image.Image, source: Path, target: Path) -> None:
    options = _WRITERS.get(image.format or "", {"format": image.format})
    try:
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"{source} cannot be read any more ({error}). Bring it back, or mine again.") from None
    for tag in ("exif", "xmp", "XML:com.adobe.xmp"):
        upright.info.pop(tag, None)
    upright.save(target, exif=b"", icc_profile=upright.info.get("icc_profile"), **options)


def _write_as_suffix(source: Path, target: Path) -> None:
    from mining.images import read_image  # brings torch, which linking does without

    try:
        pixels = read_image(source).permute(1, 2, 0).numpy()
    except ImageError as error:
        raise RunError(f"{error} It could be read during the run: bring it back, or mine again.") from None
    Image.fromarray(pixels).save(target, **(_JPEG if target.suffix == ".jpg" else {}))


def _is_cut_jpeg(image: Image.Image, source: Path) -> bool:
    if image.format not in JPEG_FORMATS:
        return False
    with source.open("rb") as file:
        file.seek(-len(_END_OF_JPEG), os.SEEK_END)
        return file.read() != _END_OF_JPEG
