"""Training of detectors on drawn rectangles: learning, resuming, wrong inputs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.swa_utils import AveragedModel

import mining.backbones.build as build_module
from mining.backbones.registry import COCO_BACKBONES, spec_of
from mining.boxes.iou import iou_matrix
from mining.config import DetectorSettings
from mining.detection.boxed_images import BoxedImage
from mining.detection.folder import load_detector, save_detector
from mining.detection.training import DetectorSummary, train_detector
from mining.errors import CorpusError, ModelError
from mining.models.card import CHECKPOINTS, WEIGHTS_FILE, read_card
from tests.factories import register_backbone, register_staged_backbone

CLASSES = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
COLOURS = ((220, 40, 30), (30, 60, 220))


@pytest.fixture(autouse=True)
def backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    register_staged_backbone(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def draw_images(folder: Path, count: int) -> list[BoxedImage]:
    """One red or blue rectangle on noise per image, 64 px."""
    folder.mkdir()
    images = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        pixels = random.integers(0, 90, (64, 64, 3), np.uint8)
        w, h = random.integers(20, 37, 2)
        x, y = random.integers(64 - w), random.integers(64 - h)
        pixels[y : y + h, x : x + w] = COLOURS[seed % 2]
        path = folder / f"{seed:02}.png"
        Image.fromarray(pixels).save(path)
        box = np.array([[x, y, x + w, y + h]], np.float32)
        images.append(BoxedImage(path, None, box, np.array([seed % 2]), np.ones(1)))
    return images


def settings(**changes: object) -> DetectorSettings:
    values = {
        "backbone": "staged", "weights": "none", "side": 64, "channels": 64, "convolutions": 1, "frozen_stages": 0,
        "epochs": 2, "workers": 0, "device": "cpu", "learning_rate": 3e-3, "backbone_rate": 3e-3, "warm_up": 5,
    }  # fmt: skip
    return DetectorSettings(**{**values, **changes})  # type: ignore[arg-type]


def train(images: Sequence[BoxedImage], out: Path, **changes: object) -> DetectorSummary:
    return train_detector(settings(**changes), images, CLASSES, out)


def weights_of(folder: Path) -> bytes:
    return (folder / WEIGHTS_FILE).read_bytes()


@pytest.mark.parametrize("kind", ["fcos", pytest.param("faster-rcnn", marks=pytest.mark.slow)])
def test_a_detector_finds_most_of_what_it_was_trained_on(tmp_path: Path, kind: str):
    images = draw_images(tmp_path / "images", 24)
    summary = train(images, tmp_path / "model", epochs=40 if kind == "fcos" else 14, kind=kind)
    assert (summary.images, summary.boxes, summary.classes, summary.unreadable) == (24, 24, 2, {})
    detector, card = load_detector(tmp_path / "model")
    assert card.class_names == ["red", "blue"]
    assert not (tmp_path / "model" / CHECKPOINTS).exists()
    found = 0
    for image in images:
        pixels = torch.from_numpy(np.array(Image.open(image.path))).permute(2, 0, 1)
        (best,) = detector.detect([pixels], [None], most=1)
        if len(best) and int(best.classes[0]) == image.classes[0]:
            found += bool(iou_matrix(best.boxes.numpy(), image.boxes)[0, 0] >= 0.5)
    assert found >= 20


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path):
    images = draw_images(tmp_path / "images", 10)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(images, tmp_path / name, seed=seed)
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b") != weights_of(tmp_path / "c")


@pytest.mark.parametrize(("kind", "ema_decay"), [("fcos", 0.0), ("fcos", 0.9), ("faster-rcnn", 0.0)])
def test_an_interrupted_training_is_resumed_with_the_same_weights(tmp_path: Path, kind: str, ema_decay: float):
    images = draw_images(tmp_path / "images", 10)
    wanted = settings(kind=kind, epochs=3, drop_share=0.5, drop_after=0.5, ema_decay=ema_decay)
    train_detector(wanted, images, CLASSES, tmp_path / "whole")

    def stop(done: int, total: int, text: str) -> None:
        if text == "epoch 3":
            raise OSError("killed")

    out = tmp_path / "stopped"
    with pytest.raises(Exception, match="killed"):
        train_detector(wanted, images, CLASSES, out, stop)
    assert (out / CHECKPOINTS / "last.ckpt").is_file()
    epochs: list[str] = []
    train_detector(wanted, images, CLASSES, out, lambda _, __, text: epochs.append(text))
    assert set(epochs) == {"epoch 3"}
    assert weights_of(out) == weights_of(tmp_path / "whole")
    assert (out / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()


def test_the_average_of_the_weights_is_saved_in_place_of_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = draw_images(tmp_path / "images", 16)
    seen: list[dict[str, torch.Tensor]] = []
    update = AveragedModel.update_parameters

    def watched(average: AveragedModel, detector: torch.nn.Module) -> None:
        seen.append({name: value.clone() for name, value in detector.named_parameters()})
        update(average, detector)

    monkeypatch.setattr(AveragedModel, "update_parameters", watched)
    train(images, tmp_path / "model", ema_decay=0.5)
    assert len(seen) == 4  # 2 epochs of 2 steps
    expected = seen[0]
    for step, values in enumerate(seen[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * value for name, value in values.items()}
    saved = dict(load_detector(tmp_path / "model")[0].named_parameters())
    assert [name for name, value in saved.items() if not torch.allclose(value, expected[name], atol=1e-6)] == []
    assert any(not torch.allclose(value, seen[-1][name], atol=1e-6) for name, value in saved.items())


def test_a_training_without_an_average_is_that_of_before_there_was_one():
    assert "ema_decay" not in settings().identity()
    assert settings(ema_decay=0.9).identity()["ema_decay"] == 0.9


def test_a_finished_training_is_returned_and_one_of_other_boxes_refused(tmp_path: Path):
    images = draw_images(tmp_path / "images", 4)
    summary = train(images, tmp_path / "model", epochs=1)
    written = (tmp_path / "model" / WEIGHTS_FILE).stat().st_mtime_ns
    assert train(images, tmp_path / "model", epochs=1) == summary
    assert (tmp_path / "model" / WEIGHTS_FILE).stat().st_mtime_ns == written
    with pytest.raises(ModelError, match="finished model of other epochs"):
        train(images, tmp_path / "model", epochs=2)
    with pytest.raises(ModelError, match="finished model of other images"):
        train([replace(images[0], boxes=images[0].boxes + 1), *images[1:]], tmp_path / "model", epochs=1)


def test_unreadable_images_are_named_and_do_not_stop_the_training(tmp_path: Path):
    images = draw_images(tmp_path / "images", 5)
    images[2].path.write_bytes(b"not an image")
    images[3] = replace(images[3], content_hash="0" * 64)
    summary = train(images, tmp_path / "model", epochs=1)
    assert set(summary.unreadable) == {str(images[2].path), str(images[3].path)}
    for image in images:
        image.path.write_bytes(b"not an image")
    with pytest.raises(CorpusError, match="None of the 5 images"):
        train(images, tmp_path / "other", epochs=1)


def test_a_training_without_a_box_is_refused(tmp_path: Path):
    images = [replace(image, weights=np.zeros(1)) for image in draw_images(tmp_path / "images", 2)]
    with pytest.raises(CorpusError, match="no box to train"):
        train(images, tmp_path / "model")


def test_a_diverged_training_says_so_in_one_sentence(tmp_path: Path):
    images = draw_images(tmp_path / "images", 4)
    train(images, tmp_path / "first", epochs=1)
    detector, card = load_detector(tmp_path / "first")
    with torch.no_grad():
        next(iter(detector.head.parameters())).fill_(torch.inf)
    save_detector(tmp_path / "first", detector, card)
    with pytest.raises(ModelError, match=r"diverged: give a learning rate below 0\.003"):
        train(images, tmp_path / "model", weights=str(tmp_path / "first"))
    assert not (tmp_path / "model" / CHECKPOINTS).exists()


def test_a_training_starts_from_another_detector_of_the_same_classes(tmp_path: Path):
    images = draw_images(tmp_path / "images", 4)
    train(images, tmp_path / "first", epochs=1)
    train(
        images, tmp_path / "second", epochs=1, weights=str(tmp_path / "first"), learning_rate=1e-9, backbone_rate=1e-9
    )
    first, second = (load_detector(tmp_path / name)[0].state_dict() for name in ("first", "second"))
    assert [name for name in first if not torch.allclose(first[name], second[name], atol=1e-6)] == []
    with pytest.raises(ModelError, match="has localizer fcos, this training retinanet"):
        train(images, tmp_path / "third", kind="retinanet", weights=str(tmp_path / "first"))


def test_a_model_records_that_its_backbone_has_learned_from_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = draw_images(tmp_path / "images", 4)
    monkeypatch.setitem(COCO_BACKBONES, "staged", "any")
    started = spec_of("staged")
    register_backbone(monkeypatch, replace(started, load_coco_weights=lambda: started.build_network().state_dict()))
    monkeypatch.setattr(build_module, "last_layer", lambda network: ("none", network))
    train(images, tmp_path / "coco", epochs=1, weights="coco")
    train(images, tmp_path / "later", epochs=1, weights=str(tmp_path / "coco"))
    train(images, tmp_path / "other", epochs=1)
    assert [read_card(tmp_path / name).training["seen_coco"] for name in ("coco", "later", "other")] == [
        True, True, False
    ]  # fmt: skip
