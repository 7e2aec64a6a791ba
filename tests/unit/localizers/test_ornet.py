"""ORNet's network, its maps and their cost, resumption in both stages, and its options."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mining.backbones.base import BackboneSpec
from mining.backbones.build import build
from mining.config import TrainSettings
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS
from mining.localizers.ornet import (
    ORNet,
    ORNetConfig,
)
from mining.localizers.pyramid import localize_pyramid
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.training import job as training_job
from mining.training.history import read_history
from tests.factories import image_with_rectangle, register_backbone
from tests.unit.localizers.ornet_making import (
    CLASSES,
    STAGE_ONE,
    STAGE_TWO,
    convolved,
    losses_of,
    on,
    pictures,
    sigmoid,
    small,
    small_network,
    taken_apart,
    targets,
)

# --- the network -----------------------------------------------------------------------------------------------------


def test_the_map_is_batch_norm_of_a_convolution_of_the_decoded_features() -> None:
    """Eq. 2, and the sigmoid that makes it a probability."""
    localizer = small()
    with torch.no_grad():
        low = localizer.backbone(pictures())[0]
        activation, features = localizer.generator(low)
    convolution, norm = localizer.generator.activation
    values = convolved(features.double().numpy(), convolution.weight[0].detach().double().numpy())
    mean, variance, scale, shift = (
        value.item() for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    by_hand = sigmoid((values - mean) / np.sqrt(variance + norm.eps) * scale + shift)
    assert features.shape[1] == CLASSES, "k channels, k the number of classes"
    assert by_hand.std() > 0.05
    np.testing.assert_allclose(activation[:, 0].numpy(), by_hand, atol=1e-6)


@pytest.mark.parametrize(("contrast", "decided"), [(1.0, 0.0), (3.0, 0.4)])
def test_maps_of_a_new_generator_are_as_decided_as_their_contrast(contrast: float, decided: float) -> None:
    """A batch norm's values have a deviation of 1, so that few of their sigmoids are near 0 or 1."""
    torch.manual_seed(0)
    localizer = ORNet(build("mobilenet_v2")[0], CLASSES, preset="paper", contrast=contrast).train()
    with torch.no_grad():
        activation = localizer.activation(pictures(4))
    share = float(((activation < 0.1) | (activation > 0.9)).float().mean())
    assert share == pytest.approx(decided, abs=0.15)


def test_the_map_of_the_localizer_is_that_of_the_shallow_features() -> None:
    localizer = small()
    with torch.no_grad():
        expected = localizer.generator(localizer.backbone(pictures())[0])[0]
        seen = localizer.localize(pictures(), torch.tensor([[0, 1], [2, NO_CLASS]]))
    assert torch.equal(seen.maps, expected)
    assert (seen.maps.dtype, tuple(seen.maps.shape)) == (torch.float32, (2, 1, 16, 24))
    assert 0 < float(seen.maps.min()) < float(seen.maps.max()) < 1


def test_the_map_is_the_same_for_all_classes() -> None:
    localizer = small()
    with torch.no_grad():
        first, second = (
            localizer.localize(pictures(), torch.tensor(asked)) for asked in ([[0], [1]], [[3, 2], [NO_CLASS] * 2])
        )
        chosen = localizer.localize(pictures(), lambda logits: logits.topk(2).indices)
    assert torch.equal(first.maps, second.maps)
    assert torch.equal(first.maps, chosen.maps)
    assert torch.equal(chosen.classes, first.logits.topk(2).indices)


def test_the_evaluator_classifies_the_whole_image() -> None:
    localizer = small()
    nn.init.normal_(localizer.evaluator.classifier.weight)
    with torch.no_grad():
        seen = localizer.localize(pictures(), torch.tensor([[0], [1]]))
        features = localizer.evaluator.backbone(pictures())[-1].mean(dim=(2, 3))
        expected = features @ localizer.evaluator.classifier.weight.flatten(1).T + localizer.evaluator.classifier.bias
        for part in (localizer.generator, localizer.classifier, localizer.backbone):
            for value in part.parameters():
                value.zero_()
        emptied = localizer(pictures())
    assert torch.allclose(seen.logits, expected, atol=1e-5)
    assert torch.equal(seen.logits, emptied), "nothing but the evaluator has a say"


