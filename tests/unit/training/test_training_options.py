"""Training options: optimizer, learning rates and schedule, input size and augmentation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from mining.backbones.build import build
from mining.config import TrainOptions, TrainSettings
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.loading import localizer_named
from mining.models.card import read_card
from mining.models.checkpoint import load_model
from mining.training import job as training_job
from mining.training.data import AugmentationConfig, ImageDataset
from mining.training.labelled_images import LabelledImages
from mining.training.localizer_defaults import with_localizer_defaults
from mining.training.optim import optimizer_for, rate_share, schedule_for
from tests.factories import register_tiny_backbone

EPOCH_STEPS = 5


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny_backbone(monkeypatch)


def settings_of(**options: Any) -> TrainSettings:
    quick: dict[str, Any] = {
        "images": "images", "out": "model", "backbone": "tiny", "weights": "none", "freeze": False, "epochs": 4,
        "batch_size": 4, "workers": 0, "accelerator": "cpu", "validation_share": 0,
    }  # fmt: skip
    return TrainSettings(**{**quick, **options})


def localizer_of(name: str, backbone: str = "tiny") -> Localizer:
    return localizer_named(name)(build(backbone)[0], 3)


# --- the schedule ----------------------------------------------------------------------------------------------------


def shares(**options: Any) -> list[float]:
    """Share of the learning rate at each step of the training."""
    settings = TrainOptions(**options)
    return [rate_share(settings, step, EPOCH_STEPS) for step in range(settings.epochs * EPOCH_STEPS)]


def test_a_constant_rate_does_not_change() -> None:
    assert set(shares(schedule="constant", epochs=3)) == {1.0}


def test_a_step_schedule_divides_by_ten_every_schedule_epochs() -> None:
    by_step = shares(schedule="step", schedule_epochs=2, epochs=5)
    expected = [1.0] * 2 * EPOCH_STEPS + [0.1] * 2 * EPOCH_STEPS + [0.01] * EPOCH_STEPS
    assert by_step == pytest.approx(expected)


def test_a_restarted_cosine_falls_twice() -> None:
    """ORNet's training on ImageNet: 5 epochs from 0.001, 3 from 0.0001."""
    by_step = shares(restart=0.625, restart_rate=0.1, epochs=8)
    first, second = by_step[: 5 * EPOCH_STEPS], by_step[5 * EPOCH_STEPS :]
    assert (first[0], second[0]) == (1.0, pytest.approx(0.1))
    for part in (first, second):
        assert part == sorted(part, reverse=True)
        # half-way down a cosine is half-way through: its n steps and the one behind them are even
        half = len(part) // 2
        assert part[half] == pytest.approx(part[0] * (1 + np.cos(np.pi * half / len(part))) / 2)
        assert part[-1] < 0.02 * part[0]


def test_a_restarted_constant_rate_is_lower() -> None:
    by_step = shares(schedule="constant", restart=0.5, restart_rate=0.2, epochs=4)
    assert by_step == [1.0] * 2 * EPOCH_STEPS + [0.2] * 2 * EPOCH_STEPS


def test_a_training_of_one_epoch_has_no_restart() -> None:
    assert shares(schedule="constant", restart=0.5, epochs=1) == [1.0] * EPOCH_STEPS


def rates_after(losses: Sequence[float], **options: Any) -> list[float]:
    """The rate after each of some epochs that end with these training losses."""
    settings = settings_of(schedule="plateau", learning_rate=1.0, **options)
    optimizer = optimizer_for(localizer_of("cam"), settings)
    plan = schedule_for(optimizer, settings, steps=EPOCH_STEPS)
    assert (plan["monitor"], plan["interval"]) == ("train_loss", "epoch")
    rates = []
    for loss in losses:
        plan["scheduler"].step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_the_plateau_schedule_lowers_the_rate_after_epochs_without_improvement() -> None:
    losses = [9.0, 8.0, 8.5, 8.0, 8.1, 7.0, 7.0, 7.0, 7.0]
    assert rates_after(losses, schedule_epochs=3) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])


def test_a_plateau_schedule_cannot_restart() -> None:
    with pytest.raises(ValueError, match="not with plateau"):
        TrainOptions(schedule="plateau", restart=0.5)


