"""Trainings with a frozen backbone, whose features of each view are computed once and kept in files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mining.backbones.build import build
from mining.backbones.registry import spec_of
from mining.config import TrainSettings
from mining.errors import ModelError, StorageError
from mining.localizers.base import ClassificationLoss, Localizer
from mining.localizers.registry import LOCALIZERS
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer
from mining.training import feature_table, frozen_features, training_data
from mining.training import job as training_job
from mining.training.checkpoints import read_checkpoint
from mining.training.data import ImageDataset, ShuffledSampler, image_dataset, view_seed
from mining.training.feature_table import RowFormat, TablePlan, complete_parts, open_table, plans_that_fit, read_part
from mining.training.frozen_features import FeatureExtractor, feature_precision
from mining.training.labelled_images import LabelledImages
from mining.training.summary import TrainingSummary
from tests.factories import register_tiny_backbone, slow_except

CPU = torch.device("cpu")
NAMES = [f"{colour}{number:02d}.png" for colour in "rb" for number in range(8)]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny_backbone(monkeypatch)


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, Any]:
    """16 images of two classes, and weights for the tiny backbone."""
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in NAMES:
        pixels = random.integers(0, 160, (random.integers(40, 60), random.integers(40, 60), 3), np.uint8)
        pixels[..., "rgb".index(name[0])] += 90
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [(name, "red" if name[0] == "r" else "blue") for name in NAMES]
        csv.writer(file).writerows([("file_name", "labels"), *rows])
    torch.manual_seed(0)
    save_file(spec_of("tiny").build_network().state_dict(), tmp_path / "weights.safetensors")
    return {
        "images": tmp_path / "images", "labels": tmp_path / "labels.csv",
        "weights": str(tmp_path / "weights.safetensors"),
    }  # fmt: skip


def settings_for(corpus: dict[str, Any], out: Path, **options: Any) -> TrainSettings:
    quick: dict[str, Any] = {
        "backbone": "tiny", "epochs": 4, "batch_size": 4, "workers": 1, "accelerator": "cpu", "validation_share": 0.25,
        "learning_rate": 0.1, "cells": False, "views": 2, "patience": 9,
    }  # fmt: skip
    return TrainSettings(**corpus, out=out, **{**quick, **options})


def train(corpus: dict[str, Any], out: Path, progress: Any = None, **options: Any) -> TrainingSummary:
    settings = settings_for(corpus, out, **options)
    return training_job.train(settings) if progress is None else training_job.train(settings, progress)


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "weights.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    expected, found = weights_of(first), weights_of(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))


def stop_at(text: str, done: int) -> Callable[[int, int, str], None]:
    def progress(reached: int, _: int, what: str) -> None:
        if what == text and reached >= done:
            raise OSError("the lights went out")

    return progress


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The index and the number of views of each image whose features are computed for a table, in this test."""
    calls: list[tuple[int, int]] = []
    original = FeatureExtractor.of_views

    def noted(self: FeatureExtractor, make_dataset: Any, indices: Any, views: Any) -> Any:
        for index, features in original(self, make_dataset, indices, views):
            calls.append((index, len(views)))
            yield index, features

    monkeypatch.setattr(FeatureExtractor, "of_views", noted)
    return calls


# --- the whole -------------------------------------------------------------------------------------------------------


def test_a_frozen_training_learns(corpus: dict[str, Any], tmp_path: Path) -> None:
    summary = train(corpus, tmp_path / "model", epochs=8)
    assert (summary.images, summary.validation_images, summary.epochs, summary.value) == (12, 4, 8, 1.0)
    rows = list(csv.DictReader((tmp_path / "model" / "history.csv").open()))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) / 2
    left = sorted(path.name for path in summary.folder.iterdir())
    assert left == ["curves.png", "history.csv", "model.json", "weights.safetensors"], "features are deleted"


def test_the_features_of_each_view_are_computed_once(
    corpus: dict[str, Any], tmp_path: Path, computed: list[tuple[int, int]]
) -> None:
    train(corpus, tmp_path / "model", epochs=6, views=3)
    assert sorted(computed) == sorted([(index, 3) for index in range(12)] + [(index, 1) for index in range(4)])


def test_no_more_views_are_computed_than_there_are_epochs(
    corpus: dict[str, Any], tmp_path: Path, computed: list[tuple[int, int]]
) -> None:
    train(corpus, tmp_path / "model", epochs=2, views=100)
    assert {views for _, views in computed} == {2, 1}


