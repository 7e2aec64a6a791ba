"""Images brought into an export: linked where that is safe, else copied or written anew."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from mining.corpus.images.image_formats import open_image
from mining.corpus.images.orientation import drop_xmp, is_orientation_ambiguous, turn_upright, upright_size
from mining.errors import ImageError, RunError
from mining.storage.files import link_or_copy

JPEG_FORMATS = ("JPEG", "MPO")
_END_OF_JPEG = b"\xff\xd9"
_PNG_METADATA = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}
_WRITERS: dict[str, dict[str, Any]] = {
    "JPEG": _JPEG,
    "MPO": _JPEG,
    "WEBP": {"format": "WEBP", "lossless": True},
    "AVIF": {"format": "AVIF", "quality": 100, "subsampling": "4:4:4"},
    "PNG": {"format": "PNG"},
    "TIFF": {"format": "TIFF"},
}


def place_image(source: Path, target: Path, *, size: tuple[int, int], copy: bool, only: tuple[str, ...] = ()) -> None:
    """Bring one image to `target` so that every reader sees the pixels the boxes were drawn on.

    size: (width, height) in pixels that the run saw, EXIF orientation applied.
    only: formats in Pillow's names that may stay as they are, others are re-encoded to what the target's suffix says
    (JPEG quality 95, other formats lossless where they can be); empty = all may stay.

    Some readers turn an image by its EXIF orientation and some do not, and some follow an XMP orientation, so an image
    that has one is written as the run saw it, without EXIF and XMP (JPEG quality 95, other formats lossless).
    Everything else is hard-linked, or copied where that cannot be or `copy` asks for it; never a symbolic link. A JPEG
    without its end marker is copied: some trainers mend such files in place, which through a link would change the
    original.
    Raises RunError when the file is gone, unreadable or of another size than the run saw.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _opened(source) as image:
        is_upright = _is_upright(image, source)
        _check_size(image, source, size)
        if only and image.format not in only:
            _write_as_suffix(source, target)
        elif not is_upright:
            _write_upright(source, target)
        else:
            place = shutil.copyfile if copy or _is_cut_jpeg(image, source) else link_or_copy
            place(source, target)


def _opened(source: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return open_image(source)
    except FileNotFoundError:
        raise RunError(f"{source} is gone since the run. Bring it back, or mine again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(f"{source} cannot be read any more ({error}). Bring it back, or mine again.") from None


def _is_upright(image: Image.Image, source: Path) -> bool:
    """Whether every reader shows the image as it lies in the file."""
    if image.format == "PNG":
        # its metadata may lie behind the pixels, where Pillow finds it when it has decoded them; few have any
        if not any(mark in source.read_bytes() for mark in _PNG_METADATA):
            return True
        with _readable(source):
            image.load()
    return not is_orientation_ambiguous(image)


def _check_size(image: Image.Image, source: Path, size: tuple[int, int]) -> None:
    upright = upright_size(image)
    if upright != size:
        raise RunError(
            f"{source} is {upright[0]} x {upright[1]} px, but was {size[0]} x {size[1]} during the run: "
            "it was changed since. Bring the old file back, or mine again."
        )


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"{source} cannot be read any more ({error}). Bring it back, or mine again.") from None


def _write_upright(source: Path, target: Path) -> None:
    """In the image's own format where that loses nothing, else as the run saw it."""
    with _opened(source) as image, _readable(source):  # anew: what Pillow was asked before decides how it turns a TIFF
        options = _WRITERS.get(image.format or "")
        if options is None or _has_deep_colour(image):
            _write_as_suffix(source, target)
            return
        upright = turn_upright(image).copy()  # a copy has none of a TIFF's tags, its XMP block for one
    upright.info.pop("exif", None)
    drop_xmp(upright)
    upright.save(target, exif=b"", icc_profile=upright.info.get("icc_profile"), **options)


def _has_deep_colour(image: Image.Image) -> bool:
    from mining.corpus.images.pixel_values import has_deep_colour  # brings OpenCV, which linking does without

    return has_deep_colour(image)


def _write_as_suffix(source: Path, target: Path) -> None:
    from mining.corpus.images.decoding import read_image  # brings torch, which linking does without

    try:
        pixels = read_image(source).permute(1, 2, 0).numpy()
    except ImageError as error:
        raise RunError(f"{error} It could be read during the run: bring it back, or mine again.") from None
    target_format = Image.registered_extensions().get(target.suffix.lower(), "PNG")
    Image.fromarray(pixels).save(target, **_WRITERS.get(target_format, {"format": target_format}))


def _is_cut_jpeg(image: Image.Image, source: Path) -> bool:
    if image.format not in JPEG_FORMATS:
        return False
    with source.open("rb") as file:
        file.seek(-len(_END_OF_JPEG), os.SEEK_END)
        return file.read() != _END_OF_JPEG
