"""Pictures of a training: one per due epoch, also where it was interrupted, and no effect on the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mining.errors import ModelError
from mining.training import job
from mining.training.labelled_images import LabelledImages
from mining.training.pictures import IMAGES, rows_to_draw
from tests.factories import register_tiny_backbone
from tests.unit.training.test_training import RED_AND_BLUE, settings_for, train, weights_of, write_corpus

DIVERGING = {"optimizer": "sgd", "learning_rate": 100.0, "weight_decay": 100.0, "batch_size": 1}
SPG = {"localizer": "spg", "options": {"width": 8, "guidance_width": 8}, "learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny_backbone(monkeypatch)


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "model" / "pictures").iterdir())


def test_a_picture_is_written_every_so_many_epochs_and_after_the_last(tmp_path: Path) -> None:
    train(tmp_path, RED_AND_BLUE, epochs=5, pictures=2, **SPG)
    assert pictures(tmp_path) == ["epoch-00002.jpg", "epoch-00004.jpg", "epoch-00005.jpg"]
    with Image.open(tmp_path / "model" / "pictures" / "epoch-00005.jpg") as sheet:
        columns, rows = 1 + 1 + 7, IMAGES  # the image, its map, three branches' maps, three masks and the attention
        assert sheet.format == "JPEG"
        assert sheet.width / sheet.height == pytest.approx(1.6 * columns / (0.4 + 1.75 * rows), abs=0.05)
        assert np.asarray(sheet).std() > 10


def test_without_the_setting_there_are_none(tmp_path: Path) -> None:
    train(tmp_path, RED_AND_BLUE, **SPG)
    assert not (tmp_path / "model" / "pictures").exists()


@pytest.mark.parametrize("localizer", ["cam", "spg"])
def test_pictures_do_not_change_the_weights(localizer: str, tmp_path: Path) -> None:
    options = SPG if localizer == "spg" else {"localizer": localizer}
    without = train(tmp_path / "without", RED_AND_BLUE, epochs=3, **options)
    shown = train(tmp_path / "with", RED_AND_BLUE, epochs=3, pictures=1, **options)
    expected = weights_of(without)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(shown).items())


@pytest.mark.slow
def test_a_training_that_is_killed_and_resumed_has_the_pictures_of_one_that_is_not(tmp_path: Path) -> None:
    train(tmp_path / "whole", RED_AND_BLUE, epochs=4, pictures=1, **SPG)
    calls = []

    def interrupt(done: int, total: int, text: str) -> None:
        calls.append(text)
        if text == "epoch 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", RED_AND_BLUE, epochs=4, pictures=1, progress=interrupt, **SPG)
    assert pictures(tmp_path / "cut") == ["epoch-00001.jpg", "epoch-00002.jpg"]
    stray = tmp_path / "cut" / "model" / "pictures" / "epoch-00003.jpg"
    stray.write_bytes(b"of an epoch whose checkpoint was not written")
    train(tmp_path / "cut", RED_AND_BLUE, epochs=4, pictures=1, **SPG)
    for name in pictures(tmp_path / "whole"):
        files = [(tmp_path / run / "model" / "pictures" / name).read_bytes() for run in ("whole", "cut")]
        assert files[0] == files[1], name
    assert pictures(tmp_path / "cut") == pictures(tmp_path / "whole")


def test_a_training_that_diverges_leaves_no_picture_behind(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="diverged"):
        train(tmp_path, RED_AND_BLUE, pictures=1, **DIVERGING)
    assert not (tmp_path / "model").exists()
    train(tmp_path, RED_AND_BLUE)


def test_what_others_put_beside_the_pictures_is_kept(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, RED_AND_BLUE)
    settings = settings_for(tmp_path, corpus, pictures=1, **DIVERGING)

    def add(done: int, total: int, text: str) -> None:
        (tmp_path / "model" / "pictures").mkdir(exist_ok=True)
        (tmp_path / "model" / "pictures" / "notes.txt").write_text("mine")

    with pytest.raises(ModelError, match="diverged"):
        job.train(settings, add)
    assert pictures(tmp_path) == ["notes.txt"]


def images_of(*labels: tuple[int, ...], classes: int = 3) -> LabelledImages:
    targets = np.zeros((len(labels), classes), np.float32)
    for row, own in enumerate(labels):
        targets[row, list(own)] = 1
    return LabelledImages(Path(), [str(row) for row in range(len(labels))], targets, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        ([(0,), (0,), (1,), (2,), (1,)], [0, 2, 3, 1, 4]),
        ([(0, 1), (1,), ()], [0, 1]),
        ([(0,)] * 20, list(range(IMAGES))),
    ],
)
def test_the_first_images_of_each_class_are_drawn(labels: Any, rows: list[int]) -> None:
    assert rows_to_draw(images_of(*labels)) == rows
