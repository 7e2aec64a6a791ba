"""Combinational maps and non-local blocks against the paper's equations, in double precision."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.config import MineOptions
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, ClassificationLoss, Localizer
from mining.localizers.cam import CAM
from mining.localizers.nlccam import (
    CCAM,
    NLCCAM,
    CCAMConfig,
    NonLocalBlock,
    attention,
    polynomial_weights,
    ranks_from,
    ranks_of,
    top_bottom_weights,
    weights_by_rank,
)
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.models.fuse_batchnorm import prepare_for_inference

CLASSES = 6
POLYNOMIAL = {"function": "polynomial"}


def pictures(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def awake(localizer: Localizer) -> Localizer:
    """A localizer with blocks that are not the identity, as after training, and a head that separates classes."""
    for name, value in localizer.named_parameters():
        if ".norm." in name or name.startswith("classifier"):
            nn.init.normal_(value, std=0.5)
    return localizer.eval()


def nlccam(*, backbone: str = "efficientnet_lite0", classes: int = CLASSES, **options: object) -> NLCCAM:
    torch.manual_seed(1)
    return awake(NLCCAM(build(backbone)[0], classes, **options))


def ccam(*, classes: int = CLASSES, **options: object) -> CCAM:
    torch.manual_seed(1)
    return awake(CCAM(build("efficientnet_lite0")[0], classes, **options))


def small_vgg() -> Backbone:
    """A backbone like VGG: a pooling opens each stage but the first."""
    torch.manual_seed(0)

    def stage(width: int, channels: int, *opening: nn.Module) -> nn.Sequential:
        return nn.Sequential(*opening, nn.Conv2d(width, channels, 3, padding=1), nn.ReLU())

    stages = [stage(3, 8), stage(8, 16, nn.MaxPool2d(2)), stage(16, 16, nn.MaxPool2d(2))]
    return Backbone("vgg_small", StageSpec(stages, (8, 16, 16), (1, 2, 4), None))


@pytest.fixture(autouse=True)
def _no_gradients_unless_asked_for() -> None:
    with torch.no_grad():
        yield


# --- combination functions (eqs. 5 and 6) ----------------------------------------------------------------------------


def equation_5(k: int, K: int, p: float, eta: int) -> float:
    if k <= p:
        return ((k - p) / (1 - p)) ** eta
    return (-1) ** (eta + 1) * ((k - p) / (p - K)) ** eta


@pytest.mark.parametrize("eta", [0, 1, 2, 3, 5])
@pytest.mark.parametrize(("K", "p"), [(7, None), (8, None), (8, 3.0), (8, 2.5), (200, 160.0), (2, None), (8, 8.0)])
def test_polynomial_weights_are_those_of_equation_5(K: int, p: float | None, eta: int) -> None:
    middle = (K + 1) / 2 if p is None else p
    by_hand = [equation_5(k, K, middle, eta) for k in range(1, K + 1)]
    np.testing.assert_allclose(polynomial_weights(K, eta, p), by_hand, rtol=0, atol=1e-12)


def test_the_first_and_last_rank_have_the_largest_weights() -> None:
    for degree in (0.5, 1, 2, 3):
        weights = polynomial_weights(9, degree)
        assert (weights[0], weights[-1]) == (1, -1)
        assert weights.abs()[1:-1].max() < 1
        assert torch.equal(weights, weights.sort(descending=True).values)


def test_a_half_of_one_rank_keeps_its_weight() -> None:
    assert polynomial_weights(5, 2, pivot=1)[0] == 1
    assert polynomial_weights(1, 2).tolist() == [1]
    assert (polynomial_weights(5, 2, pivot=0) < 0).all(), "no foreground map at all"
    assert (polynomial_weights(5, 2, pivot=9) > 0).all(), "no background map at all"


def test_top_and_bottom_weights_are_those_of_equation_6() -> None:
    assert top_bottom_weights(6, 1, 0).tolist() == [1, 0, 0, 0, 0, 0]
    assert top_bottom_weights(6, 0, 1).tolist() == [0, 0, 0, 0, 0, -1]
    assert top_bottom_weights(6, 2, 3).tolist() == [1, 1, 0, -1, -1, -1]
    assert top_bottom_weights(4, 1, 10).tolist() == [1, -1, -1, -1], "the top wins where the halves meet"
    assert top_bottom_weights(3, 10, 10).tolist() == [1, 1, 1]


def test_the_default_is_the_papers_top_1_and_bottom_10() -> None:
    weights = weights_by_rank(CCAMConfig(), 1000)
    assert weights.nonzero().flatten().tolist() == [0, *range(990, 1000)]
    assert weights[0] == 1
    assert weights[990:].tolist() == [-1] * 10


def test_a_function_that_is_zero_everywhere_is_refused() -> None:
    with pytest.raises(ModelError, match="'top' and 'bottom' of the localizer are both 0"):
        ccam(top=0, bottom=0)


# --- ranking ---------------------------------------------------------------------------------------------------------


def test_ranks_follow_the_logits() -> None:
    logits = torch.tensor([[0.1, 3.0, -2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    assert ranks_of(logits).tolist() == [[2, 0, 3, 1], [0, 1, 2, 3]]


def test_equal_logits_are_ranked_by_their_place() -> None:
    assert ranks_of(torch.zeros(1, 50)).tolist() == [list(range(50))]


def test_the_class_asked_for_goes_first_and_the_others_keep_their_order() -> None:
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(size=(4, 9)))
    asked = torch.from_numpy(rng.integers(0, 9, (4, 3)))
    ranks = ranks_from(asked, ranks_of(logits))
    for image in range(4):
        likely_first = np.argsort(-logits[image].numpy()).tolist()
        for place, number in enumerate(asked[image].tolist()):
            order = [number] + [one for one in likely_first if one != number]
            assert np.argsort(ranks[image, place].numpy()).tolist() == order


# --- maps (eqs. 3 and 4) ---------------------------------------------------------------------------------------------


def map_by_hand(features: np.ndarray, kernel: np.ndarray, order: list[int], g: np.ndarray) -> np.ndarray:
    """K class maps, summed with the weights of their ranks; features (N, h, w), kernel (K, N)."""
    maps = [np.tensordot(kernel[number], features, 1) for number in order]
    return sum(weight * one for weight, one in zip(g, maps, strict=True))


@pytest.mark.parametrize("first", ["asked", "predicted"])
@pytest.mark.parametrize(
    "options",
    [
        {"top": 1, "bottom": 0}, {"top": 0, "bottom": 1}, {"top": 1, "bottom": 1}, {"top": 2, "bottom": 3}, {},
        *({**POLYNOMIAL, "degree": degree} for degree in (0, 1, 2, 3)), {**POLYNOMIAL, "pivot": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_map_is_the_weighted_sum_of_all_class_maps(options: dict[str, object], first: str) -> None:
    torch.manual_seed(1)
    localizer = awake(CCAM(small_vgg(), CLASSES, **options, first=first)).double()
    asked = torch.tensor([[0, 4, 2], [5, 1, NO_CLASS]])
    seen = localizer.localize(pictures().double(), asked)
    features = localizer.features(pictures().double())[-1].numpy()
    kernel = localizer.classifier.weight.flatten(1).numpy()
    g = weights_by_rank(localizer.config, CLASSES).numpy()
    for image, place in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        order = np.argsort(-seen.logits[image].numpy()).tolist()
        if first == "asked":
            number = int(asked[image, place])
            order = [number] + [one for one in order if one != number]
        expected = map_by_hand(features[image], kernel, order, g)
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(seen.maps[image, place], expected, rtol=1e-5, atol=1e-5)


def test_top_1_and_bottom_0_is_the_plain_class_activation_map() -> None:
    combined = ccam(top=1, bottom=0)
    plain = CAM(combined.backbone, CLASSES, background="none").eval()
    plain.load_state_dict(combined.state_dict())
    asked = torch.arange(CLASSES).repeat(2, 1)
    maps = combined.localize(pictures(), asked).maps
    assert torch.allclose(maps, plain.localize(pictures(), asked).maps, rtol=1e-4, atol=1e-4)


def test_two_classes_of_an_image_have_two_maps_unless_the_predicted_one_is_first() -> None:
    asked = torch.tensor([[0, 1], [2, 3]])
    own = ccam(**POLYNOMIAL).localize(pictures(), asked).maps
    same = ccam(**POLYNOMIAL, first="predicted").localize(pictures(), asked).maps
    assert (own[:, 0] - own[:, 1]).abs().max() > 0.1
    assert torch.equal(same[:, 0], same[:, 1])


def test_a_part_common_to_all_classes_cancels_where_the_weights_do() -> None:
    plain = ccam(**POLYNOMIAL)
    shifted = copy.deepcopy(plain)
    shifted.classifier.weight += torch.randn(1, *plain.classifier.weight.shape[1:])
    before, after = (one.localize(pictures(), torch.tensor([[0], [1]])).maps for one in (plain, shifted))
    assert before.abs().max() > 0.1
    assert torch.allclose(before, after, atol=1e-3)


def test_any_number_of_classes_works() -> None:
    for classes in (1, 2, 201):
        for options in ({}, POLYNOMIAL):
            seen = ccam(classes=classes, **options).localize(pictures(), torch.zeros((2, 1), dtype=torch.int64))
            assert seen.maps.isfinite().all()
            assert seen.maps.abs().max() > 0


def test_features_that_are_zero_give_a_map_of_zeros() -> None:
    localizer = nlccam()
    for norm in (localizer.backbone.stages[-1][-1], localizer.blocks["5"].norm):
        nn.init.zeros_(norm.bias)
    nn.init.zeros_(localizer.backbone.stages[-1][-1].weight)
    assert torch.equal(localizer.localize(pictures(), torch.tensor([[0], [1]])).maps, torch.zeros(2, 1, 4, 6))


def test_the_block_keeps_constant_features_constant() -> None:
    block = NonLocalBlock(8, 2).eval()
    nn.init.ones_(block.norm.weight)
    seen = block(torch.full((1, 8, 5, 7), 3.0))
    assert seen.isfinite().all()
    assert torch.allclose(seen, seen[:, :, :1, :1].expand_as(seen), atol=1e-6)


def test_no_class_asked_for_gives_no_map() -> None:
    seen = nlccam().localize(pictures(), torch.zeros((2, 0), dtype=torch.int64))
    assert tuple(seen.maps.shape[:2]) == (2, 0)


# --- the non-local block (eqs. 7 to 9) -------------------------------------------------------------------------------


def softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def block_by_hand(block: NonLocalBlock, features: Tensor) -> np.ndarray:
    """y = BN(k(h alpha)) + x with the whole HW x HW matrix; statistics of evaluation mode."""
    B, C, H, W = features.shape
    x = features.double().numpy().reshape(B, C, H * W)
    own = {name: value.double().numpy() for name, value in block.state_dict().items()}
    f, g, h, k = (own[f"{name}.weight"].reshape(len(own[f"{name}.weight"]), C) for name in "fghk")
    y = np.empty_like(x)
    for image in range(B):
        scores = (f @ x[image]).T @ (g @ x[image] + own["g.bias"][:, None])
        alpha = softmax(scores, axis=0)  # eq. 7
        mixed = k @ (h @ x[image] @ alpha)
        spread = np.sqrt(own["norm.running_var"] + block.norm.eps)
        z = (mixed - own["norm.running_mean"][:, None]) / spread[:, None]
        y[image] = own["norm.weight"][:, None] * z + own["norm.bias"][:, None] + x[image]  # eqs. 8, 9
    return y.reshape(B, C, H, W)


def random_block(channels: int = 12, embedding: int = 3) -> NonLocalBlock:
    torch.manual_seed(4)
    block = NonLocalBlock(channels, embedding)
    for value in block.parameters():
        nn.init.normal_(value, std=0.5)
    nn.init.normal_(block.norm.running_mean)
    nn.init.uniform_(block.norm.running_var, 0.5, 2)
    return block.eval()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("embedding", [1, 3, 12])
def test_the_block_is_that_of_equations_7_to_9(embedding: int, layout: torch.memory_format) -> None:
    block = random_block(embedding=embedding)
    features = torch.randn(2, 12, 5, 7).contiguous(memory_format=layout)
    expected = block_by_hand(block, features)
    assert np.abs(expected - features.numpy()).max() > 0.5, "the block has something to say"
    np.testing.assert_allclose(block(features), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(block.double()(features.double()), expected, rtol=1e-12, atol=1e-12)


def test_the_omitted_biases_would_have_no_effect() -> None:
    block = random_block()
    x = torch.randn(2, 12, 5, 7)
    shift = torch.randn(1, 12, 1, 1)
    plain = attention(block.f(x), block.g(x), block.h(x))
    assert torch.allclose(attention(block.f(x) + shift[:, :3], block.g(x), block.h(x)), plain, atol=1e-5)
    assert torch.allclose(attention(block.f(x), block.g(x), block.h(x) + shift), plain + shift, atol=1e-5)
    assert not torch.allclose(attention(block.f(x), block.g(x) + shift[:, :3], block.h(x)), plain, atol=1e-2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_does_not_store_the_matrix_of_all_pairs(layout: torch.memory_format) -> None:
    """The memory-efficient kernel raises where it does not apply; with gradients too."""
    features = torch.randn(1, 16, 20, 30).contiguous(memory_format=layout)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        seen = random_block(16, 2)(features.requires_grad_())
        seen.sum().backward()
    assert features.grad.isfinite().all()


def test_gradients_of_the_block_are_those_of_finite_differences() -> None:
    block = random_block(4, 2).double()
    features = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        assert torch.autograd.gradcheck(block, (features,))


def test_the_block_runs_in_full_precision_under_autocast() -> None:
    block = random_block()
    features = 30 * torch.randn(2, 12, 5, 7, dtype=torch.bfloat16)  # scores of some thousands
    with torch.autocast("cpu", torch.bfloat16):
        seen = block(features)
    assert seen.dtype == torch.bfloat16
    assert torch.equal(seen, block(features.float()).bfloat16())


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_new_blocks_are_the_identity(training: bool) -> None:
    backbone, _ = build("efficientnet_lite0")
    localizer = NLCCAM(backbone, CLASSES).train(training)
    backbone.eval()
    for own, plain in zip(localizer.features(pictures()), backbone(pictures()), strict=True):
        # what a block adds is exactly zero, but its sum may lie otherwise in memory, and kernels round by that
        torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def test_blocks_follow_every_stage_but_the_first() -> None:
    localizer = nlccam()
    assert list(localizer.blocks) == ["2", "3", "4", "5"]
    assert [block.h.in_channels for block in localizer.blocks.values()] == list(localizer.backbone.channels[1:])


def test_a_backbone_of_one_stage_has_its_block_at_the_end() -> None:
    pixels = Backbone("pixels", StageSpec([nn.Conv2d(3, 8, 3)], (8,), (1,), None))
    assert list(NLCCAM(pixels, CLASSES).blocks) == ["1"]


def test_blocks_are_placed_by_option_after() -> None:
    assert list(nlccam(after=(4, 2, 2)).blocks) == ["2", "4"]
    assert list(nlccam(after="2, 4").blocks) == ["2", "4"]
    assert list(nlccam(after=[]).blocks) == list(nlccam(after="none").blocks) == []


def test_without_blocks_it_is_vggnet_ccam_on_vgg16() -> None:
    """VGGnet-GAP's layers: those of VGG16, the convolution with 1024 channels, and the class layer without a bias."""
    with torch.device("meta"):
        backbone = build("vgg16")[0]
        inherited = sum(value.numel() for value in backbone.parameters())
        localizer = NLCCAM(backbone, 200, after="none")
    added = sum(value.numel() for value in localizer.parameters()) - inherited
    assert added == (512 * 1024 * 9 + 1024) + 1024 * 200


