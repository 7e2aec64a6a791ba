"""Trainings of a network that is small enough to be fast."""

import csv
import json
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from mining.backbones.build import build
from mining.config import TrainSettings
from mining.errors import CorpusError, ModelError, RunError
from mining.localizers.base import ClassificationLoss
from mining.models.card import read_card
from mining.models.checkpoint import load_model
from mining.storage.locks import lock_folder
from mining.storage.ownership import temporary_path
from mining.storage.provenance import package_versions
from mining.training import fit as fit_module
from mining.training import job as training_job
from mining.training.data import ImageDataset, collate
from mining.training.history import read_history
from mining.training.labelled_images import LabelledImages, class_weights, copies_of, train_val_split
from mining.training.module import classification_metric
from mining.training.summary import TrainingSummary
from tests.factories import register_tiny_backbone

SIZE = 32
Labels = Mapping[str, Sequence[str]]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny_backbone(monkeypatch)


def pixels_of(name: str) -> np.ndarray:
    """Noise in the colour of the name's first letter, of a size that depends on the name; 'n' for grey noise."""
    random = np.random.default_rng(sum(name.encode()))
    pixels = random.integers(0, 70, (random.integers(30, 60), random.integers(30, 60), 3), np.uint8)
    if name[0] != "n":
        pixels[..., "rgb".index(name[0])] += 180
    return pixels


