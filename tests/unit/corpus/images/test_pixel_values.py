"""Images of more than 8 bits keep the brightness at which they were taken."""

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mining.corpus.images.decoding import read_image
from mining.corpus.images.pixel_values import bits_in_use


def greys() -> np.ndarray:
    """A smooth image that uses the whole range 0-255, (24, 40) uint8."""
    y, x = np.mgrid[0:24, 0:40]
    found = (x * 200 / 39 + y * 55 / 23).round().astype(np.uint8)
    found[0, 0], found[-1, -1] = 0, 255
    return found


def colours() -> np.ndarray:
    return np.dstack([greys(), greys()[::-1], greys()[:, ::-1]])


def deep(pixels: np.ndarray, bits: int) -> np.ndarray:
    """The same image in values of this number of bits, as uint16."""
    return (pixels.astype(np.uint16) << (bits - 8)).astype(np.uint16)


def seen(path: Path) -> np.ndarray:
    return read_image(path).permute(1, 2, 0).numpy()


def same(found: np.ndarray, pixels: np.ndarray) -> bool:
    wanted = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return found.shape == wanted.shape and bool((np.abs(found.astype(int) - wanted) <= 1).all())


def write_turned_tiff(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """An uncompressed RGB TIFF of 16 bits per channel, with an orientation tag."""
    height, width, _ = pixels.shape
    data = pixels.astype("<u2").tobytes()
    start = 8 + 2 + 12 * 10 + 4
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, start), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, start + 6), (274, 3, 1, orientation), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + struct.pack("<L", 0)
    path.write_bytes(head + struct.pack("<HHH", 16, 16, 16) + data)


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_any_depth_is_as_bright_as_in_8_bits(tmp_path: Path, name: str, bits: int) -> None:
    Image.fromarray(deep(greys(), bits)).save(tmp_path / name)
    assert same(seen(tmp_path / name), greys())


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colour_of_any_depth_is_as_bright_as_in_8_bits(tmp_path: Path, name: str, bits: int) -> None:
    cv2.imwrite(str(tmp_path / name), deep(colours(), bits)[..., ::-1])
    assert same(seen(tmp_path / name), colours())


def test_transparent_pixels_of_deep_colour_become_white(tmp_path: Path) -> None:
    alpha = np.full(greys().shape, 65535, np.uint16)
    alpha[:5] = 0
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([deep(colours(), 12)[..., ::-1], alpha]))
    wanted = colours()
    wanted[:5] = 255
    assert same(seen(tmp_path / "a.png"), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colour_is_oriented_like_any_other_image(tmp_path: Path, orientation: int) -> None:
    write_turned_tiff(tmp_path / "a.tif", deep(colours(), 16), orientation)
    with Image.open(tmp_path / "a.tif") as image:
        image.load()  # Pillow turns a TIFF
        upright = np.array(image)
    assert same(seen(tmp_path / "a.tif"), upright)


def test_big_endian_grey_and_32_bit_integers_follow_the_same_rule(tmp_path: Path) -> None:
    for name, values in (("a.tif", deep(greys(), 12).astype(">u2")), ("b.tif", greys().astype(np.int32) << 12)):
        Image.fromarray(values).save(tmp_path / name)
        assert same(seen(tmp_path / name), greys())


def test_negative_values_are_black(tmp_path: Path) -> None:
    Image.fromarray(greys().astype(np.int32) - 300).save(tmp_path / "a.tif")
    assert not seen(tmp_path / "a.tif").any()


def test_only_the_highest_value_of_a_file_decides_its_scale() -> None:
    assert [bits_in_use(value) for value in (0, 1, 255, 256, 3000, 4095, 4096, 65535)] == [8, 8, 8, 9, 12, 12, 13, 16]


@pytest.mark.parametrize("white", [1.0, 1 / 16], ids=["white is 1", "12 bits divided by 65536"])
def test_floats_from_0_to_1_are_an_ordinary_image(tmp_path: Path, white: float) -> None:
    Image.fromarray((greys() / 255 * white).astype(np.float32)).save(tmp_path / "a.tif")
    assert same(seen(tmp_path / "a.tif"), greys())


def test_a_dark_float_image_keeps_its_black(tmp_path: Path) -> None:
    Image.fromarray((0.5 + 0.4 * greys() / 255).astype(np.float32)).save(tmp_path / "a.tif")
    found = seen(tmp_path / "a.tif")
    assert (found.min(), found.max()) == (127, 229)


def test_a_nan_does_not_darken_a_float_image(tmp_path: Path) -> None:
    values = 1500 + greys().astype(np.float32)
    values[3, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    wanted = greys()
    wanted[3, :3] = 0
    assert same(seen(tmp_path / "a.tif"), wanted)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "1", "I;16", "F"])
def test_the_number_of_strips_does_not_change_the_image(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (37, 20, 4), np.uint8), "RGBA")
    image = Image.fromarray(rng.integers(0, 4096, (37, 20)).astype(np.uint16)) if mode == "I;16" else image
    image = (
        image if mode == image.mode else image.convert("RGB").convert(mode) if mode in "CMYK1" else image.convert(mode)
    )
    image.save(tmp_path / "a.tif" if mode in ("CMYK", "F") else tmp_path / "a.png")
    path = next(tmp_path.iterdir())
    whole = seen(path)
    monkeypatch.setattr("mining.corpus.images.pixel_values._STRIP_BYTES", 20 * 16 * 5)
    assert (seen(path) == whole).all()


def test_the_first_image_of_an_animation_is_used(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        (tmp_path / kind).write_bytes(file.getvalue())
        red, _, blue = seen(tmp_path / kind)[4, 4]
        assert red > 240 > 15 > blue
