"""The image formats that are read here, and what to install for others."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from PIL import Image, features

HAS_HEIF = find_spec("pillow_heif") is not None
_HEIF = frozenset({".heic", ".heif", ".hif"})
# Pillow's name, suffixes; in the order in which they are tried. Not EPS, PDF and WMF, which run another program, and
# no icons, films and scientific containers
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
_LACKING = {
    name
    for name, is_there in (
        ("WEBP", features.check("webp")),
        ("AVIF", features.check("avif")),
        ("JPEG2000", features.check("jpg_2000")),
        ("HEIF", HAS_HEIF),
    )
    if not is_there
}
IMAGE_SUFFIXES = frozenset().union(*(suffixes for name, suffixes in _FORMATS.items() if name not in _LACKING))
# pictures that are not read: worth a note where they lie among the others
_UNREAD = """
    .3fr .arw .bpg .cr2 .cr3 .crw .dcm .dcr .dng .emf .eps .erf .exr .fit .fits .flif .hdr .ico .jxl .jxr .mrw .nef .nrw
    .orf .pef .raf .raw .rw2 .rwl .sr2 .srw .svg .wdp .wmf .x3f .xcf
"""
UNREAD_SUFFIXES = frozenset(_UNREAD.split()).union(*(_FORMATS[name] for name in _LACKING)).difference(IMAGE_SUFFIXES)
FORMATS_IN_WORDS = ", ".join(
    word
    for name, word in (
        ("JPEG", "JPEG"), ("PNG", "PNG"), ("WEBP", "WebP"), ("TIFF", "TIFF"), ("BMP", "BMP"), ("GIF", "GIF"),
        ("AVIF", "AVIF"), ("JPEG2000", "JPEG 2000"), ("HEIF", "HEIC"), ("PPM", "PPM"),
    )
    if name not in _LACKING
)  # fmt: skip


def open_image(file: IO[bytes] | Path) -> Image.Image:
    """Open an image of one of the formats by its header; of a file with several pictures the first.

    Raises what Pillow raises; UnidentifiedImageError for other formats.
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
    """In brackets behind a suffix that is not read; '' where nothing helps."""
    return " (install boxmine[heif])" if suffix in _HEIF and not HAS_HEIF else ""