def write_corpus(folder: Path, labels: Labels, broken: Sequence[str] = ()) -> dict[str, Path]:
    """Write a PNG per name (not an image for those in `broken`) and a CSV of the labels; returns the settings."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in labels:
        Image.fromarray(pixels_of(name)).save(folder / "images" / name)
    for name in broken:
        (folder / "images" / name).write_bytes(b"no image")
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "labels"), *((name, "|".join(own)) for name, own in labels.items())])
    return {"images": folder / "images", "labels": folder / "labels.csv"}


def settings_for(folder: Path, corpus: Mapping[str, Path | None], **options: Any) -> TrainSettings:
    quick: dict[str, Any] = {
        "backbone": "tiny", "weights": "none", "freeze": False, "epochs": 2, "batch_size": 4, "workers": 0,
        "accelerator": "cpu", "validation_share": 0.25, "learning_rate": 0.01, "out": folder / "model", "cells": False,
    }  # fmt: skip
    return TrainSettings(**corpus, **{**quick, **options})


def train(
    folder: Path, labels: Labels, *, broken: Sequence[str] = (), progress: Any = None, **options: Any
) -> TrainingSummary:
    settings = settings_for(folder, write_corpus(folder, labels, broken), **options)
    return training_job.train(settings) if progress is None else training_job.train(settings, progress)


def named(*counts: tuple[str, int, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """File names of a number of images of each colour, with their labels."""
    return {f"{colour}{number:02d}.png": labels for colour, count, labels in counts for number in range(count)}


RED_AND_BLUE = named(("r", 8, ("red",)), ("b", 8, ("blue",)))


def weights_of(summary: TrainingSummary) -> dict[str, Tensor]:
    return load_file(summary.folder / "weights.safetensors")


def held_back_of(folder: Path, labels: Labels, **options: Any) -> list[str]:
    """The images that a training with these labels holds back for validation."""
    settings = settings_for(folder, {"images": folder}, **options)
    classes = sorted({name for own in labels.values() for name in own})
    targets = np.array([[c in labels[name] for c in classes] for name in sorted(labels)], np.float32)
    images = LabelledImages(folder / "images", sorted(labels), targets, classes)
    return train_val_split(images, settings.validation_share, settings.seed, copies_of(images))[1].files


# --- the whole -------------------------------------------------------------------------------------------------------


def test_a_trained_model_classifies_unseen_images(tmp_path: Path) -> None:
    summary = train(tmp_path, RED_AND_BLUE, epochs=12)
    assert (summary.images, summary.validation_images, summary.classes) == (12, 4, 2)
    assert (summary.objective, summary.metric, summary.value) == ("single", "accuracy", 1.0)
    assert (summary.unreadable, summary.notes) == ({}, [])
    localizer, card = load_model(summary.folder)
    unseen = [torch.from_numpy(pixels_of(name)).permute(2, 0, 1)[None] for name in ("b77.png", "r78.png")]
    with torch.inference_mode():
        told = [card.class_names[int(localizer(image).argmax())] for image in unseen]
    assert told == ["blue", "red"]


def test_a_frozen_pretrained_network_learns_in_its_head_only(tmp_path: Path) -> None:
    options = {"backbone": "efficientnet_lite0", "weights": "imagenet", "freeze": True}
    summary = train(tmp_path, named(("r", 4, ("red",)), ("b", 4, ("blue",))), epochs=2, **options)
    assert summary.value == 1.0
    localizer, card = load_model(summary.folder)
    original = build("efficientnet_lite0", weights="imagenet")[0].state_dict()
    assert all(torch.equal(value, original[name]) for name, value in localizer.backbone.state_dict().items())
    assert card.input_size == 224
    assert card.normalisation == localizer.backbone.normalisation


def test_a_network_that_is_not_frozen_learns_in_all_its_layers(tmp_path: Path) -> None:
    short, long = (train(tmp_path / str(n), RED_AND_BLUE, epochs=n, patience=9) for n in (1, 3))
    for name, value in weights_of(short).items():
        assert not torch.equal(value, weights_of(long)[name]), name


def test_the_finished_folder_holds_model_and_record_and_nothing_else(tmp_path: Path) -> None:
    summary = train(tmp_path, RED_AND_BLUE)
    left = sorted(path.name for path in summary.folder.iterdir())
    assert left == ["curves.png", "history.csv", "model.json", "weights.safetensors"]


def test_the_training_record_has_history_curves_and_settings(tmp_path: Path, drawn_curves: None) -> None:
    summary = train(tmp_path, RED_AND_BLUE, epochs=3, learning_rate=0.02)
    rows = read_history(summary.folder / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert next(iter(rows[0])) == "epoch"
    assert {"train_loss", "val_loss", "val_metric"} <= set(rows[0])
    assert float(rows[2]["train_loss"]) < float(rows[0]["train_loss"])
    with Image.open(summary.folder / "curves.png") as curves:
        assert curves.format == "PNG"
        assert len(np.unique(np.asarray(curves.convert("L")))) > 10, "something is drawn"
    record = json.loads((summary.folder / "model.json").read_text())["training"]
    assert record["settings"]["learning_rate"] == 0.02
    assert record["images"] == 12
    assert record["versions"] == package_versions()


def test_class_ids_are_those_of_the_listing(tmp_path: Path) -> None:
    write_corpus(tmp_path, RED_AND_BLUE)
    names = sorted(RED_AND_BLUE)
    ids = {"blue": 40, "red": 7}
    coco = {
        "images": [{"id": i, "file_name": name, "width": 9, "height": 9} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": ids[RED_AND_BLUE[name][0]], "bbox": [0, 0, 1, 1]}
            for i, name in enumerate(names)
        ],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    corpus = {"images": tmp_path / "images", "labels": tmp_path / "labels.json"}
    training_job.train(settings_for(tmp_path, corpus, epochs=1))
    assert read_card(tmp_path / "model").classes == [{"id": 40, "name": "blue"}, {"id": 7, "name": "red"}]


def test_the_progress_counts_the_steps_and_names_the_epoch(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    train(tmp_path, RED_AND_BLUE, progress=lambda *step: steps.append(step))
    assert [done for done, _, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in steps} == {6}
    assert [text for _, _, text in steps] == ["epoch 1"] * 3 + ["epoch 2"] * 3


# --- one class an image or several -----------------------------------------------------------------------------------

KINDS = {
    "one each": (RED_AND_BLUE, "single"),
    "two in one": ({**RED_AND_BLUE, "g00.png": ("red", "blue")}, "multi"),
    "none in one": ({**RED_AND_BLUE, "n00.png": ()}, "multi"),
}


@pytest.mark.parametrize(("labels", "objective"), KINDS.values(), ids=KINDS)
def test_the_objective_follows_from_the_labels(tmp_path: Path, labels: Labels, objective: str) -> None:
    summary = train(tmp_path, labels)
    assert (summary.objective, read_card(summary.folder).objective) == (objective, objective)
    assert summary.metric == {"single": "accuracy", "multi": "mean average precision"}[objective]
    assert summary.images + summary.validation_images == len(labels)


def test_one_folder_per_class_gives_one_class_per_image(tmp_path: Path) -> None:
    for name, (label,) in RED_AND_BLUE.items():
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_of(name)).save(tmp_path / "images" / label / name)
    summary = training_job.train(settings_for(tmp_path, {"images": tmp_path / "images", "labels": None}))
    assert (summary.objective, read_card(summary.folder).class_names) == ("single", ["blue", "red"])


def test_the_objective_can_be_set(tmp_path: Path) -> None:
    assert train(tmp_path / "a", RED_AND_BLUE, objective="multi").objective == "multi"
    mixed = {**RED_AND_BLUE, "g00.png": ("red", "blue"), "n00.png": ()}
    summary = train(tmp_path / "b", mixed, objective="single")
    assert summary.objective == "single"
    assert summary.images + summary.validation_images == 16, "images with two classes or none say nothing here"


def test_the_single_metric_is_accuracy() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0], [1.0, 0.0, 0.0]])
    assert float(classification_metric(logits, torch.eye(3)[[0, 2, 2, 0]], "single")) == 0.75


@pytest.mark.filterwarnings("ignore:No positive samples")
def test_the_multi_metric_is_the_mean_over_present_classes() -> None:
    """One class ranked correctly, one whose only image is ranked second, one that no image has."""
    logits = torch.tensor([[2.0, 1.0, 9.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert float(classification_metric(logits, targets, "multi")) == pytest.approx((1 + 0.5) / 2)


# --- what cannot be trained on ---------------------------------------------------------------------------------------


def test_images_without_labels_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"No labelled image under .*images.* Give --labels \(CSV"):
        training_job.train(settings_for(tmp_path, {**write_corpus(tmp_path, RED_AND_BLUE), "labels": Path("none")}))


def test_empty_labels_alone_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="training needs class names"):
        train(tmp_path, named(("n", 6, ())))


def test_a_single_class_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"All images are labelled 'red': .* images without the first") as caught:
        train(tmp_path, named(("r", 8, ("red",))))
    assert "\n" not in str(caught.value)


def test_a_single_class_is_learnt_from_images_with_and_without_it(tmp_path: Path) -> None:
    summary = train(tmp_path, named(("r", 8, ("red",)), ("b", 8, ())), epochs=12)
    assert (summary.objective, summary.classes) == ("multi", 1)
    assert summary.value == 1.0
    localizer, _ = load_model(summary.folder)
    with torch.inference_mode():
        red, blue = (localizer(torch.from_numpy(pixels_of(n)).permute(2, 0, 1)[None]) for n in ("r70", "b70"))
    assert float(red) > float(blue)


def test_a_frozen_network_of_random_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="learns nothing; give --no-freeze"):
        train(tmp_path, RED_AND_BLUE, freeze=True)


def test_a_diverged_training_is_reported_and_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"diverged: its weights hold NaN.*--learning-rate below 100"):
        train(tmp_path, RED_AND_BLUE, optimizer="sgd", learning_rate=100.0, weight_decay=100.0, batch_size=1)
    assert not (tmp_path / "model").exists()
    assert train(tmp_path, RED_AND_BLUE, learning_rate=0.01).epochs == 2


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_unreadable_images_only_are_refused_and_leave_the_folder_free(tmp_path: Path, share: float) -> None:
    with pytest.raises(CorpusError, match=r"None of the \d+ images to train on could be read, e\.g\. .*not an image"):
        train(tmp_path, RED_AND_BLUE, broken=list(RED_AND_BLUE), validation_share=share)
    assert not (tmp_path / "model").exists()
    mended = train(tmp_path, RED_AND_BLUE, validation_share=share, epochs=2)
    undisturbed = train(tmp_path / "undisturbed", RED_AND_BLUE, validation_share=share, epochs=2)
    assert all(torch.equal(value, weights_of(undisturbed)[name]) for name, value in weights_of(mended).items())


def test_unreadable_training_images_are_refused_even_if_validation_images_are_readable(tmp_path: Path) -> None:
    held = held_back_of(tmp_path, RED_AND_BLUE)
    with pytest.raises(CorpusError, match="None of the 12 images to train on could be read"):
        train(tmp_path, RED_AND_BLUE, broken=[name for name in RED_AND_BLUE if name not in held])


# --- images that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path: Path, workers: int) -> None:
    held = held_back_of(tmp_path, RED_AND_BLUE)[0]
    broken = sorted({"r00.png", "b05.png", held})
    summary = train(tmp_path, RED_AND_BLUE, broken=broken, workers=workers)
    assert sorted(summary.unreadable) == broken
    assert all("not an image in a supported format" in reason for reason in summary.unreadable.values())
    assert read_card(summary.folder).training["unreadable"] == summary.unreadable
    assert summary.value is not None


def test_a_batch_of_unreadable_images_is_skipped(tmp_path: Path) -> None:
    held = held_back_of(tmp_path, RED_AND_BLUE)
    broken = [name for name in RED_AND_BLUE if name not in held][1:]
    summary = train(tmp_path, RED_AND_BLUE, broken=broken, batch_size=1, freeze=False)
    assert len(summary.unreadable) == 11


def test_if_no_validation_image_is_readable_training_goes_on_without_validation(tmp_path: Path) -> None:
    held = held_back_of(tmp_path, RED_AND_BLUE)
    summary = train(tmp_path, RED_AND_BLUE, broken=held, epochs=3)
    assert sorted(summary.unreadable) == held
    assert (summary.epochs, summary.value) == (3, None)


def test_if_no_validation_image_has_a_class_there_is_no_metric(tmp_path: Path) -> None:
    rare = named(("r", 1, ("red",)), ("b", 1, ("blue",)), ("n", 14, ()))
    assert {rare[name] for name in held_back_of(tmp_path, rare)} == {()}
    summary = train(tmp_path, rare)
    assert (summary.validation_images, summary.value) == (4, None)


def test_missing_labelled_images_are_left_out(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, RED_AND_BLUE)
    (tmp_path / "images" / "r03.png").unlink()
    summary = training_job.train(settings_for(tmp_path, corpus))
    assert summary.images + summary.validation_images == 15
    assert summary.unreadable == {}
    assert len(summary.notes) == 1


# --- chance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_bitwise_equal_weights(tmp_path: Path, workers: int) -> None:
    first, second, other = (
        train(tmp_path / name, RED_AND_BLUE, seed=seed, workers=workers)
        for name, seed in (("first", 3), ("second", 3), ("other", 4))
    )
    one, two, three = (weights_of(summary) for summary in (first, second, other))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not any(torch.equal(value, three[name]) for name, value in one.items() if value.is_floating_point())


def test_initial_weights_follow_the_seed(tmp_path: Path) -> None:
    """With a learning rate near 0 they do not change."""
    options = {"validation_share": 0, "epochs": 1, "learning_rate": 1e-12}
    first, again, other = (
        weights_of(train(tmp_path / name, RED_AND_BLUE, seed=seed, **options))["classifier.weight"]
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


def dataset(folder: Path, names: Sequence[str], *, augment: bool, size: int = SIZE) -> ImageDataset:
    write_corpus(folder, dict.fromkeys(names, ()))
    targets = np.arange(2 * len(names), dtype=np.float32).reshape(-1, 2)
    return ImageDataset(LabelledImages(folder / "images", list(names), targets, ["a", "b"]), size, augment=augment)


def varied(images: ImageDataset, seed: int) -> list[Tensor]:
    return [images[0, 1000 * seed + 37 * time]["pixels"] for time in range(4)]


@pytest.mark.parametrize("size", [32, 64])
def test_augmented_images_are_uint8_squares(tmp_path: Path, size: int) -> None:
    for pixels in varied(dataset(tmp_path, ["r00.png"], augment=True, size=size), seed=0):
        assert (tuple(pixels.shape), pixels.dtype) == ((3, size, size), torch.uint8)


def test_augmentation_differs_each_time_and_follows_the_seed(tmp_path: Path) -> None:
    images = dataset(tmp_path, ["r00.png"], augment=True)
    once, again, other = varied(images, 5), varied(images, 5), varied(images, 6)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(once, other, strict=True))
    assert len({pixels.numpy().tobytes() for pixels in once + other}) > 4, "of eight"


def test_augmentation_keeps_colours_and_most_of_the_image(tmp_path: Path) -> None:
    """Red stays red, and most of the image is kept."""
    for pixels in varied(dataset(tmp_path, ["r00.png"], augment=True), seed=1):
        red, green, blue = pixels.float().mean(dim=(1, 2)).tolist()
        assert red > 100 > max(green, blue)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (700, 3), (900, 1200)])
def test_images_of_any_shape_can_be_augmented(tmp_path: Path, shape: tuple[int, int]) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((*shape, 3), 200, np.uint8)).save(tmp_path / "images" / "r.png")
    for augment in (True, False):
        images = ImageDataset(LabelledImages(tmp_path / "images", ["r.png"], np.ones((1, 1)), ["a"]), SIZE, augment=augment)  # fmt: skip
        assert tuple(images[0]["pixels"].shape) == (3, SIZE, SIZE)


def test_validation_images_are_whole_and_not_augmented(tmp_path: Path) -> None:
    images = dataset(tmp_path, ["r00.png"], augment=False)
    first, second = images[0], images[0]
    assert torch.equal(first["pixels"], second["pixels"])
    assert (tuple(first["pixels"].shape), first["pixels"].dtype) == ((3, SIZE, SIZE), torch.uint8)
    whole = torch.from_numpy(pixels_of("r00.png")).permute(2, 0, 1).float().mean(dim=(1, 2))
    assert torch.allclose(first["pixels"].float().mean(dim=(1, 2)), whole, atol=2)


def test_a_batch_holds_the_readable_images_with_their_own_targets(tmp_path: Path) -> None:
    images = dataset(tmp_path, ["r00.png", "g00.png", "b00.png"], augment=False)
    (tmp_path / "images" / "g00.png").write_bytes(b"?")
    batch = collate([images[i] for i in range(3)])
    assert tuple(batch.pixels.shape) == (2, 3, SIZE, SIZE)
    assert batch.targets.tolist() == [[0, 1], [4, 5]]
    assert list(batch.unreadable) == ["g00.png"]
    assert batch.pixels[0, 0].float().mean() > 100 > batch.pixels[1, 0].float().mean()


# --- who is held back, what weighs more ------------------------------------------------------------------------------


def labelled(*rows: tuple[int, ...]) -> LabelledImages:
    targets = np.array(rows, np.float32)
    return LabelledImages(Path(), [f"{n}.png" for n in range(len(rows))], targets, ["a", "b", "c"][: targets.shape[1]])


def test_the_share_held_back_is_disjoint_and_follows_the_seed() -> None:
    images = labelled(*[(1, 0), (0, 1)] * 20)
    kept, held = train_val_split(images, 0.25, seed=1)
    assert (len(kept), len(held)) == (30, 10)
    assert sorted(kept.files + held.files) == sorted(images.files)
    assert train_val_split(images, 0.25, seed=1)[1].files == held.files
    assert train_val_split(images, 0.25, seed=2)[1].files != held.files
    assert all(row.tolist() == images.targets[int(name[:-4])].tolist() for name, row in zip(held.files, held.targets, strict=True))  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_no_class_loses_its_last_image(seed: int) -> None:
    images = labelled(*[(1, 0, 0)] * 6, (0, 1, 0), (1, 0, 1), (0, 0, 1))
    kept, held = train_val_split(images, 0.5, seed)
    assert kept.targets.any(axis=0).all()
    assert 0 < len(held) <= 4


def test_nothing_is_held_back_if_the_share_is_zero_or_no_image_can_be_spared() -> None:
    assert len(train_val_split(labelled(*[(1, 0)] * 9), 0.0, 0)[1]) == 0
    assert len(train_val_split(labelled((1, 0), (0, 1)), 0.5, 0)[1]) == 0


def test_without_validation_all_images_are_trained_on_to_the_last_epoch(tmp_path: Path) -> None:
    summary = train(tmp_path, RED_AND_BLUE, validation_share=0, epochs=3, patience=1)
    assert (summary.images, summary.validation_images, summary.epochs, summary.value) == (16, 0, 3, None)


def test_class_weights_follow_the_square_root_of_rarity() -> None:
    weights = class_weights(labelled(*[(1, 0)] * 36, *[(0, 1)] * 4).targets, "single")
    assert float(weights[1] / weights[0]) == pytest.approx(3)
    assert float(weights[0] * 36 + weights[1] * 4) == pytest.approx(40), "mean 1 over the images"


def test_classes_of_equal_size_have_equal_weights() -> None:
    assert class_weights(labelled(*[(1, 0), (0, 1)] * 5).targets, "single").tolist() == pytest.approx([1, 1])


def test_no_class_weight_exceeds_ten() -> None:
    weights = class_weights(labelled(*[(1, 0)] * 900, (0, 1)).targets, "single")
    assert float(weights[1] / weights[0]) == pytest.approx(10)


def test_positives_of_rare_classes_have_larger_multi_weights() -> None:
    images = labelled(*[(1, 0, 0)] * 90, *[(1, 1, 0)] * 9, (0, 1, 1))
    assert class_weights(images.targets, "multi").tolist() == pytest.approx([1, 3, np.sqrt(99)], rel=1e-4)


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_rare_classes_are_weighted_up_unless_balance_is_off(
    tmp_path: Path, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Tensor | None] = []

    class Noted(ClassificationLoss):
        def __init__(self, objective: Any, weights: Tensor | None = None) -> None:
            used.append(weights)
            super().__init__(objective, weights)

    monkeypatch.setattr(fit_module, "ClassificationLoss", Noted)
    labels = named(("r", 12, ("red",)), ("b", 4, ("blue",)))
    options = {"objective": objective, "validation_share": 0, "epochs": 1}
    balanced, plain = (train(tmp_path / str(b), labels, balance=b, **options) for b in (True, False))
    assert used[1] is None
    blue, red = used[0].tolist()
    assert blue > 1.5 * red
    assert not torch.equal(weights_of(balanced)["classifier.weight"], weights_of(plain)["classifier.weight"])


# --- stopping and carrying on ----------------------------------------------------------------------------------------


def unlearnable() -> dict[str, tuple[str, ...]]:
    """Random labels, which cannot be learnt."""
    random = np.random.default_rng(1)
    return {f"n{number:02d}.png": (str(random.choice(["red", "blue"])),) for number in range(24)}


def test_training_stops_early_without_improvement(tmp_path: Path) -> None:
    summary = train(tmp_path, unlearnable(), epochs=60, patience=2, learning_rate=0.1)
    losses = [float(row["val_loss"]) for row in read_history(summary.folder / "history.csv")]
    assert summary.epochs == len(losses) < 60
    assert summary.best_epoch == summary.epochs - 2


def loss_of(summary: TrainingSummary, images: Path, labels: Labels) -> float:
    """Unweighted cross-entropy of a trained model over images."""
    localizer, card = load_model(summary.folder)
    rows = LabelledImages(images, list(labels), np.zeros((len(labels), 1), np.float32), [])
    shown = collate([ImageDataset(rows, SIZE, augment=False)[i] for i in range(len(rows))])
    targets = torch.tensor([card.class_names.index(*own) for own in labels.values()])
    with torch.inference_mode():
        return float(nn.functional.cross_entropy(localizer(shown.pixels), targets))


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    labels = unlearnable()
    summary = train(tmp_path, labels, epochs=60, patience=2, learning_rate=0.1, balance=False)
    losses = [float(row["val_loss"]) for row in read_history(summary.folder / "history.csv")]
    assert losses[summary.best_epoch - 1] == min(losses) < losses[-1]
    held = held_back_of(tmp_path, labels)
    assert loss_of(summary, tmp_path / "images", {name: labels[name] for name in held}) == pytest.approx(min(losses), abs=1e-4)  # fmt: skip


def stop_at(step: int, stop: Callable[[], None]) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, text: str) -> None:
        if done == step:
            stop()

    return progress


def power_cut() -> None:
    raise OSError("the lights went out")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path: Path, workers: int) -> None:
    """Interrupted in its third epoch of three steps each; loader processes draw an epoch's order before it starts."""
    options = {"epochs": 5, "workers": workers}
    with pytest.raises(OSError, match="the lights went out"):
        train(tmp_path, RED_AND_BLUE, progress=stop_at(8, power_cut), **options)
    before = read_history(tmp_path / "model" / "history.csv")
    assert [row["epoch"] for row in before] == ["1", "2"]
    steps: list[int] = []
    summary = train(tmp_path, RED_AND_BLUE, progress=lambda done, *_: steps.append(done), **options)
    rows = read_history(summary.folder / "history.csv")
    assert steps == list(range(7, 16)), "the two finished epochs are not done again"
    assert rows[:2] == before
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert summary.epochs == 5
    undisturbed = train(tmp_path / "undisturbed", RED_AND_BLUE, **options)
    assert all(torch.equal(value, weights_of(undisturbed)[name]) for name, value in weights_of(summary).items())
    assert not (summary.folder / "checkpoints").exists()