@pytest.mark.parametrize(
    ("backbone", "published", "by_default"),
    [  # number of stages, and cells of an image of 64 x 96 px
        ("efficientnet_lite0", (2, (16, 24)), (4, (4, 6))),
        ("mobilenet_v2", (2, (16, 24)), (4, (4, 6))),
        ("resnet50", (1, (16, 24)), (4, (4, 6))),
        ("vgg16", (3, (16, 24)), (4, (8, 12))),
        ("vit_small_patch14_reg4_dinov2", (1, (5, 7)), (3, (5, 7))),
    ],
)
def test_the_shallow_layers_end_before_the_last_stage_at_stride_sixteen_or_as_published_at_four(
    backbone: str, published: tuple[int, tuple[int, int]], by_default: tuple[int, tuple[int, int]]
) -> None:
    for options, (shallow, size) in (({"preset": "paper"}, published), ({}, by_default)):
        with torch.device("meta"):
            localizer = ORNet(build(backbone)[0], CLASSES, **options)
            maps = localizer.eval().maps(torch.zeros(1, 3, 64, 96), torch.zeros(1, 1))
        assert localizer.shallow == shallow
        assert tuple(maps.shape) == (1, 1, *size)


@pytest.mark.parametrize(("shallow", "side"), [(1, 32), (3, 8), (5, 4)])
def test_the_shallow_layers_may_end_elsewhere(shallow: int, side: int) -> None:
    localizer = on("mobilenet_v2", shallow=shallow).train()
    assert tuple(localizer.maps(pictures(2, 64, 64), torch.zeros(2, 1)).shape) == (2, 1, side, side)
    losses = losses_of(localizer, STAGE_ONE, pictures(2, 64, 64), targets())
    assert all(loss.isfinite() for loss in losses.values())


def test_the_generator_is_as_wide_and_deep_as_asked_for() -> None:
    plain, wide = small(), small(width=5, depth=2, features=7)
    outputs = [block[0].out_channels for block in (*wide.generator.decoded.encoder, *wide.generator.decoded.decoder)]
    assert outputs == [10, 20, 10, 7]
    assert wide.auxiliary.in_channels == 7
    assert [block[0].out_channels for block in plain.generator.decoded.encoder] == [16, 32, 64]
    with torch.no_grad():
        assert wide.maps(pictures(), torch.zeros(2, 1)).shape == plain.maps(pictures(), torch.zeros(2, 1)).shape


