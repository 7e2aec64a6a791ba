import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from mining.corpus.images.decoding import (
    MAX_PIXELS,
    MAX_RATIO,
    network_input_size,
    read_image,
    read_reduced,
    resize_image,
    scaled_input_size,
)
from mining.errors import ImageError

ORIENTATION = 0x0112
PATTERN_SIZE = (40, 56)


def pattern(height: int = PATTERN_SIZE[0], width: int = PATTERN_SIZE[1]) -> np.ndarray:
    """Smooth colours that differ in every corner."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 120 / (height + width)], -1).astype(np.uint8)


def photo() -> Image.Image:
    return Image.fromarray(pattern())


def pixels(path: Path) -> np.ndarray:
    tensor = read_image(path)
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous() or path.suffix == ".jpg"
    return tensor.permute(1, 2, 0).numpy()


def reason(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def difference(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second).max())


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_lossless_formats_give_the_exact_pixels(tmp_path: Path, name: str) -> None:
    photo().save(tmp_path / name)
    assert difference(pixels(tmp_path / name), pattern()) == 0


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_gives_the_exact_pixels(tmp_path: Path, compression: str) -> None:
    photo().save(tmp_path / "a.tif", compression=compression)
    assert difference(pixels(tmp_path / "a.tif"), pattern()) == 0


def test_lossless_webp_gives_the_exact_pixels(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.webp", lossless=True)
    assert difference(pixels(tmp_path / "a.webp"), pattern()) == 0


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_decoded_as_pillow_decodes_it(tmp_path: Path, subsampling: int, progressive: bool) -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(pattern(91, 130) + rng.integers(-30, 30, (91, 130, 3)), 0, 255).astype(np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noisy).save(path, quality=85, subsampling=subsampling, progressive=progressive)
    assert difference(pixels(path), np.array(Image.open(path).convert("RGB"))) <= 3


def test_the_format_is_detected_from_the_content_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(photo(), "PNG"))
    assert difference(pixels(tmp_path / "a.jpg"), pattern()) == 0


def test_a_jpeg_with_bytes_after_its_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(photo(), "JPEG", quality=95) + b"written by a camera")
    assert difference(pixels(tmp_path / "a.jpg"), pattern()) <= 8


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.bmp"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, name: str) -> None:
    photo().convert("L").save(tmp_path / name, quality=95)
    found = pixels(tmp_path / name)
    assert (found == found[..., :1]).all()
    assert difference(found[..., 0], np.array(photo().convert("L"))) <= 3


def test_a_palette_image_is_converted_to_its_colours(tmp_path: Path) -> None:
    indexed = photo().quantize(32)
    indexed.save(tmp_path / "a.png")
    assert difference(pixels(tmp_path / "a.png"), np.array(indexed.convert("RGB"))) == 0


def test_one_bit_images_become_black_and_white(tmp_path: Path) -> None:
    bits = np.indices((9, 13)).sum(axis=0) % 2 == 0
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert difference(pixels(tmp_path / "a.png"), np.repeat(bits[..., None] * 255, 3, axis=2)) == 0


def test_a_cmyk_jpeg_is_converted_to_its_true_colours(tmp_path: Path) -> None:
    photo().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert difference(pixels(tmp_path / "a.jpg"), pattern()) <= 12


def test_transparent_pixels_become_white_and_half_transparent_ones_blend_with_white(tmp_path: Path) -> None:
    colours = np.zeros((1, 3, 4), np.uint8)
    colours[0, :, 3] = (0, 128, 255)
    Image.fromarray(colours).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0, :, 0].tolist() == [255, 127, 0]


def test_transparent_grey_becomes_white(tmp_path: Path) -> None:
    grey = np.array([[[0, 0], [90, 255]]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0].tolist() == [[255] * 3, [90] * 3]


@pytest.mark.parametrize("kind", ["P", "L", "RGB"])
def test_a_colour_declared_transparent_becomes_white(tmp_path: Path, kind: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 90])
    image.putdata([0, 1])
    transparent = {"P": 0, "L": image.convert("L").getpixel((0, 0)), "RGB": (200, 0, 0)}[kind]
    image.convert(kind).save(tmp_path / "a.png", transparency=transparent)
    found = pixels(tmp_path / "a.png")[0]
    assert found[0].tolist() == [255, 255, 255]
    assert found[1].tolist() == ([0, 0, 90] if kind != "L" else [10, 10, 10])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path, name: str) -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / name)
    found = pixels(tmp_path / name)
    assert difference(found[..., 0], (levels >> 8).astype(np.uint8)) == 0
    assert (found == found[..., :1]).all()


def test_float_images_are_stretched_over_the_grey_levels(tmp_path: Path) -> None:
    values = np.linspace(-0.5, 2.0, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert difference(pixels(tmp_path / "a.tif")[..., 0], np.arange(256).reshape(16, 16)) <= 1


@pytest.mark.parametrize("value", [0.0, 3.5, float("nan")])
def test_a_constant_float_image_is_readable(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.full((4, 5), value, np.float32)).save(tmp_path / "a.tif")
    assert (pixels(tmp_path / "a.tif") == 0).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20_000, 10), (1, 300)])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_extreme_shapes_are_read(tmp_path: Path, name: str, width: int, height: int) -> None:
    Image.new("RGB", (width, height), (200, 100, 50)).save(tmp_path / name, quality=95)
    found = pixels(tmp_path / name)
    assert found.shape == (height, width, 3)
    assert difference(found, np.broadcast_to(np.array([200, 100, 50]), found.shape)) <= 3


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_every_orientation_is_applied_as_pillow_does(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo().save(tmp_path / name, exif=exif, quality=95)
    with Image.open(tmp_path / name) as image:
        upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert upright.shape[:2] == (PATTERN_SIZE if orientation < 5 else PATTERN_SIZE[::-1])
    assert difference(pixels(tmp_path / name), upright) <= 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo().save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert difference(pixels(tmp_path / "a.jpg"), pattern()) <= 8


# --- files that cannot be decoded ------------------------------------------------------------------------------------


def with_thumbnail() -> bytes:
    """A JPEG whose EXIF block contains a complete smaller JPEG with its own end marker."""
    thumbnail = encoded(photo().resize((16, 12)), "JPEG")
    directory = struct.pack("<HHHLLHHLLL", 2, 0x0201, 4, 1, 8 + 2 + 24 + 4, 0x0202, 4, 1, len(thumbnail), 0)
    first = struct.pack("<HL", 0, 8 + 6)
    directory = directory.replace(struct.pack("<L", 38), struct.pack("<L", 8 + 6 + 30), 1)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<L", 8) + first + directory + thumbnail
    plain = encoded(Image.fromarray(pattern(120, 160)), "JPEG")
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


def test_a_jpeg_with_a_thumbnail_gives_the_image_not_the_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(with_thumbnail())
    assert difference(pixels(tmp_path / "a.jpg"), pattern(120, 160)) <= 12


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_files_truncated_anywhere_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)), kind)
    (tmp_path / "a.img").write_bytes(data[: int(share * len(data))])
    reason(tmp_path / "a.img")


def test_a_jpeg_without_its_last_bytes_is_reported_as_truncated(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(photo(), "JPEG")[:-20])
    assert "corrupt or truncated" in reason(tmp_path / "a.jpg")


def test_a_jpeg_truncated_after_its_thumbnail_is_refused(tmp_path: Path) -> None:
    data = with_thumbnail()
    cut = data.index(b"\xff\xd9") + 2
    assert cut < len(data)
    (tmp_path / "a.jpg").write_bytes(data[:cut])
    reason(tmp_path / "a.jpg")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_a_jpeg_with_a_thumbnail_is_refused_wherever_it_is_truncated(tmp_path: Path, share: float) -> None:
    data = with_thumbnail()
    (tmp_path / "a.jpg").write_bytes(data[: int(share * len(data))])
    reason(tmp_path / "a.jpg")


def test_an_empty_file_is_reported_as_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert "empty (0 bytes)" in reason(tmp_path / "a.jpg")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404 Not Found</html>")
    assert "not an image" in reason(tmp_path / "a.jpg")


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    assert "no such file" in reason(tmp_path / "a.jpg")


def test_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    assert "cannot be opened" in reason(tmp_path)


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def bmp_of(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<LHHL", 54, 0, 0, 54) + struct.pack("<LllHHLLllLL", 40, width, height, 1, 24, *[0] * 6)


@pytest.mark.parametrize("side", [12_000, 60_000])
@pytest.mark.parametrize("crafted", [png_of, bmp_of])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, crafted: object, side: int) -> None:
    (tmp_path / "a.img").write_bytes(crafted(side, side))
    assert f"more than {MAX_PIXELS:,} pixels" in reason(tmp_path / "a.img")


def test_damaged_bytes_give_an_image_or_an_image_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.img"
    originals = [encoded(photo(), kind) for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")]
    refused = 0
    for turn in range(300):
        data = bytearray(originals[turn % len(originals)])
        for place in rng.integers(0, min(len(data), 150), 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert read_image(path).shape[0] == 3
        except ImageError:
            refused += 1
    assert 50 < refused < 300


@pytest.mark.parametrize("entry", [b"\x00\x01\x0b\x00\x01\x00\x00\x00\x00\x00\x80\x3f"])
def test_a_tiff_with_a_fractional_width_is_refused(tmp_path: Path, entry: bytes) -> None:
    data = bytearray(encoded(photo(), "TIFF"))
    place = data.index(b"\x00\x01\x04\x00\x01\x00\x00\x00")
    data[place : place + len(entry)] = entry
    (tmp_path / "a.tif").write_bytes(data)
    assert "corrupt" in reason(tmp_path / "a.tif")


# --- large images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_reduced_while_decoding(tmp_path: Path, orientation: int, mode: str) -> None:
    """The result has a quarter of the size, is upright, and has the same colours."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(pattern(320, 448)).convert(mode).save(path, exif=exif, quality=95)
    whole = read_image(path)
    reduced, size = read_reduced(path, lambda height, width: (height // 4, width // 4))
    assert size == tuple(whole.shape[1:]) == ((448, 320) if orientation > 4 else (320, 448))
    assert tuple(reduced.shape[1:]) == (size[0] // 4, size[1] // 4)
    assert difference(reduced.numpy(), resize_image(whole, (size[0] // 4, size[1] // 4)).numpy()) <= 6


@pytest.mark.parametrize(
    ("side", "expected"), [(400, 400), (399, 400), (201, 400), (200, 200), (150, 200), (99, 100), (1, 50)]
)
def test_a_reduced_jpeg_keeps_the_required_pixels(tmp_path: Path, side: int, expected: int) -> None:
    photo().resize((400, 600)).save(tmp_path / "a.jpg")
    reduced, size = read_reduced(tmp_path / "a.jpg", lambda height, width: (side * height // width, side))
    assert size == (600, 400)
    assert tuple(reduced.shape[1:]) == (expected * 3 // 2, expected)


def test_other_formats_are_decoded_at_full_size(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    whole, size = read_reduced(tmp_path / "a.png", lambda height, width: (1, 1))
    assert size == tuple(whole.shape[1:]) == PATTERN_SIZE


def test_a_truncated_large_jpeg_is_refused_even_if_it_is_reduced(tmp_path: Path) -> None:
    data = encoded(photo().resize((400, 600)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="corrupt or truncated"):
        read_reduced(tmp_path / "a.jpg", lambda height, width: (height // 4, width // 4))


# --- sizes -----------------------------------------------------------------------------------------------------------

sides = st.integers(1, 30_000)
shorts = st.integers(16, 640)


@given(height=sides, width=sides, short_side=shorts, step=st.sampled_from([8, 16, 32]))
@settings(max_examples=200, deadline=None)
def test_input_sizes_are_multiples_of_the_step_and_keep_the_aspect_ratio(
    height: int, width: int, short_side: int, step: int
) -> None:
    high, wide = network_input_size(height, width, short_side=short_side, step=step)
    short, long = min(high, wide), max(high, wide)
    assert short % step == long % step == 0
    assert short == max(step, round(short_side / step) * step)
    ratio = min(max(height, width) / min(height, width), MAX_RATIO)
    assert abs(long / short - ratio) <= step / 2 / short + 1e-9
    assert high <= wide if height < width else wide <= high if width < height else high == wide


@given(height=sides, width=sides, short_side=shorts)
@settings(max_examples=100, deadline=None)
def test_a_rotated_image_gets_the_rotated_input_size(height: int, width: int, short_side: int) -> None:
    size = network_input_size(height, width, short_side=short_side)
    assert network_input_size(width, height, short_side=short_side) == size[::-1]


@given(side=st.integers(1, 2_000), times=st.integers(2, 9), short_side=shorts)
@settings(max_examples=100, deadline=None)
def test_the_input_size_depends_only_on_the_aspect_ratio(side: int, times: int, short_side: int) -> None:
    once = network_input_size(3 * side, 4 * side, short_side=short_side)
    assert network_input_size(3 * side * times, 4 * side * times, short_side=short_side) == once


@pytest.mark.parametrize(
    ("size", "scale", "expected"), [((224, 304), 1.5, (336, 456)), ((224, 224), 0.1, (32, 32)), ((64, 32), 1, (64, 32))]
)
def test_scaled_sizes_stay_large_enough(size: tuple[int, int], scale: float, expected: tuple[int, int]) -> None:
    assert scaled_input_size(size, scale) == expected


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    assert torch.equal(resize_image(image, (4, 5)), image)


@pytest.mark.parametrize("size", [(7, 9), (80, 112), (3, 200)])
def test_resizing_keeps_a_constant_image_constant(size: tuple[int, int]) -> None:
    image = torch.full((2, 3, 40, 56), 77, dtype=torch.uint8)
    found = resize_image(image, size)
    assert found.shape == (2, 3, *size)
    assert (found == 77).all()


def test_reducing_an_image_averages_its_pixels() -> None:
    stripes: Tensor = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    assert (resize_image(stripes, (8, 8)).int() - 100).abs().max() <= 4


@pytest.mark.parametrize(("short_side", "expected"), [(224, 224), (299, 304), (20, 16)])
@pytest.mark.parametrize(("height", "width"), [(300, 500), (500, 300), (10, 4000)])
def test_without_its_aspect_an_image_becomes_a_square(height: int, width: int, short_side: int, expected: int) -> None:
    assert network_input_size(height, width, short_side=short_side, keep_aspect=False) == (expected, expected)