@pytest.mark.parametrize("after", [[0], [6], [2, 7]])
def test_a_missing_stage_is_named_in_the_error(after: list[int]) -> None:
    with pytest.raises(ModelError, match=rf"there is no stage {after[-1]}; efficientnet_lite0 has stages 1 to 5"):
        nlccam(after=after)


def test_each_stage_gets_the_output_of_the_block_before_it() -> None:
    localizer = nlccam(after=[3, 5])
    stages, features = localizer.backbone.stages, localizer.features(pictures())
    third = localizer.blocks["3"](stages[2](features[1]))
    assert torch.equal(features[2], third)
    assert torch.equal(features[4], localizer.blocks["5"](stages[4](stages[3](third))))
    assert not torch.allclose(features[2], stages[2](features[1]), atol=0.1)


def test_the_embedding_is_an_eighth_of_the_channels() -> None:
    assert [block.f.out_channels for block in nlccam().blocks.values()] == [3, 5, 14, 160]
    assert [block.g.out_channels for block in nlccam(reduction=2).blocks.values()] == [12, 20, 56, 640]
    assert nlccam(reduction=1000).blocks["2"].f.out_channels == 1, "never none"


@pytest.mark.parametrize(("pooling", "sides"), [("before", [16, 8]), ("after", [8, 8])])
def test_blocks_are_placed_before_or_after_the_pooling(pooling: str, sides: list[int]) -> None:
    localizer = NLCCAM(small_vgg(), CLASSES, pooling=pooling).eval()
    seen: dict[str, int] = {}
    for number, block in localizer.blocks.items():
        block.register_forward_hook(lambda _, given, __, number=number: seen.update({number: given[0].shape[-1]}))
    features = localizer.features(pictures(1, 32, 32))
    assert seen == dict(zip("23", sides, strict=True))
    for own, plain in zip(features, localizer.backbone(pictures(1, 32, 32)), strict=False):
        assert torch.equal(own, plain), "a new block changes nothing, and every module runs once"