@pytest.mark.parametrize(("height", "width"), [(225, 371), (64, 64), (33, 47)])
def test_odd_sizes_and_a_batch_of_one_are_localized(height: int, width: int) -> None:
    localizer = on("mobilenet_v2")
    with torch.no_grad():
        seen = localizer.localize(pictures(1, height, width), torch.tensor([[2]]))
    assert tuple(seen.maps.shape) == (1, 1, -(-height // 4), -(-width // 4))
    assert seen.maps.isfinite().all()
    for stage in (STAGE_ONE, STAGE_TWO):
        losses = losses_of(localizer.train(), stage, pictures(1, max(height, 64), max(width, 64)), targets(1))
        assert all(loss.isfinite() for loss in losses.values())


def test_an_image_of_one_colour_has_finite_maps() -> None:
    localizer = small()
    with torch.no_grad():
        seen = localizer.localize(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8), torch.tensor([[0]]))
    inner = seen.maps[..., 7:9, 7:9]  # the borders see the padding
    assert seen.maps.isfinite().all()
    assert float(inner.max() - inner.min()) < 0.05


def test_the_memory_format_changes_nothing() -> None:
    localizer = on("mobilenet_v2")
    with torch.no_grad():
        plain = localizer.localize(pictures(), torch.tensor([[0], [1]]))
        last = localizer.to(memory_format=torch.channels_last).localize(
            pictures().to(memory_format=torch.channels_last), torch.tensor([[0], [1]])
        )
    assert torch.allclose(plain.maps, last.maps, atol=1e-4)


def test_results_are_float32_under_autocast() -> None:
    localizer = small()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        seen = localizer.localize(pictures(), torch.tensor([[0], [1]]))
        losses = losses_of(localizer, STAGE_ONE, pictures(), targets())
        losses |= losses_of(localizer, STAGE_TWO, pictures(), targets())
    with torch.no_grad():
        full = localizer.maps(pictures(), torch.zeros(2, 1))
    assert {value.dtype for value in (seen.logits, seen.maps, *losses.values())} == {torch.float32}
    assert 0 < float((seen.maps - full).abs().max()) < 0.05


# --- the margin ------------------------------------------------------------------------------------------------------


def test_maps_are_made_from_the_image_continued_at_its_borders() -> None:
    published, ours = small(), small(margin=3)
    around = 3 * 4
    continued = np.pad(pictures().numpy(), ((0, 0), (0, 0), (around, around), (around, around)), mode="edge")
    with torch.no_grad():
        wide = published.maps(torch.from_numpy(continued), torch.zeros(2, 1))
        drawn = ours.maps(pictures(), torch.zeros(2, 1))
    assert torch.equal(drawn, wide[..., 3:-3, 3:-3])
    assert not torch.allclose(drawn, published.maps(pictures(), torch.zeros(2, 1)), atol=0.01)


def test_the_border_of_a_uniform_image_is_not_an_object() -> None:
    even = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    with torch.no_grad():
        published, ours = (one.maps(even, torch.zeros(1, 1)) for one in (small(), small(margin=16)))
    assert float(published.max() - published.min()) > 0.1
    assert float(ours.max() - ours.min()) < 0.01


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "googlenet", "vgg16"])
@pytest.mark.parametrize(("height", "width"), [(225, 371), (64, 96)])
def test_a_margin_does_not_change_the_maps_size(backbone: str, height: int, width: int) -> None:
    with torch.device("meta"):
        sizes = {
            tuple(
                ORNet(build(backbone)[0], CLASSES, margin=margin)
                .eval()
                .maps(torch.zeros(1, 3, height, width), torch.zeros(1, 1))
                .shape
            )
            for margin in (0, 4)
        }
    assert len(sizes) == 1


@pytest.mark.parametrize("stage", [STAGE_ONE, STAGE_TWO])
def test_training_uses_no_margin(stage: int) -> None:
    def losses(margin: int) -> dict[str, float]:
        torch.manual_seed(4)
        return {
            name: loss.item() for name, loss in losses_of(small(margin=margin), stage, pictures(), targets()).items()
        }

    assert losses(0) == losses(4)


# --- what looking costs ----------------------------------------------------------------------------------------------


def test_maps_alone_run_neither_the_deep_layers_nor_the_evaluator() -> None:
    localizer = on("mobilenet_v2")
    ran: list[str] = []
    for name, part in localizer.named_modules():
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        localizer.maps(pictures(), torch.zeros(2, 1))
    tops = {name.split(".")[0] for name in ran}
    stages = {name.split(".")[2] for name in ran if name.startswith("backbone.stages.")}
    assert (tops, stages) == ({"backbone", "generator"}, {"0", "1"})


def test_the_evaluator_runs_at_one_scale_of_a_pyramid() -> None:
    localizer = small()
    sizes: list[tuple[int, ...]] = []
    localizer.evaluator.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    with torch.no_grad():
        images = {scale: pictures(2, round(64 * scale), round(96 * scale)) for scale in (1.0, 1.5, 2.0)}
        seen = localize_pyramid(localizer, images, classes=torch.tensor([[0, 1]] * 2))
    assert sizes == [(64, 96)]
    assert [tuple(level.shape) for level in seen.levels.values()] == [(2, 2, 16, 24), (2, 2, 24, 36), (2, 2, 32, 48)]


@pytest.mark.parametrize(("options", "share"), [({}, 0.75), ({"margin": 2}, 0.9)])
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "mobilenet_v2", "resnet50", "vgg16"])
def test_maps_cost_less_than_the_whole_network(backbone: str, options: dict[str, Any], share: float) -> None:
    with torch.device("meta"):
        localizer = ORNet(build(backbone)[0], 20, preset="paper", **options).eval()
        images = torch.zeros(1, 3, 224, 224)

    def operations(function: Any, *inputs: Any) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            function(*inputs)
        return counter.get_total_flops()

    assert operations(localizer.maps, images, torch.zeros(1, 1)) < share * operations(localizer, images)
    used = [*localizer.backbone.stages[: localizer.shallow].parameters(), *localizer.generator.parameters()]
    whole = sum(value.numel() for value in localizer.evaluator.parameters())
    assert sum(value.numel() for value in used) < 0.7 * whole


