"""Only the EXIF orientation is applied, in the same way by decoding, reduced decoding and export."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mining.corpus.images.decoding import read_image, read_reduced
from mining.export.image_files import place_image

WIDE = (64, 128)  # height, width as the pixels lie in the file
TALL = WIDE[::-1]


def photo() -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left."""
    pixels = np.full((*WIDE, 3), 128, np.uint8)
    pixels[:16, :16], pixels[:16, -16:], pixels[-16:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    return Image.fromarray(pixels)


def exif(orientation: int, kind: str = "H") -> bytes:
    """An EXIF block with this single tag; `kind` of its value: H for short, L for long."""
    number = {"H": 3, "L": 4}[kind]
    return b"Exif\0\0II*\0" + struct.pack("<LHHHL", 8, 1, 0x0112, number, 1) + struct.pack(f"<{kind}", orientation).ljust(
        4, b"\0"
    ) + struct.pack("<L", 0)  # fmt: skip


def xmp(orientation: int) -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    photo().save(file, kind, **options)
    return file.getvalue()


def jpeg(*segments: bytes, end: bytes = b"") -> bytes:
    """A JPEG with APP1 segments of these contents, and with bytes after its end."""
    plain = encoded("JPEG", quality=95)
    blocks = b"".join(b"\xff\xe1" + struct.pack(">H", len(one) + 2) + one for one in segments)
    return plain[:2] + blocks + plain[2:] + end


def xmp_segment(orientation: int) -> bytes:
    return b"http://ns.adobe.com/xap/1.0/\0" + xmp(orientation)


def png(*, before: bytes = b"", behind: bytes = b"", text: bytes = b"") -> bytes:
    """A PNG with an eXIf chunk before or after its pixels, and an XMP text."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body)) if body else b""

    plain = encoded("PNG")
    first, last = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    note = b"XML:com.adobe.xmp\0\0\0\0\0" + text if text else b""
    head = chunk(b"eXIf", before[6:]) + chunk(b"iTXt", note)
    return plain[:first] + head + plain[first:last] + chunk(b"eXIf", behind[6:]) + plain[last:]


def mpo(orientation: int) -> bytes:
    file = io.BytesIO()
    photo().save(file, "MPO", save_all=True, append_images=[photo()], exif=exif(orientation))
    return file.getvalue()


def tiff_with_xmp(orientation: int) -> bytes:
    file = io.BytesIO()
    photo().save(file, "TIFF", tiffinfo={700: xmp(orientation)})
    return file.getvalue()


TURNED: dict[str, Callable[[], bytes]] = {
    "JPEG with EXIF": lambda: jpeg(exif(6)),
    "JPEG with EXIF as a long": lambda: jpeg(exif(6, "L")),
    "JPEG with EXIF and bytes after its end": lambda: jpeg(exif(6), end=b"a film"),
    "JPEG with EXIF and another XMP": lambda: jpeg(exif(6), xmp_segment(3)),
    "JPEG with two EXIF blocks": lambda: jpeg(exif(6), exif(3)),
    "MPO with EXIF": lambda: mpo(6),
    "PNG with EXIF": lambda: png(before=exif(6)),
    "PNG with EXIF behind its pixels": lambda: png(behind=exif(6)),
    "WebP with EXIF": lambda: encoded("WEBP", lossless=True, exif=exif(6)),
    "TIFF with the tag": lambda: encoded("TIFF", tiffinfo={0x0112: 6}),
    "AVIF with EXIF": lambda: encoded("AVIF", quality=95, exif=exif(6)),
}
UPRIGHT: dict[str, Callable[[], bytes]] = {
    "JPEG with XMP": lambda: jpeg(xmp_segment(6)),
    "JPEG with XMP and bytes after its end": lambda: jpeg(xmp_segment(6), end=b"a film"),
    "JPEG with EXIF 1 and another XMP": lambda: jpeg(exif(1), xmp_segment(6)),
    "JPEG with EXIF 0": lambda: jpeg(exif(0)),
    "JPEG with EXIF 9": lambda: jpeg(exif(9)),
    "JPEG with EXIF 9 and XMP": lambda: jpeg(exif(9), xmp_segment(6)),
    "JPEG with EXIF cut short": lambda: jpeg(exif(6)[:18]),
    "JPEG with EXIF that is none": lambda: jpeg(b"Exif\0\0nonsense of a camera"),
    "JPEG with EXIF that is none and XMP": lambda: jpeg(b"Exif\0\0nonsense of a camera", xmp_segment(6)),
    "PNG with XMP": lambda: png(text=xmp(6)),
    "WebP with XMP": lambda: encoded("WEBP", lossless=True, xmp=xmp(6)),
    "TIFF with XMP": lambda: tiff_with_xmp(6),
    "PNG without": lambda: png(),
}
IN_EVERY_CASE = pytest.mark.filterwarnings("ignore:Corrupt EXIF")
CASES = [*((name, TALL) for name in TURNED), *((name, WIDE) for name in UPRIGHT)]


def quarter(height: int, width: int) -> tuple[int, int]:
    return height // 4, width // 4


@pytest.fixture
def image(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "image"
    path.write_bytes({**TURNED, **UPRIGHT}[name]())
    return path


def expected(size: tuple[int, int]) -> np.ndarray:
    """The image with orientation 6 applied, or unchanged."""
    return np.array(photo().transpose(Image.Transpose.ROTATE_270) if size == TALL else photo())


@IN_EVERY_CASE
@pytest.mark.parametrize(("name", "size"), CASES)
def test_only_the_exif_orientation_is_applied(image: Path, size: tuple[int, int]) -> None:
    found = read_image(image).permute(1, 2, 0).numpy()
    assert found.shape[:2] == size
    assert np.abs(found.astype(int) - expected(size)).mean() < 8


@IN_EVERY_CASE
@pytest.mark.parametrize(("name", "size"), CASES)
def test_reduced_decoding_applies_the_same_orientation(image: Path, size: tuple[int, int]) -> None:
    reduced, whole = read_reduced(image, quarter)
    assert whole == size
    assert (reduced.shape[1] < reduced.shape[2]) == (size == WIDE)


@IN_EVERY_CASE
@pytest.mark.parametrize(("name", "size"), CASES)
def test_other_readers_of_the_export_see_the_orientation_that_the_run_used(
    image: Path, size: tuple[int, int], tmp_path: Path, name: str
) -> None:
    target = tmp_path / f"out.{name.split()[0].lower().replace('mpo', 'jpg')}"
    place_image(image, target, size=size[::-1], copy=True)
    with Image.open(target) as stored:
        plain = np.array(stored.convert("RGB"))
    with Image.open(target) as stored:
        turned = np.array(ImageOps.exif_transpose(stored).convert("RGB"))
    assert plain.shape[:2] == turned.shape[:2] == size
    for seen in (plain, turned, read_image(target).permute(1, 2, 0).numpy()):
        assert np.abs(seen.astype(int) - expected(size)).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("end", [b"", b"a film"], ids=["plain", "bytes after the end"])
@pytest.mark.parametrize("needed", [lambda h, w: (h, w), quarter], ids=["whole", "reduced"])
def test_all_eight_orientations_are_applied_as_exif_defines_them(
    tmp_path: Path, orientation: int, end: bytes, needed: Callable[[int, int], tuple[int, int]]
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(exif(orientation), end=end))
    found, size = read_reduced(tmp_path / "a.jpg", needed)
    with Image.open(tmp_path / "a.jpg") as stored:
        upright = ImageOps.exif_transpose(stored)
    assert size == upright.size[::-1]
    small = np.array(upright.convert("RGB").resize(found.shape[:0:-1], Image.Resampling.BOX))
    assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - small).mean() < 8
