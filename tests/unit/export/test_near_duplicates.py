"""Near-duplicates in an export: never one in train and another in val."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

from mining.export import export
from tests.unit.corpus.test_near_duplicates import photo
from tests.unit.export.conftest import Painted, SmallRun, write_run

BOX = (1, 10, 10, 20, 20, 0.9)
PHOTOS, PER_PHOTO = 10, 3


def write_photos(folder: Path, splits: tuple[str | None, ...] = (None,) * PER_PHOTO) -> SmallRun:
    """Ten photos, each also darker and mirrored; the name ends in the number of the photo."""
    listed = [
        Painted(f"{kind}-{number}.jpg", (BOX,), split=splits[kind], width=80, height=60)
        for kind in range(PER_PHOTO)
        for number in range(PHOTOS)
    ]
    run = write_run(folder, listed)
    for number in range(PHOTOS):
        original = photo(number, (80, 60))
        darker = ImageEnhance.Brightness(original).enhance(0.8)
        for kind, image in enumerate((original, darker, ImageOps.mirror(original))):
            image.save(run.images / f"{kind}-{number}.jpg", quality=90 - 10 * kind)
    return run


def photos_of(out: Path, part: str) -> set[str]:
    document = json.loads((out / "annotations" / f"instances_{part}.json").read_text())
    return {image["file_name"].rsplit("-")[-1] for image in document["images"]}


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_are_in_one_part(seed: int, tmp_path: Path) -> None:
    run = write_photos(tmp_path)
    summary = export(run.folder, "coco", tmp_path / "out", val_share=0.4, seed=seed)
    train, val = (photos_of(tmp_path / "out", part) for part in ("train", "val"))
    assert train | val == {f"{number}.jpg" for number in range(PHOTOS)}
    assert val
    assert not train & val
    sentence = "30 images are copies or near-duplicates of others, in 10 groups. Each group is in one part."
    assert sentence in summary.notes
    assert sentence in (tmp_path / "out" / "README.md").read_text()


def test_the_search_can_be_switched_off(tmp_path: Path) -> None:
    run = write_photos(tmp_path)
    calls: list[int] = []
    summary = export(
        run.folder, "coco", tmp_path / "out", val_share=0.4, near_duplicates=False,
        progress=lambda done, total: calls.append(done),
    )  # fmt: skip
    assert photos_of(tmp_path / "out", "train") & photos_of(tmp_path / "out", "val")
    assert not calls
    assert not any("near-duplicate" in note for note in summary.notes)


@pytest.mark.parametrize(("format", "val_share"), [("coco", 0.0), ("cvat", 0.1), ("labelstudio", 0.1)])
def test_without_validation_images_nothing_is_searched(format: str, val_share: float, tmp_path: Path) -> None:
    calls: list[int] = []
    export(
        write_photos(tmp_path).folder, format, tmp_path / "out", val_share=val_share,
        progress=lambda done, total: calls.append(done),
    )  # fmt: skip
    assert not calls


def test_near_duplicates_of_listed_validation_images_are_not_trained_on(tmp_path: Path) -> None:
    run = write_photos(tmp_path, ("train", "train", "val"))
    last = run.images / "2-0.jpg"
    Image.new("RGB", (80, 60), "white").save(last)  # the val image of photo 0 shows something else
    summary = export(run.folder, "coco", tmp_path / "out", val_share=0.0)
    assert photos_of(tmp_path / "out", "train") == {"0.jpg"}
    assert any("18 were moved to another part" in note for note in summary.notes)


def test_a_set_without_near_duplicates_says_so(unlisted_run: SmallRun, tmp_path: Path) -> None:
    summary = export(unlisted_run.folder, "yolo", tmp_path / "out", val_share=0.3)
    assert summary.notes[-1] == "No images that are near-duplicates of others were found."
