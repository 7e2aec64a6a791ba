"""SPG against the equations and the implementation details of its paper."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, ClassificationLoss
from mining.localizers.option_values import build_config
from mining.localizers.spg import (
    BACKGROUND,
    IGNORED,
    OBJECT,
    SPG,
    SPGConfig,
    attention_of_labels,
    guidance_loss,
    guidance_mask,
    guided_stages,
    min_max,
)
from mining.models.card import CARD_FILE, ModelCard
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.models.fuse_batchnorm import prepare_for_inference

CLASSES = 5
SMALL = {"preset": "paper", "width": 24, "guidance_width": 16}
LITE0_CHANNELS = (40, 112)  # of A1 and A2


def pictures(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def spg(classes: int = CLASSES, **options: object) -> SPG:
    """SPG on EfficientNet-Lite0 of random weights, in evaluation mode, with few filters by default."""
    torch.manual_seed(3)
    localizer = SPG(build("efficientnet_lite0")[0], classes, **{**SMALL, **options})
    nn.init.normal_(localizer.a4.bias)
    return localizer.eval()


def on_pixels(classes: int = 2, **options: object) -> SPG:
    """SPG whose backbone averages blocks of 4 px, in two stages: A1 sees 8 times its input, A2 half of that."""
    torch.manual_seed(4)
    stages = [nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 3, 1)), nn.AvgPool2d(2)]
    anatomy = StageSpec(stages, (3, 3), (2, 4), None)
    return SPG(Backbone("pixels", anatomy), classes, **{"preset": "paper", "width": 6, "guidance_width": 5, **options})


def on_small_network(**options: object) -> SPG:
    """SPG on two convolutions of random weights, which a test can train."""
    torch.manual_seed(5)
    stages = [
        nn.Sequential(nn.Conv2d(ins, outs, 3, stride=stride, padding=1), nn.BatchNorm2d(outs), nn.ReLU())
        for ins, outs, stride in ((3, 16, 4), (16, 32, 2))
    ]
    anatomy = StageSpec(stages, (16, 32), (4, 8), None)
    return SPG(Backbone("small", anatomy), 2, **{**SMALL, **options})


def one_of_each(count: int, classes: int = CLASSES) -> Tensor:
    return torch.eye(classes)[torch.arange(count) % classes]


def filters_of(module: nn.Module) -> list[tuple[int, int, int, int, int]]:
    """(taken, given, kernel, stride, pad) of each convolution."""
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    return [
        (one.in_channels, one.out_channels, one.kernel_size[0], one.stride[0], one.padding[0]) for one in convolutions
    ]


def gradients_of(localizer: SPG, loss: Tensor) -> set[str]:
    """Top-level names of the parameters that have a gradient of the loss."""
    names, values = zip(*localizer.named_parameters(), strict=True)
    given = torch.autograd.grad(loss, values, allow_unused=True, retain_graph=True)
    moved = [name for name, value in zip(names, given, strict=True) if value is not None and value.abs().sum() > 0]
    return {".".join(name.split(".")[: 2 if name.startswith("b_") else 1]) for name in moved}


# --- blocks and layers (sections 3.1 and 3.3) ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "channels", "strides"),
    [
        ("inception_v3", (288, 768), (8, 16)),
        ("vgg16", (512, 512), (8, 16)),
        ("resnet50", (512, 1024), (8, 16)),
        ("efficientnet_lite0", (40, 112), (8, 16)),
        ("mobilenet_v2", (32, 96), (8, 16)),
        ("googlenet", (480, 832), (8, 16)),
        ("densenet161", (768, 2112), (8, 16)),
    ],
)
def test_the_two_blocks_surround_the_last_down_sampling_and_later_stages_are_removed(
    backbone: str, channels: tuple[int, int], strides: tuple[int, int]
) -> None:
    with torch.device("meta"):
        localizer = SPG(build(backbone)[0], 200, preset="paper")
    assert localizer.backbone.channels[-2:] == channels
    assert localizer.backbone.strides[-2:] == strides
    assert len(localizer.backbone.stages) == len(localizer.backbone.channels) == localizer.places[1] + 1
    assert [one[:2] for one in filters_of(localizer.b_first)] == [(channels[0], 512), (channels[1], 512)]


def test_a_single_stage_network_uses_its_stage_for_both_blocks() -> None:
    assert guided_stages((16,)) == (0, 0)
    torch.manual_seed(5)
    localizer = SPG(build("convnext_atto")[0], CLASSES, **SMALL)
    losses = localizer.training_step(pictures(), one_of_each(2), ClassificationLoss("single"))
    assert all(loss.isfinite() for loss in losses.values())


def test_the_layers_are_those_of_the_implementation_details() -> None:
    with torch.device("meta"):
        localizer = SPG(build("inception_v3")[0], 200, preset="paper")
    assert filters_of(localizer.a3) == [(768, 1024, 3, 1, 1), (1024, 1024, 3, 1, 1)]
    assert filters_of(localizer.a4) == [(1024, 200, 1, 1, 0)]
    assert filters_of(localizer.b_first) == [(288, 512, 3, 1, 1), (768, 512, 3, 1, 1)]
    assert filters_of(localizer.b_rest) == [(512, 512, 3, 1, 1), (512, 1, 1, 1, 0)]
    assert filters_of(localizer.c) == [(1024, 512, 3, 1, 1), (512, 1, 1, 1, 0)]


def test_on_inception_v3_it_has_the_parameters_that_mldfrs_table_v_counts() -> None:
    """38.45 M with 1000 classes; a second convolution in C, as section 3.3 has it, would make 40.81 M."""
    with torch.device("meta"):
        one, two = (SPG(build("inception_v3")[0], 1000, preset="paper", c_layers=layers) for layers in (1, 2))
    millions = [sum(value.numel() for value in localizer.parameters()) / 1e6 for localizer in (one, two)]
    assert [round(count, 2) for count in millions] == [38.45, 40.81]


def test_the_paper_preset_has_the_papers_settings() -> None:
    config = build_config(SPGConfig, {"preset": "paper"})
    assert (config.b1, config.b2) == ((0.05, 0.5), (0.1, 0.7))
    assert (config.branches, config.cascade, config.shared) == ("ABC", True, True)
    assert (config.a3_layers, config.width, config.c_layers, config.guidance_width) == (2, 1024, 1, 512)
    assert (config.dropout, config.fewest_object_px, config.guidance_weight) == (0, 0, 1)
    assert config.background == "none"


def test_layers_and_their_filters_can_be_chosen() -> None:
    localizer = spg(a3_layers=1, width=8, c_layers=2, guidance_width=6, third_block=True)
    assert len(localizer.backbone.stages) == 5
    assert filters_of(localizer.a3) == [(1280, 8, 3, 1, 1)]
    assert filters_of(localizer.c) == [(8, 6, 3, 1, 1), (6, 6, 3, 1, 1), (6, 1, 1, 1, 0)]
    assert filters_of(localizer.b_first) == [(channels, 6, 3, 1, 1) for channels in LITE0_CHANNELS]
    assert filters_of(spg(a3_layers=0, third_block=True).a4) == [(1280, CLASSES, 1, 1, 0)]


def test_unshared_branches_have_layers_of_their_own() -> None:
    apart = spg(shared=False)
    assert filters_of(apart.b_rest) == 2 * filters_of(spg().b_rest)
    features = apart.features(pictures())
    before = apart.branches(*features, (64, 96))
    with torch.no_grad():
        apart.b_rest[0][-1].bias += 1
    after = apart.branches(*features, (64, 96))
    assert torch.allclose(after["b1"], before["b1"] + 1, atol=1e-5)
    assert torch.equal(after["b2"], before["b2"])


def test_ablated_parts_do_not_exist() -> None:
    loss = ClassificationLoss("single")
    expected = {
        "A": {"classification"},
        "AB": {"classification", "b2", "b1"},
        "ABC": {"classification", "b2", "b1", "c"},
    }
    for branches, names in expected.items():
        localizer = spg(branches=branches)
        assert set(localizer.training_step(pictures(), one_of_each(2), loss)) == names
        assert hasattr(localizer, "b_first") is (branches != "A")
        assert hasattr(localizer, "c") is (branches == "ABC")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"b1": (0.5, 0.05)}, "'b1'.*must be below"),
        ({"fused": (0.1, 1.5)}, "'fused'.*less than 1"),
        ({"branches": "AC"}, "'branches'"),
        ({"width": 0}, "'width'"),
        ({"cascades": False}, "did you mean 'cascade'"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        spg(**options)


def test_thresholds_may_be_given_as_text() -> None:
    assert spg(b1="0.2, 0.6").config.b1 == (0.2, 0.6)


# --- logits and maps -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_maps_are_the_filters_of_a4_and_the_logits_their_means() -> None:
    localizer = spg()
    features = localizer.features(pictures())[-1].double().numpy()
    weight = localizer.a4.weight[:, :, 0, 0].double().numpy()
    by_hand = np.zeros((2, CLASSES, *features.shape[2:])) + localizer.a4.bias.double().numpy()[None, :, None, None]
    for channel in range(features.shape[1]):
        by_hand += weight[:, channel][None, :, None, None] * features[:, channel][:, None]
    seen = localizer.localize(pictures(), torch.arange(CLASSES).repeat(2, 1))
    np.testing.assert_allclose(seen.maps.numpy(), by_hand, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen.logits.numpy(), by_hand.mean(axis=(2, 3)), rtol=1e-4, atol=1e-4)
    asked = localizer.localize(pictures(), torch.tensor([[3], [NO_CLASS]]))
    assert torch.allclose(asked.maps[0, 0], seen.maps[0, 3], atol=1e-6)


@torch.no_grad()
def test_the_mean_class_is_subtracted_from_maps_but_not_from_masks() -> None:
    plain, against_mean = spg(), spg(background="mean")
    every = torch.arange(CLASSES).expand(2, -1)
    maps = plain.localize(pictures(), every).maps
    expected = maps - maps.mean(dim=1, keepdim=True)
    assert (expected - maps).abs().max() > 0.1, "the mean map is worth taking off here"
    assert torch.allclose(against_mean.localize(pictures(), every).maps, expected, atol=1e-4)
    assert torch.allclose(against_mean.localize(pictures(), every[:, 3:4]).maps, expected[:, 3:4], atol=1e-4)
    seen = [one.features(pictures())[-1] for one in (plain, against_mean)]
    loss = ClassificationLoss("single")
    first, second = (
        one.attention(features, one_of_each(2), (64, 96), loss)[0]
        for one, features in zip((plain, against_mean), seen, strict=True)
    )
    assert torch.equal(first, second)


@torch.no_grad()
def test_the_guidance_branches_do_not_affect_the_maps() -> None:
    localizer = spg()
    before = localizer.localize(pictures(), torch.tensor([[0, 1], [2, 3]]))
    for part in (localizer.b_first, localizer.b_rest, localizer.c):
        for value in part.parameters():
            value.fill_(torch.nan)
    after = localizer.localize(pictures(), torch.tensor([[0, 1], [2, 3]]))
    assert torch.equal(before.maps, after.maps)
    assert torch.equal(before.logits, after.logits)


@torch.no_grad()
def test_dropout_is_active_in_training_only_and_off_by_default() -> None:
    localizer = spg(dropout=0.5)
    localizer.freeze_backbone()
    assert torch.equal(localizer(pictures()), localizer(pictures()))
    localizer.train()
    assert not torch.allclose(localizer(pictures()), localizer(pictures()), atol=1e-4)
    plain = spg()
    plain.freeze_backbone()
    assert torch.equal(plain.train()(pictures()), plain.eval()(pictures()))


@torch.no_grad()
@pytest.mark.parametrize(("count", "height", "width"), [(1, 225, 371), (1, 64, 64), (3, 65, 97)])
def test_any_size_and_a_batch_of_one_are_localized(count: int, height: int, width: int) -> None:
    localizer = spg()
    seen = localizer.localize(pictures(count, height, width), torch.zeros((count, 1), dtype=torch.int64))
    assert tuple(seen.maps.shape) == (count, 1, -(-height // 16), -(-width // 16))
    losses = localizer.training_step(pictures(count, height, width), one_of_each(count), ClassificationLoss("single"))
    assert all(loss.isfinite() for loss in losses.values())


@torch.no_grad()
def test_preparing_for_inference_does_not_change_the_maps() -> None:
    localizer = spg()
    for part in localizer.backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
    classes = torch.tensor([[0, 4], [1, NO_CLASS]])
    before = localizer.localize(pictures(), classes)
    after = prepare_for_inference(localizer, torch.device("cpu")).localize(pictures(), classes)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in localizer.backbone.modules()), "they were folded"
    assert torch.allclose(before.logits, after.logits, rtol=1e-3, atol=1e-3)
    assert torch.allclose(before.maps, after.maps, rtol=1e-3, atol=1e-3)


# --- masks (eq. 1, section 3.2) --------------------------------------------------------------------------------------


def mask_by_hand(saliency: np.ndarray, low: float, high: float) -> np.ndarray:
    mask = np.full(saliency.shape, 255)
    for place, value in np.ndenumerate(saliency):
        if value < low:
            mask[place] = 0
        elif value > high:
            mask[place] = 1
    return mask


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.7), (0.05, 0.5), (0.3, 0.4)])
def test_a_mask_is_that_of_equation_1(low: float, high: float) -> None:
    saliency = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    mask = guidance_mask(saliency, low, high)
    assert mask.dtype == torch.uint8
    np.testing.assert_array_equal(mask.numpy(), mask_by_hand(saliency.numpy(), low, high))
    assert set(mask.unique().tolist()) == {BACKGROUND, OBJECT, IGNORED}


def test_pixels_on_a_threshold_are_ignored() -> None:
    saliency = torch.tensor([[[0.25, 0.24, 0.5, 0.51]]])
    assert guidance_mask(saliency, 0.25, 0.5).tolist() == [[[IGNORED, BACKGROUND, IGNORED, OBJECT]]]


def test_the_fallback_is_off_by_default_and_applies_per_image() -> None:
    faint, clear = torch.tensor([[0.4, 0.3, 0.2, 0.01]]), torch.tensor([[0.9, 0.6, 0.3, 0.01]])
    both = torch.stack([faint, clear])
    assert not (guidance_mask(both[:1], 0.05, 0.7) == OBJECT).any()
    asked = guidance_mask(both, 0.05, 0.7, fewest_object_px=1, fallback=0.7)
    assert asked.tolist() == [
        [[OBJECT, OBJECT, IGNORED, BACKGROUND]],
        [[OBJECT, IGNORED, IGNORED, BACKGROUND]],
    ]
    alone = [guidance_mask(one[None], 0.05, 0.7, fewest_object_px=1, fallback=0.7) for one in both]
    assert torch.equal(torch.cat(alone), asked)


def test_the_best_pixels_of_a_faint_map_are_background() -> None:
    assert guidance_mask(torch.tensor([[[0.04, 0.01]]]), 0.05, 0.7, fewest_object_px=5).tolist() == [[[0, 0]]]


def logits_of(probabilities: np.ndarray) -> Tensor:
    return torch.from_numpy(np.log(probabilities / (1 - probabilities)))


def three_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An attention map and the outputs of B1 and B2, (2, 6, 6) in 0-1."""
    return tuple(np.random.default_rng(7).uniform(0.001, 0.999, (3, 2, 6, 6)))