def shapes_and_spots() -> dict[str, tuple[str, ...]]:
    return named(("r", 6, ("red",)), ("b", 6, ("blue",)), ("n", 2, ()))


def test_a_training_interrupted_in_its_cell_classifier_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def stop(done: int, total: int, text: str) -> None:
        if text == "cell classifier":
            power_cut()

    with pytest.raises(OSError, match="the lights went out"):
        train(tmp_path, shapes_and_spots(), progress=stop, cells=True)
    assert not (tmp_path / "model" / "model.json").exists()
    texts: list[str] = []
    summary = train(tmp_path, shapes_and_spots(), progress=lambda *step: texts.append(step[2]), cells=True)
    assert set(texts) == {"cell classifier"}, "no epoch is repeated"
    undisturbed = train(tmp_path / "undisturbed", shapes_and_spots(), cells=True)
    expected, found = weights_of(undisturbed), weights_of(summary)
    assert any(name.startswith("cells.") for name in expected)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert not (summary.folder / "checkpoints").exists()


@pytest.mark.parametrize("later", [1, 4])
def test_epochs_without_improvement_are_not_repeated_after_resuming(tmp_path: Path, later: int) -> None:
    """An epoch has four steps."""
    options = {"epochs": 60, "patience": 6, "learning_rate": 0.1, "batch_size": 4}
    undisturbed = train(tmp_path / "undisturbed", unlearnable(), **options)
    stopped_at = 4 * (undisturbed.best_epoch + later - 1) + 2
    with pytest.raises(OSError, match="the lights went out"):
        train(tmp_path, unlearnable(), progress=stop_at(stopped_at, power_cut), **options)
    steps: list[int] = []
    resumed = train(tmp_path, unlearnable(), progress=lambda done, *_: steps.append(done), **options)
    assert steps[0] == stopped_at - 1
    assert (resumed.epochs, resumed.best_epoch) == (undisturbed.epochs, undisturbed.best_epoch)
    assert resumed.epochs == resumed.best_epoch + 6
    assert all(torch.equal(value, weights_of(undisturbed)[name]) for name, value in weights_of(resumed).items())