def test_a_block_after_the_pooling_gets_the_pooled_features() -> None:
    localizer = awake(NLCCAM(small_vgg(), CLASSES, pooling="after", after=[1], convolution=0))
    first, second, third = localizer.backbone.stages
    features = localizer.features(pictures())
    pooled = localizer.blocks["1"](second[0](first(localizer.backbone.normalise(pictures()))))
    assert torch.equal(features[1], second[2](second[1](pooled)))
    assert torch.equal(features[2], third(features[1]))


def test_a_vgg_gets_the_convolution_of_vggnet_gap() -> None:
    localizer = NLCCAM(small_vgg(), CLASSES).eval()
    *_, last, widened = localizer.features(pictures())
    assert (localizer.classifier.in_channels, widened.shape[1]) == (1024, 1024)
    assert torch.equal(widened, localizer.added(last))
    assert localizer.localize(pictures(), torch.tensor([[0], [1]])).maps.shape == (2, 1, 16, 24)
    assert NLCCAM(small_vgg(), CLASSES, convolution=0).classifier.in_channels == 16
    assert NLCCAM(small_vgg(), CLASSES, convolution=32).classifier.in_channels == 32
    assert nlccam().classifier.in_channels == 1280
    assert nlccam(convolution=32).localize(pictures(), torch.tensor([[0], [1]])).maps.shape == (2, 1, 4, 6)