@pytest.mark.parametrize("options", [{}, {"schedule": "step"}, {"restart": 0.5}, {"schedule": "constant"}])
def test_the_first_step_has_the_full_rate(options: dict[str, Any]) -> None:
    settings = settings_of(learning_rate=0.03, backbone_rate=0.02, **options)
    optimizer = optimizer_for(localizer_of("cam"), settings)
    schedule_for(optimizer, settings, steps=EPOCH_STEPS * settings.epochs)
    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.02]


# --- the optimizer and its rates -------------------------------------------------------------------------------------


def test_sgd_has_its_momentum_and_weight_decay() -> None:
    settings = settings_of(optimizer="sgd", momentum=0.8, weight_decay=5e-4)
    optimizer = optimizer_for(localizer_of("cam"), settings)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.8, 5e-4)}


def test_the_default_optimizer_is_adamw() -> None:
    assert type(optimizer_for(localizer_of("cam"), settings_of())) is torch.optim.AdamW


@pytest.mark.parametrize("name", ["cam", "msrd", "nlccam", "mldfr", "spg", "ornet"])
def test_the_backbone_rate_applies_to_pretrained_layers_only(name: str) -> None:
    localizer = localizer_of(name, "mobilenet_v2")
    rates = {
        id(parameter): group["lr"]
        for group in optimizer_for(localizer, settings_of(learning_rate=1.0, backbone_rate=0.7)).param_groups
        for parameter in group["params"]
    }
    pretrained = {name for name, parameter in localizer.named_parameters() if rates[id(parameter)] == 0.7}
    new = {id(parameter) for module in localizer.new_layers() for parameter in module.parameters()}
    expected = {
        name
        for name, parameter in localizer.named_parameters()
        if name.startswith(("backbone.", "evaluator.backbone.")) and id(parameter) not in new
    }
    assert pretrained == expected
    assert 0 < len(pretrained) < len(rates)


def test_without_a_backbone_rate_an_unfrozen_backbone_gets_a_tenth() -> None:
    groups = optimizer_for(localizer_of("cam"), settings_of(learning_rate=0.03)).param_groups
    assert [group["lr"] for group in groups] == [0.03, 0.003]


@pytest.mark.parametrize("name", ["cam", "spg"])
def test_each_localizer_has_its_own_default_rate(name: str) -> None:
    localizer = localizer_of(name, "mobilenet_v2")
    assert optimizer_for(localizer, settings_of()).param_groups[0]["lr"] == localizer.learning_rate
    assert localizer_named("spg").learning_rate < localizer_named("cam").learning_rate


def test_the_record_has_the_rate_and_another_default_is_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path)
    assert read_card(tmp_path / "model").training["settings"]["learning_rate"] == localizer_named("cam").learning_rate
    monkeypatch.setattr(localizer_named("cam"), "learning_rate", 0.5)
    with pytest.raises(ModelError, match=r"its learning_rate is 0\.003, this command's is 0\.5"):
        trained(tmp_path)


def resolved(**options: Any) -> TrainSettings:
    return with_localizer_defaults(settings_of(**options))


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        ({"options": {"stage_one": 0.5}}, 1),
        ({"options": {"preset": "paper", "stage_one": 0.5}}, 0.1),
        ({"options": {"stage_one": 0.5}, "restart_rate": 0.3}, 0.3),
    ],
)
def test_ornets_schedule_restarts_where_its_second_stage_begins_in_the_paper_at_a_tenth(
    given: dict[str, Any], rate: float
) -> None:
    settings = resolved(localizer="ornet", **given, epochs=4)
    assert (settings.restart, settings.restart_rate) == (0.5, rate)
    by_step = [rate_share(settings, step, EPOCH_STEPS) for step in range(4 * EPOCH_STEPS)]
    assert (by_step[0], by_step[2 * EPOCH_STEPS]) == (1, pytest.approx(rate))
    assert by_step[2 * EPOCH_STEPS - 1] < 0.03
    alone = resolved(localizer="ornet", options={"stage_one": 1}, epochs=2)
    assert alone.restart is None
    assert [rate_share(alone, step, EPOCH_STEPS) for step in range(2 * EPOCH_STEPS)] == by_step[: 2 * EPOCH_STEPS]


