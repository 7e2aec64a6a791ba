"""Place image files in an export: linked if that is safe, else copied or re-encoded."""

import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from mining.corpus.images.image_formats import open_image
from mining.corpus.images.orientation import drop_xmp, is_orientation_ambiguous, turn_upright, upright_size
from mining.errors import ImageError, RunError
from mining.runs.rows import ImageRow
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
    """Place one image at `target` so that every reader sees the pixels that the boxes were drawn on.

    Some readers apply the EXIF orientation, some do not, and some follow an XMP orientation. So an image that has one
    is re-encoded in the orientation of the run, without EXIF and XMP (JPEG quality 95, other formats lossless). All
    others are hard-linked, or copied if that is not possible; never symbolically linked. A JPEG without its end marker
    is copied, because some trainers repair such files in place, which through a link would change the original.

    Args:
        source: The image file.
        target: Where to place it.
        size: (width, height) in pixels during the run, EXIF orientation applied.
        copy: Copy instead of linking.
        only: Formats (Pillow's names) that are placed as they are; others are re-encoded in the format of the target's
            suffix (JPEG quality 95, other formats lossless if possible). Empty = all formats.

    Raises:
        RunError: The file is missing or unreadable, or its size is not that of the run.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _open(source) as image:
        is_upright = _is_upright(image, source)
        _check_size(image, source, size)
        if only and image.format not in only:
            _write_as_suffix(source, target)
        elif not is_upright:
            _write_upright(source, target)
        else:
            place = shutil.copyfile if copy or _is_cut_jpeg(image, source) else link_or_copy
            place(source, target)


def place_named(
    source: Path,
    folder: Path,
    image: ImageRow,
    suffixes: Collection[str],
    only: tuple[str, ...] = (),
    *,
    copy: bool,
    rename: Callable[[str], str] = lambda part: part,
) -> str:
    """Place an image of a run below `folder` under its own name, changed only where a reader would not find it.

    Args:
        source: The image file.
        folder: The folder of the images of an export.
        image: The image.
        suffixes: Suffixes in lower case that the reader knows; with another one, the image becomes a PNG.
        only: As for `place_image`.
        copy: Copy instead of linking.
        rename: Changes a part of the path, a folder or the file name.

    Returns:
        The name below `folder`, with `/`.

    Raises:
        RunError: As for `place_image`.
    """
    path = PurePosixPath(*map(rename, PurePosixPath(image.file_name).parts))
    is_known = path.suffix.lower() in suffixes
    path = path if is_known else path.with_name(path.name + ".png")
    others = (path.with_name(f"{path.stem}_{number}{path.suffix}") for number in count(2))
    name = next(str(one) for one in chain([path], others) if not (folder / one).exists())
    size = (image.width, image.height)
    place_image(source, folder / name, size=size, copy=copy, only=only if is_known else ("PNG",))
    return name


def _open(source: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return open_image(source)
    except FileNotFoundError:
        raise RunError(f"{source} is missing; it was there during the run. Restore it, or mine again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(f"{source} cannot be read any more ({error}). Restore it, or mine again.") from None


def _is_upright(image: Image.Image, source: Path) -> bool:
    """Whether every reader shows the image in the same orientation."""
    if image.format == "PNG":
        # metadata may follow the pixels, where Pillow finds it only after decoding; few files have any
        if not any(mark in source.read_bytes() for mark in _PNG_METADATA):
            return True
        with _read_errors(source):
            image.load()
    return not is_orientation_ambiguous(image)


def _check_size(image: Image.Image, source: Path, size: tuple[int, int]) -> None:
    upright = upright_size(image)
    if upright != size:
        raise RunError(
            f"{source} is {upright[0]} x {upright[1]} px, but was {size[0]} x {size[1]} during the run: "
            "the file has changed. Restore the old file, or mine again."
        )


@contextmanager
def _read_errors(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"{source} cannot be read any more ({error}). Restore it, or mine again.") from None


def _write_upright(source: Path, target: Path) -> None:
    """Write the image upright: in its own format if that is lossless, else with the pixels that the run decoded."""
    with _open(source) as image, _read_errors(source):  # reopened: earlier calls change how Pillow turns a TIFF
        options = _WRITERS.get(image.format or "")
        if options is None or _has_deep_colour(image):
            _write_as_suffix(source, target)
            return
        upright = turn_upright(image).copy()  # a copy has no TIFF tags, such as an XMP block
    upright.info.pop("exif", None)
    drop_xmp(upright)
    upright.save(target, exif=b"", icc_profile=upright.info.get("icc_profile"), **options)


def _has_deep_colour(image: Image.Image) -> bool:
    from mining.corpus.images.pixel_values import has_deep_colour  # imports OpenCV, which linking does not need

    return has_deep_colour(image)


def _write_as_suffix(source: Path, target: Path) -> None:
    from mining.corpus.images.decoding import read_image  # imports torch, which linking does not need

    try:
        pixels = read_image(source).permute(1, 2, 0).numpy()
    except ImageError as error:
        raise RunError(f"{error} It could be read during the run: restore the file, or mine again.") from None
    target_format = Image.registered_extensions().get(target.suffix.lower(), "PNG")
    Image.fromarray(pixels).save(target, **_WRITERS.get(target_format, {"format": target_format}))


def _is_cut_jpeg(image: Image.Image, source: Path) -> bool:
    if image.format not in JPEG_FORMATS:
        return False
    with source.open("rb") as file:
        file.seek(-len(_END_OF_JPEG), os.SEEK_END)
        return file.read() != _END_OF_JPEG