@pytest.mark.parametrize("cascade", [True, False])
def test_b2_learns_from_the_attention_b1_from_b2_and_c_from_their_average(cascade: bool) -> None:
    attention, b1, b2 = three_maps()
    localizer = on_pixels(b1=(0.05, 0.5), b2=(0.1, 0.7), fused=(0.2, 0.6), cascade=cascade)
    everywhere = torch.ones(2, dtype=torch.bool)
    masks = localizer.masks(torch.from_numpy(attention), everywhere, logits_of(b1), logits_of(b2))
    seeds = mask_by_hand(attention, 0.1, 0.7)
    np.testing.assert_array_equal(masks["b2"].numpy(), seeds)
    np.testing.assert_array_equal(masks["b1"].numpy(), mask_by_hand(b2, 0.05, 0.5) if cascade else seeds)
    np.testing.assert_array_equal(masks["c"].numpy(), mask_by_hand((b1 + b2) / 2, 0.2, 0.6))


def test_an_image_without_seeds_is_ignored_in_all_masks() -> None:
    attention, b1, b2 = three_maps()
    has_seeds = torch.tensor([False, True])
    masks = on_pixels().masks(torch.from_numpy(attention), has_seeds, logits_of(b1), logits_of(b2))
    for mask in masks.values():
        assert (mask[0] == IGNORED).all()
        assert (mask[1] != IGNORED).any()


