"""mLDFR's presets: the defaults suit pretrained backbones of every kind, `preset: paper` is the paper's, and models of
earlier versions, whose defaults were the paper's, stay what they were."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mining.backbones.build import build
from mining.backbones.registry import BACKBONES
from mining.config import MineOptions, TrainSettings
from mining.errors import ModelError
from mining.localizers.base import ClassificationLoss
from mining.localizers.mldfr import MLDFR, ChannelAttention, SpatialAttention
from mining.localizers.option_values import (
    build_config,
    options_for_objective,
    options_of,
    recorded_options,
    with_changed_defaults,
)
from mining.localizers.options import MLDFRConfig
from mining.models.card import CARD_FILE, ModelCard, read_card
from mining.models.checkpoint import load_model, save_model
from mining.models.overrides import extraction_params
from mining.training.folder import TRAINING_FILE, mark_folder
from mining.training.job import refuse_other_training
from tests.factories import slow_except, write_photos

CLASSES = 4
PAPER = {
    "attention_start": "random", "attention_rate": 1.0, "attention_batch_norm": False, "last": "transition",
    "bias": False, "background": "none", "dropout": 0.0, "batch_norm": True, "after": (2, 3, 4), "kernels": (7, 5, 3),
}  # fmt: skip


def mldfr(backbone: str, **options: object) -> MLDFR:
    torch.manual_seed(3)
    return MLDFR(build(backbone)[0], CLASSES, **options).eval()


def pictures(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def gate_values(model: MLDFR, images: Tensor) -> Tensor:
    """All values of all attentions, in 0-1."""
    seen: list[Tensor] = []
    gates = [part for part in model.modules() if isinstance(part, ChannelAttention | SpatialAttention)]
    hooks = [gate.register_forward_hook(lambda _, __, output: seen.append(output.flatten())) for gate in gates]
    with torch.no_grad():
        model.features(images)
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(gates) == 6
    return torch.cat(seen)


# --- the defaults on every backbone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", slow_except(("efficientnet_lite0", "vgg16"), [*BACKBONES, "regnetx_002"]))
def test_attention_starts_open_and_leaves_the_features_as_they_are(name: str) -> None:
    images = pictures(1, 96)
    model = mldfr(name)
    values = gate_values(model, images)
    assert ((values > 0.05) & (values < 0.95)).all()
    with torch.no_grad():
        features = model.features(images)[-1]
        without = mldfr(name, attention=False).features(images)[-1]
    assert torch.allclose(features, without, rtol=1e-4, atol=1e-6)


def test_gates_learn_alike_whatever_the_scale_of_the_features() -> None:
    """Linear bottlenecks have outputs of any size; a large one must not saturate the gates."""
    changes = []
    for scale in (1.0, 30.0):
        torch.manual_seed(0)
        attention = MLDFR(build("mobilenet_v2")[0], CLASSES).attention[0].train()
        generator = torch.Generator().manual_seed(1)
        optimizer = torch.optim.SGD(attention.parameters(), lr=0.03, momentum=0.9)
        for _ in range(30):
            features = scale * torch.randn(8, 24, 12, 12, generator=generator)
            loss = (attention(features)[:, :12] - 1.5 * features[:, :12]).square().mean() / scale**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            features = scale * torch.randn(8, 24, 12, 12, generator=generator)
            values = torch.cat([attention.channel(features).flatten(), attention.spatial(features).flatten()])
        assert ((values > 0.02) & (values < 0.98)).all()
        changes.append(float((values - 0.5).abs().mean()))
    assert changes[0] > 0.02
    assert changes[1] == pytest.approx(changes[0], rel=0.2)


# --- one name for the paper's settings ---------------------------------------------------------------------------------


def test_the_paper_preset_has_the_papers_settings() -> None:
    config = dataclasses.asdict(build_config(MLDFRConfig, {"preset": "paper"}))
    assert {name: config[name] for name in PAPER} == PAPER


def test_options_given_beside_a_preset_count() -> None:
    config = build_config(MLDFRConfig, {"preset": "paper", "attention_start": "neutral"})
    assert (config.attention_start, config.last, config.bias) == ("neutral", "transition", False)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Option 'preset' of the localizer: .*'pretrained' or 'paper'.*'papers'"):
        build_config(MLDFRConfig, {"preset": "papers"})
    with pytest.raises(ModelError, match="Option 'preset'"):
        build_config(MLDFRConfig, {"preset": ["paper"]})


@pytest.mark.parametrize(("preset", "cut"), [("paper", (0.2, "minmax")), ("pretrained", (0.25, "max"))])
def test_mining_cuts_maps_as_the_preset_says(preset: str, cut: tuple[float, str]) -> None:
    card = ModelCard("mldfr", "mobilenet_v2", "single", [{"id": 1, "name": "a"}], 64, {}, {"preset": preset})
    params = extraction_params(card, MineOptions(refine="none"))
    assert (params.threshold, params.normalise) == cut


# --- records of earlier versions ---------------------------------------------------------------------------------------


def test_new_records_name_the_preset_and_old_ones_mean_the_papers() -> None:
    assert options_of("mldfr", {"kernels": "7,5,3"}) == {
        "preset": "pretrained", "attention_rate": 0.1, "kernels": (7, 5, 3),
    }  # fmt: skip
    assert recorded_options("mldfr", {}) == {"preset": "paper", "attention_rate": 0.1}
    assert recorded_options("mldfr", {"preset": "pretrained"})["preset"] == "pretrained"
    assert options_of("cam", {}) == recorded_options("cam", {}) == recorded_options("unknown", {}) == {}
    assert with_changed_defaults("mldfr", {"preset": "paper"}) == {"preset": "paper", "attention_rate": 1.0}


def test_a_model_of_an_earlier_version_loads_with_the_settings_it_was_trained_with(tmp_path: Path) -> None:
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    model = mldfr("mobilenet_v2", preset="paper")
    save_model(tmp_path, model, ModelCard("mldfr", "mobilenet_v2", "single", listed, 64, {}))
    record = json.loads((tmp_path / CARD_FILE).read_text())
    (tmp_path / CARD_FILE).write_text(json.dumps({**record, "options": {}}))
    again, card = load_model(tmp_path)
    assert (card.options["preset"], again.threshold, again.normalise) == ("paper", 0.2, "minmax")
    every = torch.arange(CLASSES)[None]
    with torch.no_grad():
        assert torch.equal(again.localize(pictures(1, 64), every).maps, model.localize(pictures(1, 64), every).maps)


def test_an_unfinished_training_of_an_earlier_version_is_not_resumed_with_other_defaults(tmp_path: Path) -> None:
    images = write_photos(tmp_path / "photos", ["a.jpg"])
    settings = TrainSettings(images=images, localizer="mldfr", out=tmp_path / "model")
    (tmp_path / "model").mkdir()
    mark_folder(tmp_path / "model", "model")
    recorded = {**settings.identity(), "learning_rate": 0.003, "views": 0, "epochs": 12, "restart_rate": 0.1}
    (tmp_path / "model" / TRAINING_FILE).write_text(json.dumps(recorded))
    with pytest.raises(ModelError, match=r"unfinished training of other settings: its options is .*paper"):
        refuse_other_training(settings)
    earlier = {"preset": "paper", "attention_rate": 0.1}
    refuse_other_training(settings.model_copy(update={"options": earlier}))


# --- several labels per image ------------------------------------------------------------------------------------------


def test_images_with_several_labels_have_a_bias_in_either_preset_unless_it_is_refused() -> None:
    assert options_for_objective("mldfr", {"preset": "paper"}, "multi") == {"preset": "paper", "bias": True}
    assert options_for_objective("mldfr", {"bias": False}, "multi") == {"bias": False}
    assert options_for_objective("mldfr", {}, "single") == options_for_objective("cam", {}, "multi") == {}


@pytest.mark.parametrize("weights", [None, torch.tensor([3.0, 1.0, 2.0, 1.0])])
def test_the_bias_starts_where_the_loss_is_lowest_without_features(weights: Tensor | None) -> None:
    model = mldfr("mobilenet_v2")
    targets = (torch.rand(400, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.2).float()
    model.start_from_class_shares(targets.mean(dim=0), "multi", weights)
    bias = nn.Parameter(model.classifier.bias.detach().clone())
    ClassificationLoss("multi", weights)(bias.expand(400, -1), targets).backward()
    assert bias.grad.abs().max() < 1e-6
    assert bias.max() < -0.1


def test_the_bias_is_not_part_of_the_map() -> None:
    model, every = mldfr("mobilenet_v2", background="none"), torch.arange(CLASSES)[None]
    with torch.no_grad():
        before = model.localize(pictures(1, 64), every)
        model.start_from_class_shares(torch.tensor([0.1, 0.2, 0.5, 1.0]), "multi", None)
        after = model.localize(pictures(1, 64), every)
    assert torch.equal(before.maps, after.maps)
    shift = after.logits - before.logits
    np.testing.assert_allclose(shift[0], np.log([1 / 9, 1 / 4, 1, 1e4]), rtol=1e-3, atol=1e-3)


def test_one_label_per_image_and_a_layer_without_bias_need_no_such_start() -> None:
    model = mldfr("mobilenet_v2")
    model.start_from_class_shares(torch.full((CLASSES,), 0.1), "single", None)
    assert not model.classifier.bias.any()
    mldfr("mobilenet_v2", preset="paper").start_from_class_shares(torch.full((CLASSES,), 0.1), "multi", None)


def test_a_card_names_its_options(tmp_path: Path) -> None:
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    options = options_of("mldfr", {})
    save_model(tmp_path, mldfr("mobilenet_v2"), ModelCard("mldfr", "mobilenet_v2", "multi", listed, 64, {}, options))
    assert read_card(tmp_path).options == options