@pytest.mark.parametrize("workers", [0, 2])
def test_features_that_do_not_fit_on_the_disk_are_computed_when_needed(
    corpus: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    computed: list[tuple[int, int]],
    workers: int,
) -> None:
    train(corpus, tmp_path / "kept")
    computed.clear()
    no_room(monkeypatch)
    train(corpus, tmp_path / "anew", workers=workers)
    assert computed == []
    assert_equal_weights(tmp_path / "kept", tmp_path / "anew")


@pytest.mark.parametrize("localizer", ["cam", "spg"])
def test_neither_files_nor_threads_change_the_weights(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, localizer: str
) -> None:
    options = {"localizer": localizer, "learning_rate": 0.01, "epochs": 2}
    for workers in (1, 3):
        train(corpus, tmp_path / str(workers), workers=workers, **options)
    no_room(monkeypatch)
    train(corpus, tmp_path / "anew", **options)
    assert_equal_weights(tmp_path / "1", tmp_path / "3")
    assert_equal_weights(tmp_path / "1", tmp_path / "anew")


def test_new_views_in_every_epoch_are_another_training(corpus: dict[str, Any], tmp_path: Path) -> None:
    for views in (0, 1, 2):
        train(corpus, tmp_path / str(views), views=views)
    heads = [weights_of(tmp_path / str(views))["classifier.weight"] for views in (0, 1, 2)]
    assert not torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[1], heads[2])
    with pytest.raises(ModelError, match="its views is 1, this command's is 2"):
        train(corpus, tmp_path / "1", views=2)


def test_the_default_depends_on_what_is_trained(corpus: dict[str, Any], tmp_path: Path) -> None:
    def views_of(**options: Any) -> int:
        summary = train(corpus, tmp_path / str(len(list(tmp_path.iterdir()))), views=None, epochs=1, **options)
        return int(json.loads((summary.folder / "model.json").read_text())["training"]["settings"]["views"])

    assert views_of() == training_job.VIEWS
    assert views_of(freeze=False) == 0
    assert views_of(localizer="nlccam", options={"after": [1]}) == 0, "its blocks lie between the stages"


def test_a_training_of_an_earlier_version_had_new_views_in_every_epoch(corpus: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the lights went out"):
        train(corpus, tmp_path / "model", stop_at("epoch 3", 1), views=0)
    path = tmp_path / "model" / "training.json"
    record = json.loads(path.read_text())
    del record["views"]
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match="its views is 0, this command's is 2"):
        train(corpus, tmp_path / "model", views=2)
    train(corpus, tmp_path / "model", views=0)
    train(corpus, tmp_path / "undisturbed", views=0)
    assert_equal_weights(tmp_path / "model", tmp_path / "undisturbed")


@pytest.mark.parametrize("has_room", [True, False])
def test_unreadable_images_are_named_and_left_out(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_room: bool
) -> None:
    broken = ["b01.png", "b06.png", "r00.png", "r03.png", "r07.png"]
    for name in broken:
        (corpus["images"] / name).write_bytes(b"no image")
    if not has_room:
        no_room(monkeypatch)
    summary = train(corpus, tmp_path / "model", batch_size=1)
    assert sorted(summary.unreadable) == broken
    assert all("not an image in a supported format" in reason for reason in summary.unreadable.values())
    assert summary.value is not None


# --- interruptions and damage ----------------------------------------------------------------------------------------

MOMENTS = {"in the features": ("features", 5), "between them": ("features", 16), "in an epoch": ("epoch 3", 8)}


@pytest.mark.parametrize(("text", "done"), MOMENTS.values(), ids=MOMENTS)
def test_an_interrupted_training_resumes_to_the_same_weights(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, done: int
) -> None:
    monkeypatch.setattr(feature_table, "MAX_PART_IMAGES", 3)
    with pytest.raises(OSError, match="the lights went out"):
        train(corpus, tmp_path / "model", stop_at(text, done))
    train(corpus, tmp_path / "model")
    train(corpus, tmp_path / "undisturbed")
    assert_equal_weights(tmp_path / "model", tmp_path / "undisturbed")
    assert not (tmp_path / "model" / "checkpoints").exists()