# --- the attention map -----------------------------------------------------------------------------------------------


def resized_by_hand(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, cell centres aligned, in double precision."""
    for axis, length in ((0, height), (1, width)):
        have = plane.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * have / length - 0.5, 0, have - 1)
        left = np.minimum(place.astype(int), have - 1)
        right = np.minimum(left + 1, have - 1)
        share = (place - left).reshape((-1, 1) if axis == 0 else (1, -1))
        plane = np.take(plane, left, axis) * (1 - share) + np.take(plane, right, axis) * share
    return plane


def attention_by_hand(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The best of (K, h, w) class maps, each resized and then normalised."""
    large = [resized_by_hand(plane, height, width) for plane in planes]
    return np.max([(one - one.min()) / (one.max() - one.min()) for one in large], axis=0)


def test_the_attention_of_several_labels_is_the_maximum_of_their_normalised_maps() -> None:
    maps = torch.randn(3, 40, 3, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    labels = ([2], [0, 17, 39], [15, 16])
    present = torch.zeros(3, 40)
    for image, chosen in enumerate(labels):
        present[image, list(chosen)] = 1
    attention, found = attention_of_labels(maps, present, (13, 22))
    assert found.tolist() == [True, True, True]
    for image, chosen in enumerate(labels):
        by_hand = attention_by_hand(maps[image, list(chosen)].numpy(), 13, 22)
        np.testing.assert_allclose(attention[image].numpy(), by_hand, atol=1e-9)


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_the_attention_in_training_is_that_of_the_labels(objective: str) -> None:
    localizer = spg(classes=20)
    targets = torch.zeros(2, 20)
    targets[0, 18] = targets[1, 3] = 1
    features = localizer.features(pictures())[-1]
    attention, found = localizer.attention(features, targets, (64, 96), ClassificationLoss(objective))
    maps = localizer.localize(pictures(), torch.tensor([[18], [3]])).maps.detach().double().numpy()
    assert found.all()
    for image in range(2):
        np.testing.assert_allclose(attention[image], attention_by_hand(maps[image], 64, 96), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.3, -1234.567, 1e30])
def test_a_constant_map_becomes_zeros_without_seeds(value: float) -> None:
    constant = torch.full((1, 2, 3, 5), value)
    attention, found = attention_of_labels(constant, torch.ones(1, 2), (37, 61))
    assert not attention.any()
    assert not found.any()
    levels, varied = min_max(constant)
    assert not levels.any()
    assert not varied.any()


def test_a_constant_map_beside_another_does_not_count() -> None:
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 1] = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    attention, found = attention_of_labels(maps, torch.ones(1, 2), (2, 2))
    assert found.all()
    assert attention[0].tolist() == [[0.0, 0.25], [0.5, 1.0]]


