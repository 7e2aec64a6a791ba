import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.localizers.base import Localizer
from mining.localizers.cam import CAM
from mining.localizers.registry import LOCALIZERS
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.runtimes import openvino_part
from mining.training import cells as cells_module
from mining.training.cell_labels import label_cells
from mining.training.cells import (
    BATCH_SIZE,
    CellTraining,
    ImageCells,
    draw_examples,
    rarity_weights,
    round_one,
    sample_images,
    train_cell_classifier,
)
from mining.training.labelled_images import LabelledImages

BACKGROUND = 3
UNUSED = -1
THRESHOLDS = (0.55, 0.25)


# --- examples --------------------------------------------------------------------------------------------------------


def test_clear_cells_are_examples_and_those_between_are_not() -> None:
    values = torch.tensor([[0.9, 0.1], [0.6, 0.8], [0.4, 0.1], [0.2, 0.24], [0.1, 0.3]])
    labels = label_cells(values, [2, 0], THRESHOLDS, BACKGROUND)
    assert labels.tolist() == [2, 0, UNUSED, BACKGROUND, UNUSED]


@pytest.mark.parametrize("name", LOCALIZERS)
def test_maps_of_every_localizer_can_have_cells_above_the_first_threshold_and_below_the_second(name: str) -> None:
    entry = LOCALIZERS[name]
    for threshold, _ in ((entry.threshold, entry.normalise), *entry.preset_cuts.values()):
        above, below = round_one(threshold)
        assert 0 < below < threshold < above < 1


def test_an_image_without_any_of_the_classes_is_background_everywhere() -> None:
    assert label_cells(torch.zeros(4, 0), [], THRESHOLDS, BACKGROUND).tolist() == [BACKGROUND] * 4


def test_an_image_with_a_class_that_has_no_activation_gives_no_examples() -> None:
    values = torch.tensor([[0.9, 0.0], [0.1, 0.0]])
    assert label_cells(values, [0, 1], THRESHOLDS, BACKGROUND).tolist() == [UNUSED] * 2


def test_half_of_the_examples_of_each_image_are_drawn_and_the_draw_depends_on_the_seed() -> None:
    features = torch.arange(200.0).view(100, 2)
    activation = torch.cat([torch.ones(40, 1), torch.full((20, 1), 0.4), torch.zeros(40, 1)])
    sample = ImageCells(features, activation, [1])
    drawn, labels = draw_examples([sample], [activation], THRESHOLDS, background=BACKGROUND, seed=0)
    assert len(drawn) == 40
    assert set(labels.tolist()) == {1, BACKGROUND}
    is_foreground = drawn[:, 0] < 80  # the first 40 cells
    assert torch.equal(labels == 1, is_foreground)
    again, _ = draw_examples([sample], [activation], THRESHOLDS, background=BACKGROUND, seed=0)
    other, _ = draw_examples([sample], [activation], THRESHOLDS, background=BACKGROUND, seed=1)
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)


def test_rare_labels_weigh_more_within_limits() -> None:
    labels = torch.tensor([0] * 9000 + [1] * 1000 + [2])
    weights = rarity_weights(labels, 4)
    assert weights[0] < weights[1] < weights[2]
    assert weights.min() >= 0.2
    assert weights.max() == 5.0


def test_a_large_corpus_is_sampled_with_its_rare_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mining.training.cells.MAX_IMAGES", 100)
    monkeypatch.setattr("mining.training.cells.IMAGES_PER_CLASS", 10)
    targets = np.zeros((5000, 3), np.float32)
    targets[:, 0] = 1
    targets[[7, 4000], 2] = 1
    rows = sample_images(targets, seed=0)
    assert len(rows) == len(set(rows)) == 100
    assert {7, 4000} <= set(rows)
    assert sample_images(targets, seed=0) == rows


def test_a_small_corpus_is_used_whole_and_shuffled() -> None:
    rows = sample_images(np.ones((50, 2), np.float32), seed=0)
    assert sorted(rows) == list(range(50))
    assert rows != sorted(rows)