def test_a_training_interrupted_in_its_first_epoch_starts_again(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the lights went out"):
        train(tmp_path, RED_AND_BLUE, progress=stop_at(2, power_cut))
    resumed = train(tmp_path, RED_AND_BLUE)
    undisturbed = train(tmp_path / "undisturbed", RED_AND_BLUE)
    assert all(torch.equal(value, weights_of(undisturbed)[name]) for name, value in weights_of(resumed).items())


def test_a_training_interrupted_after_its_last_epoch_keeps_the_best_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_curves(*_: object) -> None:
        power_cut()

    with monkeypatch.context() as patched:
        patched.setattr(fit_module, "draw_curves", no_curves)
        with pytest.raises(OSError, match="the lights went out"):
            train(tmp_path, RED_AND_BLUE, epochs=3)
    steps: list[int] = []
    resumed = train(tmp_path, RED_AND_BLUE, epochs=3, progress=lambda done, *_: steps.append(done))
    undisturbed = train(tmp_path / "undisturbed", RED_AND_BLUE, epochs=3)
    assert steps == []
    assert (resumed.epochs, resumed.best_epoch, resumed.value) == (3, undisturbed.best_epoch, undisturbed.value)
    assert all(torch.equal(value, weights_of(undisturbed)[name]) for name, value in weights_of(resumed).items())


def test_ctrl_c_interrupts_and_the_training_can_be_resumed(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, RED_AND_BLUE, epochs=3, progress=stop_at(5, lambda: signal.raise_signal(signal.SIGINT)))
    assert signal.getsignal(signal.SIGINT) is handler, "a second Ctrl-C is heard"
    steps: list[int] = []
    train(tmp_path, RED_AND_BLUE, epochs=3, progress=lambda done, *_: steps.append(done))
    assert steps == [4, 5, 6, 7, 8, 9]


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    alone, helped = (train(tmp_path / str(workers), RED_AND_BLUE, epochs=2, workers=workers) for workers in (0, 2))
    assert all(torch.equal(value, weights_of(helped)[name]) for name, value in weights_of(alone).items())


def test_an_unfinished_training_of_other_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the lights went out"):
        train(tmp_path, RED_AND_BLUE, epochs=3, progress=stop_at(5, power_cut))
    with pytest.raises(ModelError, match=r"an unfinished training of other settings: its epochs is 3, .* is 4"):
        train(tmp_path, RED_AND_BLUE, epochs=4)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train(tmp_path, RED_AND_BLUE)
    before = (tmp_path / "model" / "weights.safetensors").stat().st_mtime_ns
    steps: list[int] = []
    assert train(tmp_path, RED_AND_BLUE, progress=lambda done, *_: steps.append(done)) == first
    assert steps == []
    assert (tmp_path / "model" / "weights.safetensors").stat().st_mtime_ns == before


def test_an_option_is_the_same_as_text_and_as_a_number(tmp_path: Path) -> None:
    first = train(tmp_path, RED_AND_BLUE, localizer="ccam", options={"bottom": "1"})
    assert train(tmp_path, RED_AND_BLUE, localizer="ccam", options={"bottom": 1}) == first


def test_a_finished_model_of_other_settings_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path, RED_AND_BLUE)
    with pytest.raises(ModelError, match=r"a finished model of other settings: its seed is 0, this command's is 1"):
        train(tmp_path, RED_AND_BLUE, seed=1)