@pytest.mark.parametrize(
    ("options", "restart"),
    [
        ({"localizer": "cam"}, None),
        ({"localizer": "ornet"}, 0.4),
        ({"localizer": "ornet", "options": {"preset": "paper"}}, 0.7),
        ({"localizer": "ornet", "restart": 0}, None),
        ({"localizer": "ornet", "restart": 0.4}, 0.4),
        ({"localizer": "ornet", "schedule": "plateau"}, None),
    ],
)
def test_a_restart_is_the_localizers_unless_it_is_given(options: dict[str, Any], restart: float | None) -> None:
    assert resolved(**options).restart == restart


def test_a_training_of_an_earlier_version_is_another_one_unless_it_is_asked_for(tmp_path: Path) -> None:
    """It recorded no restart, no preset, which was the paper's, nor the convolutions of SPG's C, which were two."""
    recorded = {"learning_rate": 0.1, "views": 0, "restart_rate": 0.1}
    training = {**settings_of(localizer="spg", out=tmp_path).identity(), **recorded}
    assert training["options"] == {}
    (tmp_path / "training.json").write_text(json.dumps(training))
    earlier = settings_of(
        localizer="spg", out=tmp_path, options={"preset": "paper", "c_layers": 2}, learning_rate=0.1, views=0
    )
    training_job.refuse_other_training(earlier)
    with pytest.raises(ModelError, match=r"its options is {'preset': 'paper', 'c_layers': 2}, this command's is {"):
        training_job.refuse_other_training(earlier.model_copy(update={"options": {}}))


# --- the input -------------------------------------------------------------------------------------------------------


def coloured(side: int) -> np.ndarray:
    """(side, side, 3) uint8: red grows to the right, green downwards, so that each place has a colour of its own."""
    steps = np.linspace(0, 255, side).astype(np.uint8)
    return np.stack([np.tile(steps, (side, 1)), np.tile(steps[:, None], (1, side)), np.full((side, side), 9)], axis=2)


def crops(folder: Path, pixels: np.ndarray, size: int, config: AugmentationConfig, count: int = 12) -> list[Tensor]:
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "one.png")
    images = LabelledImages(folder, ["one.png"], np.ones((1, 1), np.float32), ["a"])
    dataset = ImageDataset(images, size, augment=True, config=config)
    return [dataset[0, seed]["pixels"] for seed in range(count)]


def test_crops_are_windows_of_the_squeezed_image(tmp_path: Path) -> None:
    """Windows of 32 px from 40: the position is read from the corner, the other pixels must match."""
    whole = torch.from_numpy(coloured(40).astype(np.uint8)).permute(2, 0, 1)
    found = set()
    for crop in crops(tmp_path, coloured(40), 32, AugmentationConfig(crop_from=40, flip=False, colour=False)):
        x = int((whole[0, 0] == crop[0, 0, 0]).nonzero()[0])
        y = int((whole[1, :, 0] == crop[1, 0, 0]).nonzero()[0])
        assert torch.equal(crop, whole[:, y : y + 32, x : x + 32])
        found.add((x, y))
    assert len(found) > 5


def test_an_oblong_image_is_squeezed_before_it_is_cropped(tmp_path: Path) -> None:
    """Of a wide image 32 of 40 columns show four fifths of its width."""
    wide = np.asarray(Image.fromarray(coloured(100).astype(np.uint8)).resize((300, 50)))
    for crop in crops(tmp_path, wide, 32, AugmentationConfig(crop_from=40, flip=False, colour=False)):
        red, green = (int(crop[channel].max()) - int(crop[channel].min()) for channel in (0, 1))
        assert (red, green) == (pytest.approx(0.8 * 255, abs=8), pytest.approx(0.8 * 255, abs=8))


@pytest.mark.parametrize("crop_from", [None, 40])
def test_images_are_flipped_by_default(tmp_path: Path, crop_from: int | None) -> None:
    def rises(crop: Tensor) -> bool:
        return bool(crop[0, :, -1].float().mean() > crop[0, :, 0].float().mean())

    told = {
        flip: {
            rises(crop) for crop in crops(tmp_path, coloured(40), 32, AugmentationConfig(crop_from, flip, colour=False))
        }
        for flip in (True, False)
    }
    assert told == {True: {True, False}, False: {True}}