# --- the whole training ----------------------------------------------------------------------------------------------


class Colours(nn.Module):
    """Three channels: how red, how blue and how bright a pixel is, averaged over 4 x 4 px."""

    def forward(self, images: Tensor) -> Tensor:
        channels = torch.stack([images[:, 0] - images[:, 1], images[:, 2] - images[:, 1], images.mean(dim=1)], dim=1)
        return nn.functional.avg_pool2d(channels, 4)


@pytest.fixture
def localizer() -> Localizer:
    """Red is class 0, blue is class 1; the activation is highest at a bright spot of the object."""
    spec = StageSpec([Colours(), nn.Identity()], (3, 3), (4, 4), None, mean=(0.5,) * 3, std=(0.25,) * 3)
    localizer = CAM(Backbone("colours", spec), classes=2)
    with torch.no_grad():
        localizer.classifier.weight.copy_(torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.5]])[..., None, None])
    return localizer.eval()


@pytest.fixture
def images(tmp_path: Path) -> LabelledImages:
    """Images of 64 x 64 px with a red or a blue rectangle on grey, a part of it bright."""
    generator = np.random.default_rng(0)
    files, targets = [], []
    for number in range(12):
        pixels = np.full((64, 64, 3), 110, np.uint8) + generator.integers(0, 20, (64, 64, 3), dtype=np.uint8)
        channel = 2 * (number % 2)
        top, left = generator.integers(4, 24, 2)
        pixels[top : top + 32, left : left + 24, channel] = 190
        pixels[top : top + 12, left : left + 12, channel] = 250
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        files.append(f"{number}.png")
        targets.append([1.0, 0.0] if channel == 0 else [0.0, 1.0])
    return LabelledImages(tmp_path, files, np.array(targets, np.float32), ["blue", "red"])


def train(localizer: Localizer, images: LabelledImages, seed: int = 0, **options: Any) -> CellTraining:
    return train_cell_classifier(localizer, images, input_size=64, device=torch.device("cpu"), seed=seed, **options)


def test_the_classifier_finds_the_whole_object(localizer: Localizer, images: LabelledImages) -> None:
    result = train(localizer, images)
    assert result.classifier is not None
    assert result.record.images == 12
    assert result.record.examples > BATCH_SIZE / 10
    pixels = torch.full((1, 3, 64, 64), 120, dtype=torch.uint8)
    pixels[0, 0, 16:48, 16:40] = 190
    stages = localizer.backbone(pixels)
    with torch.no_grad():
        projected = result.classifier.project([stages[index] for index in result.classifier.spec.stages])
        probability = result.classifier.probabilities(projected, torch.tensor([[0]]))[0, 0]
    is_object = torch.zeros(16, 16, dtype=torch.bool)
    is_object[4:12, 4:10] = True
    assert probability[is_object].min() > 0.5
    assert probability[~is_object].max() < 0.5


def test_the_same_seed_gives_the_same_weights(localizer: Localizer, images: LabelledImages) -> None:
    first, second, other = (train(localizer, images, seed).classifier for seed in (0, 0, 1))
    assert first is not None
    assert second is not None
    assert other is not None
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_the_number_of_threads_changes_nothing(localizer: Localizer, images: LabelledImages) -> None:
    (images.root / images.files[5]).write_bytes(b"no image")
    one, three = (train(localizer, images, threads=threads) for threads in (1, 3))
    assert one.record.images == three.record.images == 11
    assert one.classifier is not None
    assert three.classifier is not None
    expected = one.classifier.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in three.classifier.state_dict().items())