def test_an_image_without_label_has_no_seeds() -> None:
    attention, found = attention_of_labels(torch.randn(2, 3, 2, 2), torch.tensor([[0, 0, 0], [0, 1, 0]]), (4, 4))
    assert found.tolist() == [False, True]
    assert not attention[0].any()
    assert attention[1].any()


# --- losses ----------------------------------------------------------------------------------------------------------


def test_the_mask_loss_is_the_mean_cross_entropy_over_known_pixels() -> None:
    logits = torch.tensor([[[2.0, -1.0, 0.5]], [[3.0, 1.0, -4.0]]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[[OBJECT, BACKGROUND, IGNORED]], [[IGNORED, BACKGROUND, IGNORED]]], dtype=torch.uint8)
    loss = guidance_loss(logits, mask)
    by_hand = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)) + np.log1p(np.exp(1.0))) / 3
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-12)
    loss.backward()
    assert torch.equal(logits.grad != 0, mask != IGNORED)


def test_a_mask_of_ignored_pixels_has_loss_and_gradients_of_0() -> None:
    logits = torch.randn(1, 2, 2, requires_grad=True)
    loss = guidance_loss(logits, torch.full((1, 2, 2), IGNORED, dtype=torch.uint8))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def cross_entropy_by_hand(logits: np.ndarray, mask: np.ndarray) -> float:
    signs = np.where(mask == 1, -1.0, 1.0)
    return float(np.log1p(np.exp(signs * logits))[mask != 255].mean())