def test_the_head_has_a_bias_if_set() -> None:
    assert nlccam().classifier.bias is None
    assert nlccam(bias=True).classifier.bias.shape == (CLASSES,)


@pytest.mark.parametrize("name", ["ccam", "nlccam"])
@pytest.mark.parametrize(("height", "width"), [(225, 371), (33, 47)])
def test_odd_sizes_and_batches_of_one_are_localized(name: str, height: int, width: int) -> None:
    localizer = nlccam() if name == "nlccam" else ccam()
    images = pictures(1, height, width).contiguous(memory_format=torch.channels_last)
    seen = localizer.localize(images, torch.tensor([[2, NO_CLASS]]))
    assert tuple(seen.maps.shape) == (1, 2, -(-height // 16), -(-width // 16))
    assert seen.maps.isfinite().all()


def test_maps_do_not_depend_on_the_other_images_of_the_batch() -> None:
    localizer = nlccam(**POLYNOMIAL)
    asked = torch.tensor([[0], [1], [2]])
    together = localizer.localize(pictures(3), asked)
    for place in range(3):
        alone = localizer.localize(pictures(3)[place : place + 1], asked[place : place + 1])
        assert torch.allclose(alone.maps[0], together.maps[place], rtol=1e-3, atol=1e-3)


def test_preparing_for_inference_does_not_change_the_maps() -> None:
    localizer = nlccam()
    before = localizer.localize(pictures(), torch.tensor([[0], [1]]))
    after = prepare_for_inference(copy.deepcopy(localizer), torch.device("cpu")).localize(
        pictures(), torch.tensor([[0], [1]])
    )
    scale = float(before.maps.abs().max())
    assert scale > 0.1
    assert torch.allclose(after.maps, before.maps, rtol=0, atol=1e-3 * scale)
    assert torch.allclose(after.logits, before.logits, rtol=0, atol=1e-3 * float(before.logits.abs().max()))


def test_results_are_float32_under_autocast() -> None:
    localizer = nlccam()
    with torch.autocast("cpu", torch.bfloat16):
        seen = localizer.localize(pictures(), torch.tensor([[0], [1]]))
    assert (seen.logits.dtype, seen.maps.dtype) == (torch.float32, torch.float32)
    assert seen.maps.isfinite().all()


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "targets"), [("single", torch.eye(CLASSES)[:2]), ("multi", torch.ones(2, CLASSES))]
)
def test_a_step_gives_gradients_to_new_parameters_only(objective: str, targets: Tensor) -> None:
    localizer = nlccam()
    localizer.freeze_backbone()
    with torch.enable_grad():
        losses = localizer.train().training_step(pictures(), targets, ClassificationLoss(objective))
        sum(losses.values()).backward()
    assert list(losses) == ["classification"]
    assert all(value.grad is None for value in localizer.backbone.parameters())
    new = {name: value for name, value in localizer.named_parameters() if not name.startswith("backbone.")}
    assert [name for name, value in new.items() if value.grad is None or not value.grad.any()] == []