# --- a folder in use -------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"somebody's")


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "deep/down/.tmp-notes", ".tmp-1-history.csv", "history.csv"])
@pytest.mark.parametrize("labels", [RED_AND_BLUE, named(("r", 8, ("red",)))], ids=["good labels", "labels that fail"])
def test_a_foreign_folder_is_refused_and_not_changed(tmp_path: Path, name: str, labels: Labels) -> None:
    put(tmp_path / "model", name)
    before = contents(tmp_path / "model")
    with pytest.raises(ModelError, match=r"holds other things .*give a new or an empty folder"):
        train(tmp_path, labels)
    assert contents(tmp_path / "model") == before


@pytest.mark.parametrize("fails", [False, True])
def test_foreign_files_beside_an_unfinished_training_are_kept(tmp_path: Path, fails: bool) -> None:
    settings = settings_for(tmp_path, write_corpus(tmp_path, RED_AND_BLUE))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training_job.train(settings, killed)
    foreign = ("checkpoints/notes.txt", ".tmp-1-a", "checkpoints/.tmp-b", "deep/.tmp-c")
    put(settings.out, *foreign)
    left = temporary_path(settings.out / "history.csv")
    left.write_text("half")
    if fails:
        shutil.rmtree(settings.images)
        with pytest.raises(CorpusError):
            training_job.train(settings)
        assert set(contents(settings.out)) == set(foreign)
    else:
        training_job.train(settings)
        assert set(contents(settings.out)) == {
            *foreign,
            "model.json",
            "weights.safetensors",
            "history.csv",
            "curves.png",
        }


@pytest.mark.parametrize("content", ["[]", "{", '{"name": "a training of others"}'])
def test_a_foreign_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "training.json").write_text(content)
    with pytest.raises(ModelError, match="cannot be read as the record of an unfinished training"):
        train(tmp_path, RED_AND_BLUE)
    assert (tmp_path / "model" / "training.json").read_text() == content


def test_a_training_that_finishes_meanwhile_is_not_repeated(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, write_corpus(tmp_path, RED_AND_BLUE))
    with lock_folder(settings.out), pytest.raises(RunError, match="Another process is working on"):
        training_job.train(settings)
    first = training_job.train(settings)
    before = contents(settings.out)
    assert training_job.train(settings) == first
    assert contents(settings.out) == before