def test_a_training_step_equals_algorithm_1_written_out() -> None:
    localizer = on_pixels(b1=(0.4, 0.5), b2=(0.3, 0.6), fused=(0.45, 0.55), guidance_weight=0.5).double()
    images, labels = pictures(3, 17, 30, seed=9), [1, 0, 1]
    with torch.no_grad():
        losses = localizer.training_step(images, torch.eye(2).double()[labels], ClassificationLoss("single"))
        first, second, features = localizer.features(images)
        small_b1 = localizer.b_rest[0](localizer.b_first[0](first))[:, 0].numpy()
        small_b2 = localizer.b_rest[0](localizer.b_first[1](second))[:, 0].numpy()
        small_c = localizer.c(features)[:, 0].numpy()
        maps = localizer.a4(features).numpy()
    b1, b2, c = (np.stack([resized_by_hand(one, 17, 30) for one in small]) for small in (small_b1, small_b2, small_c))
    chosen = np.stack([attention_by_hand(maps[image, [label]], 17, 30) for image, label in enumerate(labels)])
    output_of_b1, output_of_b2 = 1 / (1 + np.exp(-b1)), 1 / (1 + np.exp(-b2))
    expected = {
        "b2": cross_entropy_by_hand(b2, mask_by_hand(chosen, 0.3, 0.6)) / 2,
        "b1": cross_entropy_by_hand(b1, mask_by_hand(output_of_b2, 0.4, 0.5)) / 2,
        "c": cross_entropy_by_hand(c, mask_by_hand((output_of_b1 + output_of_b2) / 2, 0.45, 0.55)) / 2,
    }
    scores = maps.mean(axis=(2, 3))
    right = scores[np.arange(3), labels] - np.log(np.exp(scores).sum(axis=1))
    assert float(losses.pop("classification")) == pytest.approx(-right.mean(), rel=1e-5)
    # maps go through float32 on their way to the masks
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_each_loss_has_gradients_for_its_branch_and_the_layers_below() -> None:
    localizer = spg()
    losses = localizer.training_step(pictures(), one_of_each(2), ClassificationLoss("single"))
    assert gradients_of(localizer, losses["classification"]) == {"backbone", "a3", "a4"}
    assert gradients_of(localizer, losses["b2"]) == {"backbone", "b_first.1", "b_rest.0"}
    assert gradients_of(localizer, losses["b1"]) == {"backbone", "b_first.0", "b_rest.0"}
    assert gradients_of(localizer, losses["c"]) == {"backbone", "a3", "c"}


