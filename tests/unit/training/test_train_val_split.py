"""Which images a training holds back for validation."""

from pathlib import Path

import numpy as np
import pytest

from mining.training.labelled_images import LabelledImages, copies_of, train_val_split


def labelled(folder: Path, contents: list[bytes], rows: list[tuple[int, ...]]) -> LabelledImages:
    files = [f"{number:02}.png" for number in range(len(contents))]
    for name, content in zip(files, contents, strict=True):
        (folder / name).write_bytes(content)
    return LabelledImages(folder, files, np.array(rows, np.float32), ["a", "b"])


@pytest.mark.parametrize("seed", range(8))
def test_copies_of_a_photo_stay_on_one_side_of_the_split(tmp_path: Path, seed: int) -> None:
    contents = [b"%d" % (number // 3) for number in range(36)]
    images = labelled(tmp_path, contents, [(1, 0), (0, 1)] * 18)
    kept, held = train_val_split(images, 0.25, seed, copies_of(images))
    photos = [{(tmp_path / name).read_bytes() for name in side.files} for side in (kept, held)]
    assert not photos[0] & photos[1]
    assert len(held) == 9
    assert sorted(kept.files + held.files) == images.files


@pytest.mark.parametrize("seed", range(8))
def test_without_copies_the_split_is_unchanged(tmp_path: Path, seed: int) -> None:
    images = labelled(tmp_path, [b"%d" % number for number in range(20)], [(1, 0), (0, 1)] * 10)
    assert copies_of(images) == {}
    assert train_val_split(images, 0.2, seed, copies_of(images))[1].files == train_val_split(images, 0.2, seed)[1].files
    assert len(train_val_split(images, 0.2, seed)[1]) == 4


def test_if_all_images_are_copies_of_one_photo_none_is_held_back(tmp_path: Path) -> None:
    images = labelled(tmp_path, [b"same"] * 12, [(1, 0), (0, 1)] * 6)
    assert len(train_val_split(images, 0.25, 0, copies_of(images))[1]) == 0


@pytest.mark.parametrize("seed", range(8))
def test_no_class_loses_the_last_image_without_it(tmp_path: Path, seed: int) -> None:
    images = labelled(tmp_path, [b"%d" % number for number in range(12)], [(1, 1)] * 10 + [(0, 1)] * 2)
    kept, _ = train_val_split(images, 0.5, seed)
    assert (kept.targets[:, 0] == 0).any()
