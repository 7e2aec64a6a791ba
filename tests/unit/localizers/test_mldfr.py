"""mLDFR against its equations, its table of sizes, and the meaning of its options."""

import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mining.backbones.build import build
from mining.backbones.registry import BACKBONES
from mining.errors import ModelError
from mining.localizers.base import ClassificationLoss
from mining.localizers.mldfr import MLDFR, ChannelAttention, SelfAttention, SpatialAttention
from mining.models.card import ModelCard
from mining.models.checkpoint import load_model, save_model
from mining.models.fuse_batchnorm import prepare_for_inference

CLASSES = 4


def mldfr(backbone: str = "efficientnet_lite0", classes: int = CLASSES, **options: object) -> MLDFR:
    """The paper's network on a backbone of random weights, in evaluation mode."""
    torch.manual_seed(3)
    return MLDFR(build(backbone)[0], classes, **{"preset": "paper", **options}).eval()


def drawn(backbone: str, classes: int = CLASSES, **options: object) -> MLDFR:
    """Layers on the meta device, for counting."""
    with torch.device("meta"):
        return mldfr(backbone, classes, **options)


def pictures(count: int = 2, height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def of_every_class(count: int = 2) -> Tensor:
    return torch.arange(CLASSES).repeat(count, 1)


def signal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def batch_norms(model: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())


@pytest.fixture(autouse=True)
def _no_gradients_unless_asked_for() -> None:
    with torch.no_grad():
        yield


# --- the attention ---------------------------------------------------------------------------------------------------


def channel_attention_by_hand(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Eq. 5 in double precision: (B, K, H, W) and (K, K) to (B, K)."""
    return np.stack([sigmoid(weights @ one.mean(axis=(1, 2))) for one in features])


def spatial_attention_by_hand(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Eq. 6 in double precision: (B, K, H, W) and (2, k, k) to (B, H, W)."""
    batch, _, height, width = features.shape
    reach = weights.shape[-1] // 2
    described = np.stack([features.mean(axis=1), features.max(axis=1)], axis=1)
    padded = np.pad(described, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    sums = np.zeros((batch, height, width))
    for row in range(height):
        for column in range(width):
            window = padded[:, :, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            sums[:, row, column] = (window * weights).sum(axis=(1, 2, 3))
    return sigmoid(sums)


def test_channel_attention_is_equation_five() -> None:
    torch.manual_seed(0)
    module, features = ChannelAttention(6), signal(3, 6, 5, 4)
    weights = module.weigh.weight[:, :, 0, 0].double().numpy()
    expected = channel_attention_by_hand(features.double().numpy(), weights)
    assert expected.std() > 0.02
    np.testing.assert_allclose(module(features)[:, :, 0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("kernel", [7, 5, 3])
def test_spatial_attention_is_equation_six(kernel: int) -> None:
    torch.manual_seed(0)
    module, features = SpatialAttention(kernel), signal(2, 6, 5, 8)
    expected = spatial_attention_by_hand(features.double().numpy(), module.weigh.weight[0].double().numpy())
    assert expected.std() > 0.02
    np.testing.assert_allclose(module(features)[:, 0].numpy(), expected, atol=1e-6)


def test_spatial_attention_is_computed_from_the_channel_attentions_output() -> None:
    """Eq. 7: the spatial attention is that of the features whose channels are recalibrated already."""
    torch.manual_seed(0)
    module, features = SelfAttention(6, 3), signal(2, 6, 5, 8)
    by_hand = features.double().numpy()
    weights = module.channel.weigh.weight[:, :, 0, 0].double().numpy()
    by_hand = by_hand * channel_attention_by_hand(by_hand, weights)[:, :, None, None]
    by_hand = by_hand * spatial_attention_by_hand(by_hand, module.spatial.weigh.weight[0].double().numpy())[:, None]
    np.testing.assert_allclose(module(features).numpy(), by_hand, atol=1e-6)


def test_attention_with_zero_weights_halves_twice_and_neutral_attention_is_the_identity() -> None:
    features = signal(2, 6, 5, 8)
    paper, neutral = SelfAttention(6, 3), SelfAttention(6, 3, neutral=True)
    for parameter in paper.parameters():
        nn.init.zeros_(parameter)
    assert torch.allclose(paper(features), features / 4)
    assert torch.equal(neutral(features), features)


@pytest.mark.parametrize("norm", [False, True])
def test_a_neutral_network_starts_as_without_attention_and_learns(norm: bool) -> None:
    model = mldfr("mobilenet_v2", attention_start="neutral", attention_batch_norm=norm)
    without = mldfr("mobilenet_v2", attention=False)
    assert torch.allclose(model.features(pictures())[-1], without.features(pictures())[-1], rtol=1e-4, atol=0)
    with torch.enable_grad():
        model.train().training_step(pictures(), torch.eye(CLASSES)[:2], ClassificationLoss("single"))[
            "classification"
        ].backward()
    for one in model.attention:
        for part in (one.channel, one.spatial):
            assert (part.norm if norm else part.weigh).weight.grad.abs().sum() > 0


def test_the_norm_before_the_sigmoids_is_that_of_the_released_code() -> None:
    torch.manual_seed(0)
    module, features = ChannelAttention(6, norm_momentum=0.01).train(), signal(3, 6, 5, 4)
    weighed = features.double().mean(dim=(2, 3)) @ module.weigh.weight[:, :, 0, 0].double().T
    expected = (weighed - weighed.mean(dim=0)) / (weighed.var(dim=0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(module(features)[:, :, 0, 0].double(), expected.sigmoid(), atol=1e-4)
    assert torch.allclose(module.norm.running_mean.double(), 0.01 * weighed.mean(dim=0), atol=1e-6)


def test_a_single_image_is_normalised_by_running_statistics() -> None:
    module, features = ChannelAttention(6, norm_momentum=0.01), signal(1, 6, 5, 4)
    module.norm.running_mean.fill_(0.3)
    assert torch.equal(module.train()(features), module.eval()(features))
    assert module.norm.running_mean.unique().tolist() == pytest.approx([0.3]), "and nothing is learned of it"


# --- the network -----------------------------------------------------------------------------------------------------


TABLE_V = {
    "vgg16": (20.82e6, 16.53e9, {}),
    "inception_v3": (23.76e6, 8.82e9, {}),
    "resnet50": (24.78e6, 6.24e9, {}),
    "vgg16-cam": (20.46e6, 16.31e9, {"attention": False, "batch_norm": False}),
}


def multiply_adds(model: MLDFR, *, maps_of_every_class: bool) -> float:
    """Multiply-adds of one image of the backbone's input size, in convolutions only."""
    side = model.backbone.input_size
    with FlopCounterMode(display=False) as counter:
        features = model.features(torch.zeros(1, 3, side, side, device="meta"))[-1]
        model.classifier(features if maps_of_every_class else features.mean(dim=(2, 3), keepdim=True))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", TABLE_V)
def test_parameters_and_flops_are_those_of_table_v(name: str) -> None:
    """The paper counts multiply-adds, at the backbone's own size and 1000 classes; its own figures have norms and
    activations in them, which are less than 1 % here. CAM averages in front of its class layer."""
    expected_parameters, expected_flops, options = TABLE_V[name]
    model = drawn(name.removesuffix("-cam"), 1000, **options)
    assert parameters(model) == pytest.approx(expected_parameters, rel=0.001)
    assert multiply_adds(model, maps_of_every_class=not options) == pytest.approx(expected_flops, rel=0.01)


PLACES = {
    "vgg16": (128, 256, 512, 1024),
    "googlenet": (64, 192, 480, 1024),
    "inception_v3": (64, 192, 768, 2048),
    "resnet50": (64, 512, 1024, 2048),
    "densenet161": (96, 192, 384, 2208),
    "mobilenet_v2": (24, 32, 64, 1280),
    "efficientnet_lite0": (24, 40, 80, 1280),
    "efficientnet_lite1": (24, 40, 80, 1280),
    "efficientnet_lite2": (24, 48, 88, 1280),
}


def test_every_listed_backbone_has_places_for_attention() -> None:
    assert set(PLACES) == set(BACKBONES)


@pytest.mark.parametrize("name", PLACES)
def test_attention_follows_the_second_third_and_fourth_down_sampling(name: str) -> None:
    model = drawn(name)
    assert (model.backbone.channels, model.backbone.strides) == (PLACES[name], (4, 8, 16, 16))
    assert [one.channel.weigh.in_channels for one in model.attention] == list(PLACES[name][:3])
    assert [one.spatial.weigh.kernel_size[0] for one in model.attention] == [7, 5, 3]


@pytest.mark.parametrize(
    ("name", "path", "shape"),
    [
        ("googlenet", "3.5.0", (832, 832, 1, 1)),
        ("inception_v3", "3.4.0", (1280, 768, 1, 1)),
        ("resnet50", "3.0.0.conv2", (512, 512, 1, 1)),
        ("mobilenet_v2", "3.6.0", (160, 96, 1, 1)),
        ("efficientnet_lite0", "3.5.0", (192, 112, 1, 1)),
        ("vgg16", "3.9", (1024, 512, 3, 3)),
    ],
)
def test_the_last_down_sampling_becomes_a_convolution_with_bias(name: str, path: str, shape: tuple[int, ...]) -> None:
    model = drawn(name)
    layer = model.backbone.stages.get_submodule(path)
    assert tuple(layer.weight.shape) == shape
    assert (layer.stride, tuple(layer.bias.shape)) == ((1, 1), shape[:1])
    assert any(layer is part for module in model.new_layers() for part in module.modules())


@pytest.mark.parametrize("name", PLACES)
def test_layers_behind_the_transition_are_not_dilated(name: str) -> None:
    plain, model = build_drawn(name), drawn(name)
    assert name == "vgg16" or any(spread(part) for part in plain.modules()), "the backbone's own way is to dilate"
    assert not any(spread(part) for part in model.modules())
    assert any(spread(part) for part in drawn(name, last="dilated").modules()) == (name != "vgg16")


def build_drawn(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name)[0]


def spread(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv2d) and part.dilation != (1, 1)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "resnet50"])
def test_remaining_pretrained_layers_keep_their_weights(name: str) -> None:
    torch.manual_seed(3)
    plain = build(name)[0].state_dict().values()
    model = mldfr(name)
    fresh = {id(value) for module in model.new_layers() for value in module.state_dict(keep_vars=True).values()}
    kept = [value for value in model.backbone.state_dict(keep_vars=True).values() if id(value) not in fresh]
    known = {(tuple(value.shape), float(value.double().sum())) for value in plain}
    assert all((tuple(value.shape), float(value.double().sum())) in known for value in kept)
    assert sum(value.numel() for value in kept) > 0.85 * sum(value.numel() for value in plain)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
def test_without_attention_and_transition_the_features_are_the_backbones(name: str) -> None:
    plain = build_seeded(name)
    model = mldfr(name, attention=False, last="dilated")
    assert torch.equal(model.features(pictures())[-1], plain(pictures())[-1])
    rebuilt = mldfr(name, attention=False).features(pictures())[-1]
    assert (rebuilt - plain(pictures())[-1]).abs().max() > 0.1 * rebuilt.abs().max()


def build_seeded(name: str) -> nn.Module:
    torch.manual_seed(3)
    return build(name)[0].eval()


def test_features_pass_through_the_attention_between_the_stages() -> None:
    model = mldfr()
    features = model.backbone.normalise(pictures())
    for stage, attention in zip(model.backbone.stages[:3], model.attention, strict=True):
        features = attention(stage(features))
    assert torch.equal(model.features(pictures())[-1], model.backbone.stages[3](features))
    assert not torch.allclose(model.features(pictures())[0], mldfr(attention=False).features(pictures())[0])


# --- the ablation of table IX ----------------------------------------------------------------------------------------


def test_vgg16_has_a_norm_after_each_convolution_or_none() -> None:
    layers = [part for stage in drawn("vgg16").backbone.stages for part in stage]
    behind = [after for layer, after in pairwise(layers) if isinstance(layer, nn.Conv2d)]
    assert len(behind) == 14
    assert all(isinstance(after, nn.BatchNorm2d) for after in behind)
    assert batch_norms(drawn("vgg16", batch_norm=False)) == 0


@pytest.mark.parametrize("name", ["vgg16", "googlenet", "resnet50"])
def test_each_module_of_the_ablation_is_switched_alone(name: str) -> None:
    sizes = {
        (norm, attention): parameters(drawn(name, batch_norm=norm, attention=attention))
        for norm in (True, False)
        for attention in (True, False)
    }
    of_attention = sum(width**2 + 2 * kernel**2 for width, kernel in zip(PLACES[name], (7, 5, 3), strict=False))
    for norm in (True, False):
        assert sizes[norm, True] - sizes[norm, False] == of_attention
    assert sizes[True, True] > sizes[False, True]
    assert sizes[True, True] - sizes[False, True] == sizes[True, False] - sizes[False, False]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "googlenet"])
def test_removing_norms_keeps_the_pretrained_features(name: str) -> None:
    torch.manual_seed(3)
    with_statistics = build(name)[0]
    for part in with_statistics.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.2)
            nn.init.uniform_(part.bias, -0.1, 0.1)
    expected = copy.deepcopy(with_statistics).eval()(pictures())[-1]
    model = MLDFR(with_statistics, CLASSES, attention=False, batch_norm=False, last="dilated").train()
    assert batch_norms(model) == 0
    assert torch.allclose(model.features(pictures())[-1], expected, atol=1e-4 * float(expected.abs().max()))


def test_norms_that_follow_no_convolution_cannot_be_removed() -> None:
    with pytest.raises(ModelError, match="densenet161 has norms that follow no convolution"):
        drawn("densenet161", batch_norm=False)
    with pytest.raises(ModelError, match="cannot be removed from regnetx_002"):
        drawn("regnetx_002", batch_norm=False)


# --- options ---------------------------------------------------------------------------------------------------------


def test_maps_are_cut_as_the_preset_says() -> None:
    paper, pretrained = drawn("mobilenet_v2"), drawn("mobilenet_v2", preset="pretrained")
    assert (paper.threshold, paper.normalise) == (0.2, "minmax")
    assert (pretrained.threshold, pretrained.normalise) == (MLDFR.threshold, MLDFR.normalise) == (0.25, "max")
    assert (MLDFR.keeps_last, MLDFR.weights_of) == (True, None)


def test_attention_is_placed_by_option_after() -> None:
    model = drawn("mobilenet_v2", after="1, 4", kernels=[9, 1])
    assert (model.backbone.channels, model.backbone.strides) == ((32, 64, 1280), (2, 16, 16))
    assert [one.spatial.weigh.kernel_size[0] for one in model.attention] == [9, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": [2, 3]}, "2 places for 3 kernels"),
        ({"after": [2, 3, 5]}, "efficientnet_lite0 has only 4 down-samplings"),
        ({"after": [4, 3, 2]}, "rising order"),
        ({"kernels": "7,4,3"}, "a kernel is of odd size"),
        ({"last": "none"}, "'transition' or 'dilated'"),
        ({"atention": False}, "did you mean 'attention'"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        drawn("efficientnet_lite0", **options)


def test_the_convolution_added_to_vgg16_has_the_channels_asked_for() -> None:
    model = drawn("vgg16", extra_channels=256)
    assert (model.backbone.channels[-1], model.classifier.in_channels) == (256, 256)


def test_the_released_code_differs_by_options() -> None:
    plain = drawn("resnet50", 1000)
    released = drawn("resnet50", 1000, attention_batch_norm=True, bias=True)
    norms = sum(2 * (width + 1) for width in PLACES["resnet50"][:3])
    assert parameters(released) - parameters(plain) == norms + 1000


def test_timm_networks_have_attention_at_strides_4_8_and_16() -> None:
    model = mldfr("regnetx_002")
    network = model.backbone.stages[0].network
    found = {name: part for name, part in network.named_modules() if isinstance(part, SelfAttention)}
    widths = {name: part.channel.weigh.in_channels for name, part in found.items()}
    assert widths == {"s1.1": 24, "s2.1": 56, "s3.1": 152}
    without = mldfr("regnetx_002", attention=False)
    assert not torch.allclose(model(pictures()), without(pictures()))
    assert not without.new_layers()
    assert len(model.new_layers()) == 3


def test_a_network_without_down_samplings_is_refused() -> None:
    with pytest.raises(ModelError, match=r"1/4, 1/8, 1/16 .* vit_tiny_patch16_224 does not have.*mobilenet_v2"):
        drawn("vit_tiny_patch16_224")


# --- maps and logits -------------------------------------------------------------------------------------------------


def test_maps_are_equation_three_and_their_means_are_the_logits() -> None:
    model = mldfr()
    nn.init.normal_(model.classifier.weight)
    assert model.classifier.bias is None
    features = model.features(pictures())[-1].double().numpy()
    weights = model.classifier.weight.flatten(1).double().numpy()
    expected = np.array([[sum(w * f for w, f in zip(row, one, strict=True)) for row in weights] for one in features])
    seen = model.localize(pictures(), of_every_class())
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(seen.maps.numpy(), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(seen.logits.numpy(), expected.mean(axis=(2, 3)), rtol=1e-3, atol=1e-3)  # eq. 4


def test_the_mean_class_may_be_subtracted() -> None:
    plain, centred = (mldfr(background=how).localize(pictures(), of_every_class()).maps for how in ("none", "mean"))
    assert torch.allclose(centred, plain - plain.mean(dim=1, keepdim=True), atol=1e-5 * float(plain.abs().max()))
    assert not torch.allclose(centred, plain, atol=1e-2 * float(plain.abs().max()))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
@pytest.mark.parametrize("size", [(225, 371), (64, 64), (33, 40)])
def test_any_size_and_a_batch_of_one_are_localized(name: str, size: tuple[int, int]) -> None:
    seen = mldfr(name).localize(pictures(1, *size), torch.tensor([[2, 0]]))
    assert tuple(seen.maps.shape) == (1, 2, -(-size[0] // 16), -(-size[1] // 16))
    assert seen.maps.isfinite().all()


def test_a_blank_image_has_finite_maps_and_batches_do_not_matter() -> None:
    model = mldfr()
    images = pictures(3)
    images[1] = 0
    together = model.localize(images, torch.tensor([[0, 1], [2, -1], [3, 0]]))
    assert together.maps.isfinite().all()
    for place in range(3):
        alone = model.localize(images[place : place + 1], together.classes[place : place + 1])
        assert torch.allclose(alone.maps, together.maps[place : place + 1], atol=1e-5)


def test_half_precision_and_channels_last_give_nearly_the_same() -> None:
    model = mldfr()
    full = model.localize(pictures(), of_every_class())
    other = model.to(memory_format=torch.channels_last)
    assert torch.allclose(other.localize(pictures(), of_every_class()).maps, full.maps, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = other.localize(pictures(), of_every_class())
    assert (half.maps.dtype, half.logits.dtype) == (torch.float32, torch.float32)
    assert 0 < (half.maps - full.maps).abs().max() < 0.1 * full.maps.abs().max()


@pytest.mark.parametrize("options", [{}, {"attention_batch_norm": True, "bias": True}, {"last": "dilated"}])
def test_a_loaded_model_is_bitwise_equal_and_can_be_prepared_for_inference(
    options: dict[str, object], tmp_path: Path
) -> None:
    model = mldfr("mobilenet_v2", **options)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.8, 1.2)
            nn.init.uniform_(part.bias, -0.1, 0.1)
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    save_model(
        tmp_path,
        model,
        ModelCard("mldfr", "mobilenet_v2", "single", listed, 64, {}, options={"preset": "paper", **options}),
    )
    again = load_model(tmp_path)[0]
    first, second = (one.localize(pictures(), of_every_class()) for one in (model, again))
    assert torch.equal(first.maps, second.maps)
    assert torch.equal(first.logits, second.logits)
    quick = prepare_for_inference(again, torch.device("cpu"))
    assert batch_norms(quick.backbone) == 0
    maps = quick.localize(pictures(), of_every_class()).maps
    assert torch.allclose(maps, first.maps, atol=1e-3 * float(first.maps.abs().max()))


def test_batch_norms_of_the_rebuilt_vgg16_are_folded() -> None:
    model = mldfr("vgg16")
    before = model.localize(pictures(1), torch.tensor([[1]])).maps
    quick = prepare_for_inference(model, torch.device("cpu"))
    assert batch_norms(quick) == 0
    maps = quick.localize(pictures(1), torch.tensor([[1]])).maps
    assert torch.allclose(maps, before, atol=1e-3 * float(before.abs().max()))


# --- training --------------------------------------------------------------------------------------------------------


def test_with_a_frozen_backbone_only_the_papers_layers_are_trained() -> None:
    model = mldfr("mobilenet_v2")
    model.freeze_backbone()
    names = {id(value): name for name, value in model.named_parameters()}
    trained = {names[id(value)] for group in model.parameter_groups(0.5) for value in group["params"]}
    inside = {f"backbone.stages.3.6.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")}
    outside = {name for name in names.values() if not name.startswith("backbone.")}
    assert len(inside) == 4
    assert trained == inside | outside


def test_an_unfrozen_backbone_has_a_tenth_of_the_rate_except_new_layers() -> None:
    model = mldfr("mobilenet_v2")
    new, old, _ = model.parameter_groups(0.5)
    assert (new["lr"], old["lr"]) == (0.5, 0.05)
    given = [id(value) for group in model.parameter_groups(0.5) for value in group["params"]]
    assert sorted(given) == sorted(id(value) for value in model.parameters())
    assert any(value is model.backbone.stages[3][6][0].weight for value in new["params"])


@pytest.mark.parametrize("name", ["mobilenet_v2", "regnetx_002"])
@pytest.mark.parametrize(("options", "rate"), [({}, 0.5), ({"preset": "pretrained"}, 0.05)])
def test_attention_has_its_own_share_of_the_rate(name: str, options: dict[str, object], rate: float) -> None:
    model = mldfr(name, **options)
    last = model.parameter_groups(0.5)[-1]
    attention = [part for part in model.modules() if isinstance(part, SelfAttention)]
    assert len(attention) == 3
    assert last["lr"] == pytest.approx(rate)
    assert {id(value) for value in last["params"]} == {id(value) for part in attention for value in part.parameters()}
    assert len(mldfr(name, attention=False).parameter_groups(0.5)) == 2


@pytest.mark.parametrize("frozen", [True, False])
def test_the_norms_of_a_frozen_backbone_keep_their_statistics_and_new_norms_learn(frozen: bool) -> None:
    model = mldfr("mobilenet_v2").train()
    if frozen:
        model.freeze_backbone()
    model(pictures(4))
    new_norm, old_norm = model.backbone.stages[3][6][1], model.backbone.stages[0][0][1]
    assert new_norm.running_mean.abs().sum() > 0
    assert bool(old_norm.running_mean.abs().sum() > 0) is not frozen
    assert not any(part.training for part in model.eval().modules())


def settled(model: MLDFR) -> MLDFR:
    """Set batch norms as after training on these images; with random weights alone the features vanish."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    momentum = [part.momentum for part in norms]
    for part in norms:
        part.momentum = None  # all that was seen counts alike
    model.train()(pictures(8, 64, 64))
    for part, value in zip(norms, momentum, strict=True):
        part.momentum = value
    return model


def losses_of(model: MLDFR, loss: ClassificationLoss, steps: int) -> list[float]:
    """Overfit eight images; returns the loss of each step."""
    targets = torch.eye(CLASSES).repeat(2, 1)
    if loss.objective == "multi":
        targets[:4] += torch.eye(CLASSES).roll(1, dims=1)
    optimizer = torch.optim.AdamW(model.parameter_groups(5e-3))
    seen = []
    for _ in range(steps):
        with torch.enable_grad():
            losses = model.train().training_step(pictures(8, 64, 64), targets, loss)
            assert set(losses) == {"classification"}
            optimizer.zero_grad()
            losses["classification"].backward()
        optimizer.step()
        seen.append(float(losses["classification"]))
    return seen


@pytest.mark.parametrize("objective", ["single", pytest.param("multi", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("frozen", "options"),
    [
        (False, {}),
        pytest.param(True, {"attention_start": "neutral"}, marks=pytest.mark.slow),
        pytest.param(False, {"attention_batch_norm": True}, marks=pytest.mark.slow),
    ],
)
def test_eight_images_are_memorised(objective: str, frozen: bool, options: dict[str, object]) -> None:
    model = settled(mldfr("mobilenet_v2", **options))
    if frozen:
        model.freeze_backbone()
    before = [parameter.clone() for parameter in model.attention.parameters()]
    seen = losses_of(model, ClassificationLoss(objective), steps=15)
    assert seen[-1] < 0.5 * seen[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, model.attention.parameters(), strict=True))


def test_the_loss_is_the_cross_entropy_of_equation_ten() -> None:
    model, targets = mldfr(), torch.eye(CLASSES)[[1, 3]]
    shares = model(pictures()).double().softmax(dim=1).numpy()
    by_hand = -(targets.numpy() * np.log(shares)).sum(axis=1).mean()
    loss = model.training_step(pictures(), targets, ClassificationLoss("single"))["classification"]
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_a_step_on_a_single_image_works() -> None:
    model = mldfr("mobilenet_v2", attention_batch_norm=True).train()
    with torch.enable_grad():
        loss = model.training_step(pictures(1), torch.eye(CLASSES)[:1], ClassificationLoss("single"))["classification"]
        loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.attention.parameters())