@torch.no_grad()
def test_images_without_a_label_or_an_attention_map_give_no_guidance() -> None:
    localizer = spg()
    losses = localizer.training_step(pictures(), torch.zeros(2, CLASSES), ClassificationLoss("multi"))
    assert float(losses["classification"]) > 0
    nn.init.zeros_(localizer.a4.weight)
    of_constant = localizer.training_step(pictures(), one_of_each(2), ClassificationLoss("single"))
    for guided in (losses, of_constant):
        assert [float(guided[name]) for name in ("b2", "b1", "c")] == [0, 0, 0]


def test_masks_do_not_depend_on_the_other_images_of_the_batch() -> None:
    localizer = spg(fewest_object_px=3000)

    def masks_of(chosen: slice) -> dict[str, Tensor]:
        first, second, features = localizer.features(pictures(4)[chosen])
        found = localizer.branches(first, second, features, (64, 96))
        attention = localizer.attention(features, one_of_each(4)[chosen], (64, 96), ClassificationLoss("single"))
        return localizer.masks(*attention, found["b1"], found["b2"])

    together = masks_of(slice(0, 4))
    for place in range(4):
        for name, mask in masks_of(slice(place, place + 1)).items():
            assert (mask[0] != together[name][place]).float().mean() < 0.01, "rounding apart"


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_a_training_step_does_not_synchronise_with_the_device(objective: str) -> None:
    """On the meta device there are no values, so that code which would wait for a GPU fails."""
    with torch.device("meta"):
        localizer = spg(classes=20, fewest_object_px=30)
        losses = localizer.training_step(pictures().to("meta"), torch.zeros(2, 20), ClassificationLoss(objective))
        seen = localizer.localize(pictures().to("meta"), torch.zeros(2, 3, dtype=torch.int64))
    assert {loss.shape for loss in losses.values()} == {torch.Size()}
    assert tuple(seen.maps.shape) == (2, 3, 4, 6)