def test_finished_parts_are_not_computed_again(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(feature_table, "MAX_PART_IMAGES", 3)
    with pytest.raises(OSError, match="the lights went out"):
        train(corpus, tmp_path / "model", stop_at("features", 8))
    computed.clear()
    train(corpus, tmp_path / "model")
    assert sorted(index for index, views in computed if views == 2) == list(range(6, 12))


def test_a_changed_image_is_computed_again(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(feature_table, "MAX_PART_IMAGES", 1)
    with pytest.raises(OSError, match="the lights went out"):
        train(corpus, tmp_path / "model", stop_at("epoch 1", 1))
    Image.fromarray(np.full((50, 40, 3), 200, np.uint8)).save(corpus["images"] / "r02.png")
    computed.clear()
    train(corpus, tmp_path / "model")
    assert len(computed) == 1
    train(corpus, tmp_path / "undisturbed")
    assert_equal_weights(tmp_path / "model", tmp_path / "undisturbed")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


DAMAGES: dict[str, Callable[[Path], None]] = {"a flipped bit": flip_a_byte, "cut off": cut_off, "deleted": Path.unlink}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_a_damaged_part_is_computed_again(
    corpus: dict[str, Any], tmp_path: Path, suffix: str, damage: Callable[[Path], None]
) -> None:
    with pytest.raises(OSError, match="the lights went out"):
        train(corpus, tmp_path / "model", stop_at("epoch 1", 1))
    damage(tmp_path / "model" / "checkpoints" / f"features-training-00000.{suffix}")
    train(corpus, tmp_path / "model")
    train(corpus, tmp_path / "undisturbed")
    assert_equal_weights(tmp_path / "model", tmp_path / "undisturbed")


def test_foreign_files_beside_the_features_are_kept(corpus: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the lights went out"):
        train(corpus, tmp_path / "model", stop_at("epoch 1", 1))
    foreign = tmp_path / "model" / "checkpoints" / "features-of-mine.npy"
    foreign.write_bytes(b"mine")
    train(corpus, tmp_path / "model")
    assert [path.name for path in foreign.parent.iterdir()] == ["features-of-mine.npy"]


def test_checkpoints_leave_out_what_does_not_change(corpus: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the lights went out"):
        train(corpus, tmp_path / "model", stop_at("epoch 2", 1))
    state = read_checkpoint(tmp_path / "model" / "checkpoints" / "last.ckpt")["state_dict"]
    assert sorted(state) == ["has_learned", "localizer.classifier.bias", "localizer.classifier.weight", "loss.weights"]
    train(corpus, tmp_path / "model")
    backbone, _ = build("tiny", weights=corpus["weights"])
    kept = weights_of(tmp_path / "model")
    assert all(torch.equal(value, kept[f"backbone.{name}"]) for name, value in backbone.state_dict().items())


# --- tables ----------------------------------------------------------------------------------------------------------


def plan_of(folder: Path, *, images: int = 7, views: int = 2, inputs: str = "the same") -> TablePlan:
    folder.mkdir(exist_ok=True)
    row = RowFormat(((3, 1, 1), (2, 2, 2)), torch.float16)
    return TablePlan(folder, "training", images, views, row, lambda first, last: [inputs, first, last])


def features_of(index: int, views: int) -> list[Tensor]:
    first = 100 * index + 10 * torch.arange(views, dtype=torch.float16).view(views, 1, 1, 1)
    return [first + torch.arange(3).view(1, 3, 1, 1), -first - torch.arange(8).view(1, 2, 2, 2)]


def complete(plan: TablePlan, *, rank: int = 0, world_size: int = 1, broken: int = -1) -> list[int]:
    computed: list[int] = []

    def compute(indices: Any) -> Any:
        for index in indices:
            computed.append(index)
            yield index, "broken" if index == broken else features_of(index, plan.views)

    complete_parts(plan, compute, rank=rank, world_size=world_size, progress=lambda count: None)
    return computed


def test_a_table_returns_what_was_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, "MAX_PART_IMAGES", 3)
    plan = plan_of(tmp_path)
    assert complete(plan, broken=4) == list(range(7))
    table = open_table(plan)
    assert table.unreadable == {4: "broken"}
    keys = [(6, 1), (0, 0), (2, 1), (3, 0)]
    found = table.features(keys)
    expected = [[part[view] for part in features_of(index, 2)] for index, view in keys]
    assert [part.dtype for part in found] == [torch.float16] * 2
    for number, part in enumerate(found):
        assert torch.equal(part, torch.stack([features[number] for features in expected]))


def test_each_device_computes_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, "MAX_PART_IMAGES", 2)
    plan = plan_of(tmp_path)
    assert complete(plan, rank=1, world_size=2) == [2, 3, 6]
    with pytest.raises(StorageError, match=r"features-training-00000\.npy was changed or deleted"):
        open_table(plan)
    assert complete(plan, rank=0, world_size=2) == [0, 1, 4, 5]
    assert open_table(plan).unreadable == {}


@pytest.mark.parametrize("change", [{"inputs": "others"}, {"views": 3}, {"images": 6}])
def test_a_part_of_other_inputs_is_not_used(tmp_path: Path, change: dict[str, Any]) -> None:
    complete(plan_of(tmp_path))
    assert read_part(plan_of(tmp_path), 0) is not None
    assert read_part(plan_of(tmp_path, **change), 0) is None


def test_parts_have_a_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, "PART_BYTES", 100)
    plan = plan_of(tmp_path)
    assert (plan.row.bytes, plan.bytes) == (22, 7 * 44)
    assert plan.parts == [range(0, 2), range(2, 4), range(4, 6), range(6, 7)]


def test_tables_leave_half_of_the_disk_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = plan_of(tmp_path, images=1), plan_of(tmp_path)
    for free, expected in ((1000, ["small", "large"]), (700, ["small"]), (80, [])):
        monkeypatch.setattr(feature_table.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert plans_that_fit({"large": large, "small": small}, tmp_path) == expected
    complete(large)  # what is there already needs no further room
    assert plans_that_fit({"large": large}, tmp_path) == ["large"]


# --- views -----------------------------------------------------------------------------------------------------------


def test_epochs_use_the_views_in_turn() -> None:
    for epoch, expected in enumerate([0, 1, 2, 0, 1]):
        torch.manual_seed(40 + epoch)
        keys = list(ShuffledSampler(5, views=3, seed=40))
        assert {view for _, view in keys} == {expected}
        assert sorted(index for index, _ in keys) == list(range(5))


def test_the_order_does_not_depend_on_the_views() -> None:
    torch.manual_seed(3)
    assert [index for index, _ in ShuffledSampler(9)] == [index for index, _ in ShuffledSampler(9, views=2, seed=3)]


def test_the_seed_of_a_view_follows_from_training_image_and_view() -> None:
    seeds = {view_seed(seed, file, view) for seed in range(3) for file in ("a.jpg", "b.jpg") for view in range(3)}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert view_seed(1, "a.jpg", 2) == view_seed(1, "a.jpg", 2)


def test_views_decoded_together_are_those_decoded_one_by_one(corpus: dict[str, Any], tmp_path: Path) -> None:
    images = LabelledImages(corpus["images"], NAMES, np.ones((16, 2), np.float32), ["a", "b"])
    dataset = image_dataset(settings_for(corpus, tmp_path), images, 32, augment=True)
    together = dataset.views_of(3, [0, 1, 2])
    assert not torch.equal(together[0], together[1])
    for view in (2, 0, 1):
        assert torch.equal(dataset[3, view]["pixels"], together[view])


# --- features --------------------------------------------------------------------------------------------------------

ON_FEATURES = ["cam", "ccam", "gradcam", "gradcampp", "layercam", "msrd", "spg", "trilite"]


def localizer_of(name: str, weights: str = "imagenet") -> Localizer:
    torch.manual_seed(0)
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, 4)]
    card = ModelCard(name, "efficientnet_lite0", "single", listed, 64, {})
    localizer = build_localizer(card, weights=weights)[0]
    localizer.freeze_backbone()
    return localizer