def test_each_pass_has_one_image_and_the_runtime_computes_it(
    images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EfficientNet-Lite0 with a random head; the features come from the pass that computes the maps."""
    shapes: list[tuple[int, ...]] = []
    original = openvino_part.CompiledPart._infer

    def noted(self: Any, pixels: Tensor) -> Any:
        shapes.append(tuple(pixels.shape))
        return original(self, pixels)

    torch.manual_seed(0)
    localizer = CAM(build("efficientnet_lite0", weights="imagenet")[0], classes=2).eval()
    nn.init.normal_(localizer.classifier.weight)
    maps = {}
    for runtime in ("torch", "openvino"):
        with monkeypatch.context() as patch:
            patch.setattr(openvino_part.CompiledPart, "_infer", noted)
            inference = prepare_for_inference(copy.deepcopy(localizer), torch.device("cpu"))
            computer = cells_module._MapComputer(
                inference, images, 64, torch.device("cpu"), (runtime, "float32"), threads=2
            )
            maps[runtime] = list(computer.compute([3, 1, 2], lambda count: None))
    assert sorted(shapes) == sorted([(1, 3, 64, 64), (1, 3, 96, 96)] * 3)
    for found, expected in zip(maps["openvino"], maps["torch"], strict=True):
        assert found.classes == expected.classes
        for one, other in zip([found.class_maps, *found.stages], [expected.class_maps, *expected.stages], strict=True):
            assert float((one - other).abs().max()) <= 2e-3 * float(other.abs().max())


def test_the_training_changes_neither_the_localizer_nor_the_random_state(
    localizer: Localizer, images: LabelledImages
) -> None:
    before = {name: value.clone() for name, value in localizer.state_dict().items()}
    torch.manual_seed(5)
    train(localizer, images)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert localizer.cells is None
    assert all(torch.equal(value, before[name]) for name, value in localizer.state_dict().items())


def test_an_image_that_cannot_be_read_is_left_out(localizer: Localizer, images: LabelledImages) -> None:
    (images.root / "3.png").write_bytes(b"no image")
    assert train(localizer, images).record.images == 11


def test_images_that_cannot_be_read_give_no_classifier(localizer: Localizer, images: LabelledImages) -> None:
    for name in images.files:
        (images.root / name).write_bytes(b"no image")
    result = train(localizer, images)
    assert (result.classifier, result.record.images) == (None, 0)


def test_maps_without_any_background_give_no_classifier(localizer: CAM, images: LabelledImages) -> None:
    nn.init.zeros_(localizer.classifier.weight)
    result = train(localizer, images)
    assert result.classifier is None
    assert "No cell classifier was trained" in result.notes[0]


def test_a_class_agnostic_localizer_teaches_by_images_of_one_class(localizer: CAM, images: LabelledImages) -> None:
    images.targets[:5] = 1  # both classes
    localizer.class_agnostic = True
    assert train(localizer, images).record.images == 7


@pytest.mark.parametrize("limit", ["PROJECTION_IMAGES", "PROJECTION_BYTES"])
def test_projections_are_fitted_to_the_first_images(
    localizer: Localizer, images: LabelledImages, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Few images of the first load are enough; all images teach, and none is used twice."""
    whole = train(localizer, images)
    monkeypatch.setattr(cells_module, limit, 1)
    monkeypatch.setattr(cells_module, "_IMAGES_PER_LOAD", 4)
    result = train(localizer, images)
    assert result.record.images == whole.record.images == 12
    assert result.classifier is not None
    assert whole.classifier is not None
    fitted, of_all = (one.projections[0].shift for one in (result.classifier, whole.classifier))
    assert not torch.equal(fitted, of_all)


def test_a_backbone_of_one_stage_is_said_to_give_less_exact_boundaries(images: LabelledImages) -> None:
    spec = StageSpec([Colours()], (3,), (4,), None, mean=(0.5,) * 3, std=(0.25,) * 3)
    localizer = CAM(Backbone("one-stage", spec), classes=2)
    with torch.no_grad():
        localizer.classifier.weight.copy_(torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.5]])[..., None, None])
    result = train(localizer.eval(), images)
    assert result.classifier is not None
    assert "The backbone one-stage is used as one stage" in result.notes[0]