@torch.no_grad()
def test_losses_are_float32_under_autocast() -> None:
    localizer, loss = spg(), ClassificationLoss("single")
    full = localizer.training_step(pictures(), one_of_each(2), loss)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = localizer.training_step(pictures(), one_of_each(2), loss)
        seen = localizer.localize(pictures(), torch.zeros(2, 1, dtype=torch.int64))
    assert {one.dtype for one in (*reduced.values(), seen.maps, seen.logits)} == {torch.float32}
    for name, value in full.items():
        assert float(reduced[name]) == pytest.approx(float(value), rel=0.1)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_new_layers_have_ten_times_the_rate_of_the_backbone(frozen: bool) -> None:
    localizer = spg()
    if frozen:
        localizer.freeze_backbone()
    names = {id(value): name for name, value in localizer.named_parameters()}
    rates = {names[id(value)]: group["lr"] for group in localizer.parameter_groups(0.01) for value in group["params"]}
    new = {name for name in names.values() if not name.startswith("backbone.")}
    assert {name for name, rate in rates.items() if rate == 0.01} == new
    assert {name.split(".")[0] for name in new} == {"a3", "a4", "b_first", "b_rest", "c"}
    old = {name for name, rate in rates.items() if rate == 0.001}
    assert old == (set() if frozen else set(names.values()) - new)


def fit(localizer: SPG, images: Tensor, targets: Tensor, objective: str, steps: int = 25) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(localizer.train().parameter_groups(3e-3))
    loss, history = ClassificationLoss(objective), []
    for _ in range(steps):
        losses = localizer.training_step(images, targets, loss)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    return history