def extractor_of(localizer: Localizer, runtime: str, threads: int = 1) -> FeatureExtractor:
    settings = TrainSettings(images=Path("photos"), out=Path("out"), runtime=runtime, precision="32")  # type: ignore[arg-type]
    extractor = FeatureExtractor(localizer, settings, CPU, threads)
    assert extractor.compute.describe() == f"cpu ({runtime}, float32)"
    return extractor


def pictures(count: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_which_localizers_train_on_features() -> None:
    assert sorted(name for name in LOCALIZERS if localizer_of(name, "none").trains_on_features) == sorted(ON_FEATURES)


# the runtime computes the features, and the objective is that of the loss: neither depends on the other
@pytest.mark.parametrize(("runtime", "objective"), [("torch", "single"), ("openvino", "multi")])
@pytest.mark.parametrize("name", slow_except(("cam", "msrd", "spg", "trilite"), ON_FEATURES))
def test_a_step_on_features_equals_a_step_on_pixels(name: str, runtime: str, objective: Any) -> None:
    """Without dropout: losses, gradients and logits."""
    localizer = localizer_of(name)
    for module in localizer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    localizer.train()
    features = extractor_of(localizer, runtime).of_batch(pictures())
    loss, targets = ClassificationLoss(objective), torch.eye(3)

    def step(losses: dict[str, Tensor]) -> tuple[dict[str, float], list[Tensor]]:
        localizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        gradients = [one.grad.clone() for one in localizer.parameters() if one.grad is not None]
        return {key: float(value.detach()) for key, value in losses.items()}, gradients

    expected, expected_gradients = step(localizer.training_step(pictures(), targets, loss))
    found, gradients = step(localizer.training_step_from(features, (64, 64), targets, loss))
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-5)
    assert len(gradients) == len(expected_gradients) > 0
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert float((one - other).norm()) <= 0.05 * float(other.norm())  # SPG's masks move by single pixels
    with torch.no_grad():
        assert torch.allclose(localizer.logits_from(features), localizer(pictures()), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_features_depend_neither_on_threads_nor_on_other_images(runtime: str) -> None:
    localizer = localizer_of("cam")
    alone, shared = extractor_of(localizer, runtime), extractor_of(localizer, runtime, threads=3)
    (expected,), (found,) = alone.of_batch(pictures(5)), shared.of_batch(pictures(5))
    assert torch.equal(found, expected)
    assert torch.equal(alone.of_batch(pictures(5)[2:3])[0], expected[2:3])


def test_views_of_several_images_in_one_pass_are_not_mixed_up(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU."""
    (corpus["images"] / NAMES[4]).write_bytes(b"no image")
    images = LabelledImages(corpus["images"], NAMES, np.ones((16, 2), np.float32), ["a", "b"])
    settings = settings_for(corpus, tmp_path)

    def dataset() -> ImageDataset:
        return image_dataset(settings, images, 32, augment=True)

    one_by_one, together = (extractor_of(localizer_of("cam"), "torch", threads=2) for _ in range(2))
    monkeypatch.setattr(together, "_on_cpu", False)
    monkeypatch.setattr(frozen_features, "_IMAGES_PER_PASS", 7)
    order = [9, 3, 4, 0, 15, 2, 1]
    expected = list(one_by_one.of_views(dataset, order, range(2)))
    found = list(together.of_views(dataset, order, range(2)))
    assert [index for index, _ in found] == [index for index, _ in expected] == order
    for (_, one), (_, other) in zip(found, expected, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            assert one == other
        else:
            assert torch.allclose(one[0], other[0], rtol=1e-3, atol=1e-4)
    assert isinstance(found[2][1], str)


def test_the_network_that_is_trained_is_not_changed() -> None:
    localizer = localizer_of("cam").train()
    before = {name: value.clone() for name, value in localizer.state_dict().items()}
    needed = [one.requires_grad for one in localizer.parameters()]
    extractor_of(localizer, "openvino").of_batch(pictures())
    assert all(torch.equal(value, before[name]) for name, value in localizer.state_dict().items())
    assert [one.requires_grad for one in localizer.parameters()] == needed
    assert localizer.training


def test_what_the_runtime_cannot_convert_is_refused_if_it_was_asked_for(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConversionError("no")

    from mining.runtimes import stage_features
    from mining.runtimes.openvino_part import ConversionError

    monkeypatch.setattr(stage_features, "compile_part", fail)
    with pytest.raises(ModelError, match=r"OpenVINO cannot run this model: no\. Use --runtime torch"):
        train(corpus, tmp_path / "model", runtime="openvino")
    train(corpus, tmp_path / "auto")
    train(corpus, tmp_path / "torch", runtime="torch")
    assert_equal_weights(tmp_path / "auto", tmp_path / "torch")


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("auto", "auto"), ("32-true", "float32"), ("32", "float32"), ("bf16-mixed", "bfloat16"), ("16-mixed", "float16"),
        ("64", "float32"),
    ],
)  # fmt: skip
def test_the_precision_of_features_is_that_of_the_training(precision: str, expected: str) -> None:
    assert feature_precision(precision) == expected


def test_loader_processes_start_only_for_pixels(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    original = training_data.workers_that_fit

    def noted(wanted: int, *rest: Any, **options: Any) -> Any:
        asked.append(options["loaders"])
        return original(wanted, *rest, **options)

    monkeypatch.setattr(training_data, "workers_that_fit", noted)
    train(corpus, tmp_path / "kept", epochs=1)
    assert asked == []
    train(corpus, tmp_path / "new views", epochs=1, views=0)
    train(corpus, tmp_path / "pixels", epochs=1, freeze=False)
    assert asked == [1, 2]
