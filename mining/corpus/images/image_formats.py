"""The image formats that are supported, and what to install for others."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from PIL import Image, features

HAS_HEIF = find_spec("pillow_heif") is not None
_HEIF = frozenset({".heic", ".heif", ".hif"})
# Pillow's name and suffixes, in the order in which formats are tried. EPS, PDF and WMF are left out because they run
# another program; so are icons, videos and scientific containers
_FORMATS: dict[str, frozenset[str]] = {
    "JPEG": frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}),
    "PNG": frozenset({".png", ".apng"}),
    "WEBP": frozenset({".webp"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "GIF": frozenset({".gif"}),
    "PPM": frozenset({".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}),
    "AVIF": frozenset({".avif"}),
    "HEIF": _HEIF,
    "JPEG2000": frozenset({".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c"}),
    "PSD": frozenset({".psd"}),
    "QOI": frozenset({".qoi"}),
    "PCX": frozenset({".pcx"}),
    "DDS": frozenset({".dds"}),
    "SGI": frozenset({".sgi"}),
    "SUN": frozenset({".ras"}),
    "TGA": frozenset({".tga"}),
}
_UNAVAILABLE = {
    name
    for name, is_available in (
        ("WEBP", features.check("webp")),
        ("AVIF", features.check("avif")),
        ("JPEG2000", features.check("jpg_2000")),
        ("HEIF", HAS_HEIF),
    )
    if not is_available
}
IMAGE_SUFFIXES = frozenset().union(*(suffixes for name, suffixes in _FORMATS.items() if name not in _UNAVAILABLE))
# image formats that are not supported: a note reports such files
_UNREAD = """
    .3fr .arw .bpg .cr2 .cr3 .crw .dcm .dcr .dng .emf .eps .erf .exr .fit .fits .flif .hdr .ico .jxl .jxr .mrw .nef .nrw
    .orf .pef .raf .raw .rw2 .rwl .sr2 .srw .svg .wdp .wmf .x3f .xcf
"""
UNREAD_SUFFIXES = (
    frozenset(_UNREAD.split()).union(*(_FORMATS[name] for name in _UNAVAILABLE)).difference(IMAGE_SUFFIXES)
)
SUPPORTED_FORMATS = ", ".join(
    word
    for name, word in (
        ("JPEG", "JPEG"), ("PNG", "PNG"), ("WEBP", "WebP"), ("TIFF", "TIFF"), ("BMP", "BMP"), ("GIF", "GIF"),
        ("AVIF", "AVIF"), ("JPEG2000", "JPEG 2000"), ("HEIF", "HEIC"), ("PPM", "PPM"),
    )
    if name not in _UNAVAILABLE
)  # fmt: skip


def open_image(file: IO[bytes] | Path) -> Image.Image:
    """Open an image of a supported format, detected from its header; the first one of a file with several images.

    Raises:
        PIL.UnidentifiedImageError: The format is not supported; damaged files raise other exceptions of Pillow.
    """
    return Image.open(file, formats=_registered())


@cache
def _registered() -> tuple[str, ...]:
    if HAS_HEIF:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def install_hint(suffix: str) -> str:
    """What to install to read files with this suffix, in parentheses; empty if nothing helps."""
    return " (install boxmine[heif])" if suffix in _HEIF and not HAS_HEIF else ""