def test_the_first_step_changes_the_blocks_norm_and_the_next_the_rest() -> None:
    localizer = NLCCAM(build("efficientnet_lite0")[0], CLASSES)
    localizer.freeze_backbone()
    optimizer = torch.optim.SGD(localizer.parameter_groups(0.1))
    moved = []
    with torch.enable_grad():
        for _ in range(2):
            optimizer.zero_grad()
            localizer.train().training_step(pictures(), torch.eye(CLASSES)[:2], ClassificationLoss("single"))[
                "classification"
            ].backward()
            moved.append({name for name, value in localizer.blocks.named_parameters() if value.grad.any()})
            optimizer.step()
    assert {name.split(".")[1] for name in moved[0]} == {"norm"}
    assert {name.split(".")[1] for name in moved[1]} == {"f", "g", "h", "k", "norm"}


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_loss_falls_on_eight_small_images(frozen: bool) -> None:
    torch.manual_seed(0)
    localizer = NLCCAM(build("efficientnet_lite0")[0], 2)
    if frozen:
        localizer.freeze_backbone()
    images, targets = pictures(8, 64, 64), torch.eye(2).repeat(4, 1)
    images[::2, 0, 16:48, 16:48] = 255
    optimizer = torch.optim.AdamW(localizer.train().parameter_groups(0.01))
    losses = []
    with torch.enable_grad():
        for _ in range(12):
            loss = localizer.training_step(images, targets, ClassificationLoss("single"))["classification"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(2), rel=0.2)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(("options", "rate"), [({}, 0.05), ({"backbone_rate": 1}, 0.5)])