@pytest.mark.parametrize("crop_from", [None, 40])
def test_colours_are_varied_by_default(tmp_path: Path, crop_from: int | None) -> None:
    grey = np.full((40, 40, 3), 120)
    shown = {
        colour: {
            crop.float().mean().item()
            for crop in crops(tmp_path, grey, 32, AugmentationConfig(crop_from, colour=colour))
        }
        for colour in (True, False)
    }
    assert len(shown[True]) > 3
    assert shown[False] == {120.0}


# --- real trainings --------------------------------------------------------------------------------------------------


def write_photos(folder: Path, *, telling: bool = True) -> Path:
    """One folder per class with six images of 60 x 48 px: red and blue, or all red where they must not be separable."""
    random = np.random.default_rng(0)
    for number, name in enumerate(["red"] * 6 + ["blue"] * 6):
        pixels = random.integers(0, 70, (48, 60, 3), np.uint8)
        pixels[..., 2 if telling and name == "blue" else 0] += 180
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def trained(
    folder: Path, progress: Any = lambda done, total, text: None, *, telling: bool = True, **options: Any
) -> dict[str, Tensor]:
    images = write_photos(folder / "photos", telling=telling)
    settings = settings_of(images=images, out=folder / "model", **options)
    return load_file(training_job.train(settings, progress).folder / "weights.safetensors")


PAPERS = {
    "SGD and a plateau": {"optimizer": "sgd", "schedule": "plateau", "schedule_epochs": 1, "learning_rate": 1.0},
    "a restart": {"restart": 0.5, "learning_rate": 0.01, "crop_from": 40},
}


@pytest.mark.parametrize("options", PAPERS.values(), ids=PAPERS)
def test_an_interrupted_training_resumes_with_its_rate_and_momentum(tmp_path: Path, options: dict[str, Any]) -> None:
    def stop_at_8(done: int, *_: object) -> None:
        if done == 8:
            raise OSError("the lights went out")

    undisturbed = trained(tmp_path / "undisturbed", telling=False, **options)
    with pytest.raises(OSError, match="the lights went out"):
        trained(tmp_path / "stopped", stop_at_8, telling=False, **options)
    resumed = trained(tmp_path / "stopped", telling=False, **options)
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())


def test_sgd_learns_two_classes(tmp_path: Path) -> None:
    trained(tmp_path, optimizer="sgd", learning_rate=0.1, schedule="step", schedule_epochs=8, epochs=12)
    localizer, card = load_model(tmp_path / "model")
    red = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    red[:, 0] = 200
    with torch.inference_mode():
        assert card.class_names[int(localizer(red).argmax())] == "red"


def test_the_input_size_is_part_of_the_model(tmp_path: Path) -> None:
    shown: set[tuple[int, ...]] = set()
    kind, original = localizer_named("cam"), localizer_named("cam").training_step

    def noted(self: Any, images: Tensor, *rest: Any) -> Any:
        shown.add(tuple(images.shape[2:]))
        return original(self, images, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "training_step", noted, raising=False)
        trained(tmp_path, input_size=48, epochs=1)
    assert shown == {(48, 48)}
    assert read_card(tmp_path / "model").input_size == 48


def test_crops_larger_than_what_they_are_cut_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--crop-from 40 is less than the 48 px .* give 48 or more"):
        trained(tmp_path, input_size=48, crop_from=40)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param(
            {"accelerator": "gpu"},
            "Lightning refuses these settings: ",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ({"precision": "8"}, "Lightning refuses these settings: Precision '8' is invalid"),
        ({"strategy": "dpp"}, "Lightning refuses these settings: You selected an invalid strategy"),
        ({"devices": "3,"}, "Lightning refuses these settings: .*should be an int"),
    ],
)
def test_settings_that_lightning_refuses_raise_one_sentence(tmp_path: Path, wrong: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        trained(tmp_path, **wrong)
    assert not (tmp_path / "model" / "training.json").exists()


@pytest.mark.parametrize("devices", ["two", "0", "", "1,2,", "-2"])
def test_devices_are_a_number_or_names(devices: str) -> None:
    with pytest.raises(ValidationError, match="give auto, a number"):
        settings_of(devices=devices)
    assert settings_of(devices=2).devices == "2"