# --- on disk ---------------------------------------------------------------------------------------------------------


def test_a_loaded_model_is_bitwise_equal(tmp_path: Path) -> None:
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    options = {"width": 8, "shallow": 1, "features": 6, "erase_probability": "adaptive"}
    card = ModelCard("ornet", "mobilenet_v2", "single", listed, 64, {}, options=options)
    torch.manual_seed(5)
    localizer = build_localizer(card)[0].eval()
    save_model(tmp_path, localizer, card)
    again = load_model(tmp_path)[0]
    with torch.no_grad():
        first, second = (one.localize(pictures(), torch.tensor([[0], [1]])) for one in (localizer, again))
    assert torch.equal(first.maps, second.maps)
    assert torch.equal(first.logits, second.logits)
    assert again.config == ORNetConfig(**options)


def test_preparing_for_inference_does_not_change_the_maps() -> None:
    localizer = small()
    quick = prepare_for_inference(copy.deepcopy(localizer), torch.device("cpu"))
    for network in (quick.backbone, quick.evaluator.backbone):
        assert not any(isinstance(part, nn.BatchNorm2d) for part in network.modules()), "folded"
    with torch.inference_mode():
        before, after = (one.localize(pictures(), torch.tensor([[0], [1]])) for one in (localizer, quick))
    assert torch.allclose(before.maps, after.maps, atol=1e-4)
    assert torch.allclose(before.logits, after.logits, atol=1e-4)


def trained(folder: Path, *, stop_at: int | None = None) -> Path:
    """Train four epochs, two per stage and two steps per epoch, on images under `folder`."""
    for number in range(4):
        for kind, scale in (("bright", 1), ("dark", 2)):
            path = folder / "images" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image_with_rectangle(number, height=40, width=40) // scale).save(path)

    def progress(done: int, *_: object) -> None:
        if done == stop_at:
            raise OSError("the lights went out")

    settings = TrainSettings(
        images=folder / "images", localizer="ornet", backbone="small", weights="none", freeze=False, epochs=4,
        options={"preset": "paper", "stage_one": 0.5, "width": 4}, batch_size=4, workers=0, accelerator="cpu",
        validation_share=0, out=folder / "model",
    )  # fmt: skip
    return training_job.train(settings, progress).folder


@pytest.mark.parametrize("stop_at", [4, 6, 7])
def test_a_training_interrupted_in_either_stage_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Stopped at the end of stage one, at the end of the first epoch of stage two, and in its second."""
    register_backbone(monkeypatch, BackboneSpec("small", 32, taken_apart, small_network, dict))
    with pytest.raises(OSError, match="the lights went out"):
        trained(tmp_path / "stopped", stop_at=stop_at)
    resumed = load_file(trained(tmp_path / "stopped") / "weights.safetensors")
    undisturbed = load_file(trained(tmp_path / "undisturbed") / "weights.safetensors")
    assert all(torch.equal(value, undisturbed[name]) for name, value in resumed.items())
    written = [
        {name for name in row if row[name]} for row in read_history(tmp_path / "stopped" / "model" / "history.csv")
    ]
    one = {"epoch", "train_loss", "train_classification", "train_auxiliary", "train_evaluator"}
    two = {"epoch", "train_loss", "train_evaluation", "train_entropy", "train_area"}
    assert written == [one, one, two, two]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shallow": 3}, "small has 2 stages"),
        ({"erase_depth_least": 0.6}, "must not exceed 'erase_depth'"),
        ({"alpha": 0, "beta": 0, "evaluation": 0}, "has no loss"),
        ({"stage_one": 0}, "stage_one"),
        ({"sigma": 0}, "sigma"),
        ({"contrast": 0}, "contrast"),
        ({"alfa": 1}, "did you mean 'alpha'"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small(**options)


def test_stage_two_needs_no_loss_where_there_is_no_stage_two() -> None:
    localizer = small(stage_one=1.0, evaluation=0, alpha=0, beta=0)
    localizer.start_epoch(9, 10)
    assert not localizer.refining