def test_new_layers_are_trained_at_the_full_rate(options: dict[str, object], rate: float) -> None:
    localizer = nlccam(**options)
    names = {id(value): name for name, value in localizer.named_parameters()}
    given = {names[id(v)]: group["lr"] for group in localizer.parameter_groups(0.5) for v in group["params"]}
    assert set(given) == set(names.values())
    assert {value for name, value in given.items() if name.startswith("backbone.")} == {rate}
    assert {value for name, value in given.items() if not name.startswith("backbone.")} == {0.5}


# --- model folders ---------------------------------------------------------------------------------------------------


def card_of(localizer: str, **options: object) -> ModelCard:
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    return ModelCard(localizer, "efficientnet_lite0", "single", listed, 64, {}, options=options)


def save(folder: Path, card: ModelCard) -> Localizer:
    torch.manual_seed(5)
    localizer = awake(build_localizer(card)[0])
    save_model(folder, localizer, card)
    return localizer


def test_a_loaded_model_is_bitwise_equal(tmp_path: Path) -> None:
    saved = save(tmp_path, card_of("nlccam", after=[3, 5], reduction=4, convolution=16, bias=True))
    loaded, _ = load_model(tmp_path)
    asked = torch.tensor([[0, 2], [1, NO_CLASS]])
    before, after = saved.localize(pictures(), asked), loaded.localize(pictures(), asked)
    assert list(loaded.blocks) == ["3", "5"]
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.maps, after.maps)


