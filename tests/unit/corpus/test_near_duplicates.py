"""Photos that are changed copies of one another, and photos that only resemble each other."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from mining.corpus import thumbnails
from mining.corpus.near_duplicates import NearDuplicates, Pair, count_groups, find_near_duplicates

SIZE = (160, 120)


def photo(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth random colours, as different from one seed to the next as photos are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(coarse, fine, 0.3)


def found_in(folder: Path) -> set[tuple[str, str]]:
    return set(find_near_duplicates(folder, sorted(path.name for path in folder.iterdir())).pairs)


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop((int(width * share), 0, width, int(height * (1 - share))))


def rotated(image: Image.Image, degrees: float) -> Image.Image:
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop((6, 6, image.width - 6, image.height - 6))


CHANGES = {
    "smaller": lambda image: image.resize((64, 48)),
    "larger": lambda image: image.resize((320, 240)),
    "cropped": lambda image: cropped(image, 0.04),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "rotated": lambda image: rotated(image, 2),
    "mirrored": ImageOps.mirror,
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(change: str, tmp_path: Path) -> None:
    for seed in range(8):
        photo(seed).save(tmp_path / f"{seed}.png")
    CHANGES[change](photo(3)).save(tmp_path / "copy.jpg", quality=60)
    assert found_in(tmp_path) == {("3.png", "copy.jpg")}


def test_other_photos_are_not(tmp_path: Path) -> None:
    for seed in range(60):
        photo(seed).save(tmp_path / f"{seed:02}.jpg")
    assert found_in(tmp_path) == set()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
def test_one_photo_in_two_formats_is_found(suffix: str, tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.jpg", quality=90)
    photo(1).save(tmp_path / f"b.{suffix}")
    photo(2).save(tmp_path / "c.jpg")
    assert found_in(tmp_path) == {("a.jpg", f"b.{suffix}")}


@pytest.mark.parametrize("mode", ["CMYK", "P", "I;16", "RGBA", "LA"])
def test_images_of_other_modes_are_compared_by_what_they_show(mode: str, tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.png")
    path = tmp_path / ("b.tiff" if mode == "CMYK" else "b.png")
    if mode == "I;16":
        Image.fromarray(np.asarray(photo(1).convert("L")).astype(np.uint16) << 4).save(path)  # 12 bits
    else:
        (photo(1).quantize(64) if mode == "P" else photo(1).convert(mode)).save(path)
    assert found_in(tmp_path) == {("a.png", path.name)}


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_copy_that_exif_turns_upright_is_found(orientation: int, tmp_path: Path) -> None:
    turns = {3: 2, 6: 1, 8: 3}
    photo(1).save(tmp_path / "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(np.asarray(photo(1)), turns[orientation])).save(tmp_path / "b.jpg", exif=exif)
    assert found_in(tmp_path) == {("a.jpg", "b.jpg")}


@pytest.mark.parametrize("noise", [0, 2])
def test_flat_images_are_not_near_duplicates(noise: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = np.full((90, 120, 3), 40 * number + 20) + rng.integers(-noise, noise + 1, (90, 120, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    assert found_in(tmp_path) == set()


def test_blank_pages_with_the_same_shadow_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = 240 + np.asarray(photo(1)) * 0.05 + rng.integers(-1, 2, (*SIZE[::-1], 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    assert found_in(tmp_path) == set()


def test_the_same_scene_with_another_object_is_not(tmp_path: Path) -> None:
    """Images of a fixed camera would otherwise all be one group."""
    for number in range(6):
        image = photo(1)
        image.paste("white", (25 * number, 40, 25 * number + 12, 52))
        image.save(tmp_path / f"{number}.jpg", quality=95)
    assert found_in(tmp_path) == set()


def test_the_same_drawing_in_another_colour_is_not(tmp_path: Path) -> None:
    for name, colour in (("green", (20, 160, 20)), ("red", (250, 40, 60))):  # of one brightness
        image = Image.new("RGB", SIZE, "white")
        image.paste(colour, (30, 20, 90, 100))
        image.paste(colour, (100, 50, 140, 60))
        image.save(tmp_path / f"{name}.png")
    assert found_in(tmp_path) == set()


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(1).save(tmp_path / name, quality=90 if name == "a.jpg" else 80)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    found = find_near_duplicates(tmp_path, ["a.jpg", "broken.jpg", "gone.jpg", "../a.jpg", "b.jpg"])
    assert found.pairs == (("a.jpg", "b.jpg"),)
    assert set(found.unreadable) == {"broken.jpg", "gone.jpg", "../a.jpg"}
    assert found.unreadable["gone.jpg"] == "no such file."


def test_the_result_is_the_same_again_and_with_any_number_of_threads(tmp_path: Path) -> None:
    for seed in range(12):
        photo(seed).save(tmp_path / f"{seed:02}.jpg")
        ImageOps.mirror(photo(seed)).save(tmp_path / f"{seed:02}m.jpg", quality=70)
    names = sorted(path.name for path in tmp_path.iterdir())
    results = [find_near_duplicates(tmp_path, names, workers=workers) for workers in (1, 1, 4)]
    assert len(results[0].pairs) == 12
    assert results[0] == results[1] == results[2]


def test_progress_reaches_the_number_of_images(tmp_path: Path) -> None:
    for seed in range(3):
        photo(seed).save(tmp_path / f"{seed}.jpg")
    calls: list[tuple[int, int]] = []
    find_near_duplicates(tmp_path, ["0.jpg", "1.jpg", "2.jpg"], progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 3)
    assert calls[-1] == (3, 3)


# --- groups ----------------------------------------------------------------------------------------------------------

CHAIN = NearDuplicates((Pair("a", "b"), Pair("b", "c"), Pair("c", "d")))


def test_no_pair_of_a_chain_is_in_two_groups() -> None:
    assert CHAIN.groups("abcde") == dict.fromkeys("abcd", "a")


def test_an_image_is_hidden_only_behind_a_near_duplicate_of_its_own() -> None:
    assert CHAIN.representatives() == {"b": "a", "d": "c"}


def test_the_first_of_a_group_is_the_first_in_the_order_of_the_names() -> None:
    found = NearDuplicates((Pair("b", "c"), Pair("a", "c")), copies={"b": "b", "e": "b"})
    assert found.groups("abcde") == {"a": "a", "b": "a", "c": "a", "e": "a"}
    assert found.groups("ebca")["a"] == "e"


def test_copies_are_hidden_with_the_image_they_are_copies_of() -> None:
    found = NearDuplicates((Pair("a", "b"),), copies={"b": "b", "c": "b", "x": "x", "y": "x"})
    assert found.representatives() == {"b": "a", "c": "a", "y": "x"}


def test_identical_copies_are_read_once_and_in_the_group(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.jpg")
    photo(1).save(tmp_path / "c.jpg", quality=60)
    found = find_near_duplicates(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], copies={"a.jpg": "a.jpg", "b.jpg": "a.jpg"})
    assert not found.unreadable  # b.jpg does not exist
    assert found.groups(["a.jpg", "b.jpg", "c.jpg"]) == dict.fromkeys(["a.jpg", "b.jpg", "c.jpg"], "a.jpg")


def test_groups_are_counted_among_some_images() -> None:
    assert count_groups({"a": "a", "b": "a", "c": "c", "d": "c"}, ["a", "b", "c", "e"]) == (1, 2)


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty cache; names of the files that are decoded."""
    names: list[str] = []
    read = thumbnails.read_thumbnail

    def counted(path: Path) -> thumbnails.Thumbnail:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(thumbnails, "read_thumbnail", counted)
    monkeypatch.setenv("BOXMINE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return names


def old_photo(path: Path, seed: int) -> None:
    photo(seed).save(path)
    os.utime(path, ns=(10**18, 10**18 + seed))


def test_images_are_decoded_once(decoded: list[str], tmp_path: Path) -> None:
    for seed in range(3):
        old_photo(tmp_path / f"{seed}.jpg", seed)
    first, second = found_in(tmp_path), found_in(tmp_path)
    assert sorted(decoded) == ["0.jpg", "1.jpg", "2.jpg"]
    assert first == second
    os.link(tmp_path / "0.jpg", tmp_path / "3.jpg")  # as an export does
    found_in(tmp_path)
    assert sorted(decoded) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_a_changed_image_is_decoded_again(decoded: list[str], tmp_path: Path) -> None:
    old_photo(tmp_path / "a.jpg", 1)
    old_photo(tmp_path / "b.jpg", 2)
    assert found_in(tmp_path) == set()
    old_photo(tmp_path / "b.jpg", 1)
    os.utime(tmp_path / "b.jpg", ns=(10**18, 10**18 + 9))
    assert found_in(tmp_path) == {("a.jpg", "b.jpg")}
    assert sorted(decoded) == ["a.jpg", "b.jpg", "b.jpg"]


def test_an_image_that_was_just_written_is_not_kept(decoded: list[str], tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.jpg")
    found_in(tmp_path)
    found_in(tmp_path)
    assert decoded == ["a.jpg", "a.jpg"]


def test_a_damaged_cache_is_made_again(decoded: list[str], tmp_path: Path) -> None:
    old_photo(tmp_path / "a.jpg", 1)
    found_in(tmp_path)
    (kept,) = (Path(os.environ["BOXMINE_CACHE"]) / "thumbnails").iterdir()
    kept.write_bytes(b"no database" * 1000)
    found_in(tmp_path)
    found_in(tmp_path)
    assert decoded == ["a.jpg", "a.jpg"]


def test_a_cache_that_cannot_be_written_costs_time_only(
    decoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_photo(tmp_path / "a.jpg", 1)
    shutil.copy2(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (tmp_path.parent / "a file").write_text("")
    monkeypatch.setenv("BOXMINE_CACHE", str(tmp_path.parent / "a file"))
    assert found_in(tmp_path) == {("a.jpg", "b.jpg")}


def test_the_cache_is_limited(decoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "CACHE_BYTES", 1000)
    foreign = Path(os.environ["BOXMINE_CACHE"]) / "thumbnails" / "holiday.sqlite"
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_bytes(bytes(100_000))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        old_photo(tmp_path / folder / "a.jpg", 1)
        found_in(tmp_path / folder)
    assert len(list((Path(os.environ["BOXMINE_CACHE"]) / "thumbnails").iterdir())) == 2
    assert foreign.is_file(), "only files that were made here are deleted"