def squares(count: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of noise with a bright square, red or blue, their targets (B, 2), and where the squares are."""
    images, where = pictures(count, 64, 64, seed=10) // 4, torch.zeros(count, 64, 64, dtype=torch.bool)
    for number in range(count):
        top, left = 8 * (number % 4), 32 - 8 * (number // 2)
        images[number, 2 * (number % 2), top : top + 32, left : left + 32] += 180
        where[number, top : top + 32, left : left + 32] = True
    return images, one_of_each(count, 2), where


@pytest.mark.parametrize("objective", ["single", "multi"])
@pytest.mark.parametrize("frozen", [True, False])
def test_eight_images_are_memorised(objective: str, frozen: bool) -> None:
    images, targets, _ = squares()
    localizer = on_small_network()
    if frozen:
        localizer.freeze_backbone()
    before = [value.clone() for value in localizer.backbone.parameters()]
    history = fit(localizer, images, targets, objective)
    assert history[-1]["classification"] < 0.5 * history[0]["classification"]
    assert sum(history[-1].values()) < 0.7 * sum(history[0].values())
    same = [torch.equal(old, new) for old, new in zip(before, localizer.backbone.parameters(), strict=True)]
    assert all(same) if frozen else not any(same)


def test_the_branches_learn_the_masks_they_are_given() -> None:
    images, targets, _ = squares()
    localizer = on_small_network()
    localizer.freeze_backbone()
    features = localizer.features(images)
    attention = localizer.attention(features[-1], targets, (64, 64), ClassificationLoss("single"))
    optimizer = torch.optim.AdamW(localizer.parameter_groups(3e-3))
    history = []
    for _ in range(30):  # the seeds stand still, as they would of a classifier that has learnt
        found = localizer.branches(*localizer.features(images), (64, 64))
        losses = {name: guidance_loss(found[name], mask) for name, mask in masks_of_seeds(localizer, attention).items()}
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    for name in ("b2", "b1", "c"):
        assert history[-1][name] < 0.8 * history[0][name]


def masks_of_seeds(localizer: SPG, attention: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    saliency, has_seeds = attention
    logits = torch.logit(saliency.clamp(0.001, 0.999))
    return localizer.masks(saliency, has_seeds, logits, logits)


# --- on disk ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"shared": False}, {"branches": "A"}, {"third_block": True, "a3_layers": 0}])
def test_a_loaded_model_is_bitwise_equal(tmp_path: Path, options: dict[str, object]) -> None:
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    card = ModelCard("spg", "efficientnet_lite0", "single", listed, 64, {}, options={**SMALL, **options})
    torch.manual_seed(11)
    localizer = build_localizer(card)[0].eval()
    save_model(tmp_path, localizer, replace(card, normalisation=localizer.backbone.normalisation))
    back, _ = load_model(tmp_path)
    classes = torch.tensor([[0, 1], [4, NO_CLASS]])
    before, after = localizer.localize(pictures(), classes), back.localize(pictures(), classes)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.maps, after.maps)
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in localizer.state_dict().items())


def test_a_model_of_the_earlier_default_is_loaded_with_two_convolutions_in_c(tmp_path: Path) -> None:
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    card = ModelCard("spg", "efficientnet_lite0", "single", listed, 64, {}, options={**SMALL, "c_layers": 2})
    localizer = build_localizer(card)[0].eval()
    save_model(tmp_path, localizer, replace(card, normalisation=localizer.backbone.normalisation))
    record = json.loads((tmp_path / CARD_FILE).read_text())
    del record["options"]["c_layers"]  # as the earlier version wrote it
    (tmp_path / CARD_FILE).write_text(json.dumps(record))
    back, read = load_model(tmp_path)
    assert read.options["c_layers"] == 2
    assert filters_of(back.c) == filters_of(localizer.c)
    assert len(filters_of(spg().c)) < len(filters_of(back.c))