TABLE_6 = {
    **{f"top-{i} & bottom-{j}": {"top": i, "bottom": j} for i, j in ((1, 0), (0, 1), (1, 1), (1, 10), (1, 20))},
    **{f"eta = {degree}": {"function": "polynomial", "degree": degree} for degree in range(4)},
}


@pytest.mark.parametrize("function", TABLE_6)
def test_all_functions_of_table_6_work_on_one_trained_model(tmp_path: Path, function: str) -> None:
    trained = save(tmp_path, card_of("nlccam", after=[5]))
    mined, card = load_model(tmp_path, MineOptions(options=TABLE_6[function]))
    assert card.options == {"after": [5], "bottom": None, **TABLE_6[function]}
    asked = torch.tensor([[0], [1]])
    before, after = trained.localize(pictures(), asked), mined.localize(pictures(), asked)
    assert torch.equal(before.logits, after.logits)
    is_default = TABLE_6[function] == {"top": 1, "bottom": 1}
    assert torch.equal(before.maps, after.maps) is is_default


def test_the_maps_of_a_plain_classifier_are_combined_without_training(tmp_path: Path) -> None:
    trained = save(tmp_path, card_of("cam", background="none"))
    mined, _ = load_model(tmp_path, MineOptions(localizer="ccam", options={"top": 1, "bottom": 1}))
    asked = torch.arange(CLASSES).repeat(2, 1)
    maps = trained.localize(pictures(), asked).maps
    seen = mined.localize(pictures(), asked[:, :1])
    lowest = seen.logits.argmin(dim=1)
    assert lowest.tolist() != [0, 0]
    expected = maps[:, 0] - maps[torch.arange(2), lowest]
    assert torch.allclose(seen.maps[:, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fuction": "polynomial"}, "Unknown option 'fuction' of the localizer: did you mean 'function'"),
        ({"function": "cubic"}, "Option 'function' of the localizer: .*'cubic'"),
        ({"top": -1}, "Option 'top' of the localizer: .*-1"),
        ({"reduction": 0}, "Option 'reduction' of the localizer: .*0"),
        ({"after": "two"}, "Option 'after' of the localizer: .*two"),
        ({"pooling": "never"}, "Option 'pooling' of the localizer"),
    ],
)
def test_an_invalid_option_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        NLCCAM(small_vgg(), CLASSES, **options)
