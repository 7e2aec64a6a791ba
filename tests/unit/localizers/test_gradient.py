"""Grad-CAM, Grad-CAM++ and LayerCAM against their equations in double precision."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.config import MineOptions
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, ClassificationLoss
from mining.localizers.cam import CAM
from mining.localizers.gradient import (
    GradCAM,
    GradCAMpp,
    GradientLocalizer,
    LayerCAM,
    Stage,
    constant,
    gradcam_weights,
    gradcampp_alphas,
    gradcampp_weights,
    layercam_map,
    split_columns,
    weighted_sum,
)
from mining.localizers.msrd import MSRD
from mining.models.card import ModelCard
from mining.models.checkpoint import load_model, save_model
from mining.models.fuse_batchnorm import prepare_for_inference

CLASSES = 4
KINDS = (GradCAM, GradCAMpp, LayerCAM, MSRD)
BASELINES = (GradCAM, GradCAMpp, LayerCAM)


def small(kind: type[GradientLocalizer], *, smooth: bool = False, classes: int = CLASSES, **options: Any) -> Any:
    """A localizer on a small network of two strides and three stages, in double precision."""
    torch.manual_seed(3)

    def act() -> nn.Module:
        return nn.Softplus() if smooth else nn.ReLU()

    stages = [
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), act()),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 5, 3, padding=1), act()),
        nn.Sequential(nn.Conv2d(5, 6, 3, padding=1), act()),
    ]
    anatomy = StageSpec(stages, (4, 5, 6), (1, 2, 2), None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    localizer = kind(Backbone("small", anatomy), classes, **options).double().eval()
    nn.init.normal_(localizer.classifier.weight)
    nn.init.normal_(localizer.classifier.bias)
    return localizer


def lite(kind: type[GradientLocalizer] | type[CAM], *, backbone: str = "efficientnet_lite0", **options: Any) -> Any:
    """A localizer on a real network of random weights, with batch norms that are not the identity."""
    torch.manual_seed(1)
    localizer = kind(build(backbone)[0], CLASSES, **options)
    nn.init.normal_(localizer.classifier.weight)
    for part in localizer.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.2)
            nn.init.uniform_(part.bias, -0.1, 0.1)
    return localizer.eval()


def noise(count: int = 2, height: int = 6, width: int = 8) -> Tensor:
    return torch.rand(count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 2 - 1


def pictures(count: int = 2, height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def from_stage(localizer: GradientLocalizer, layer: int, activation: Tensor) -> Tensor:
    """The logits, computed from the activation of a stage on."""
    for stage in list(localizer.backbone.stages)[layer + 1 :]:
        activation = stage(activation)
    return localizer.logits(activation)


def activation_and_gradient(localizer: GradientLocalizer, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    (activation,), logits = localizer.trace(images)
    (gradient,) = torch.autograd.grad(logits, [activation], localizer.direction(classes, logits))
    return activation.detach(), gradient


def plainly_mapped(localizer: GradientLocalizer, images: Tensor, classes: Tensor) -> Tensor:
    """The maps of (B, K) classes, each by autograd through the whole network with all parameters and all images."""
    read = localizer.stages_read()
    maps = []
    for column in classes.unbind(dim=1):
        with torch.enable_grad():
            every = localizer.backbone(images)
            logits = localizer.logits(every[-1])
            score = (logits * localizer.direction(column, logits)).sum(dim=1)
            gradients = torch.autograd.grad(score.sum(), [every[number] for number in read])
        stages = [Stage(every[number].detach(), one) for number, one in zip(read, gradients, strict=True)]
        maps.append(localizer.map_of(stages, score.detach()))
    return torch.stack(maps, dim=1)


def random_pair(*, negative: bool = False) -> tuple[Tensor, Tensor]:
    """An activation and a gradient of (2, 3, 4, 5), the gradient with exact zeros."""
    generator = torch.Generator().manual_seed(6)
    activation = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    gradient = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    gradient[:, :, ::2, 1] = 0
    return (activation if negative else activation.relu()), gradient


@pytest.fixture(autouse=True)
def _no_gradients_unless_the_method_asks_for_them() -> Any:
    with torch.no_grad():
        yield


# --- the equations, by hand ------------------------------------------------------------------------------------------


def test_gradcam_weights_a_channel_by_its_mean_gradient() -> None:
    activation, gradient = (one.numpy() for one in random_pair())
    expected = np.zeros((2, 4, 5))
    for image in range(2):
        for channel in range(3):
            expected[image] += gradient[image, channel].sum() / 20 * activation[image, channel]
    weights = gradcam_weights(torch.from_numpy(gradient))
    np.testing.assert_allclose(weighted_sum(weights, torch.from_numpy(activation)), expected, rtol=1e-12, atol=1e-14)


def test_layercam_weights_a_cell_by_its_positive_gradient() -> None:
    activation, gradient = random_pair()
    expected = np.zeros((2, 4, 5))
    for image, channel, y, x in np.ndindex(2, 3, 4, 5):
        g = float(gradient[image, channel, y, x])
        expected[image, y, x] += max(g, 0) * float(activation[image, channel, y, x])
    np.testing.assert_allclose(layercam_map(activation, gradient), expected, rtol=1e-12)


def alphas_by_hand(activation: Tensor, gradient: Tensor, eps: float) -> np.ndarray:
    alphas = np.zeros((2, 3, 4, 5))
    for image, channel, y, x in np.ndindex(2, 3, 4, 5):
        g, total = float(gradient[image, channel, y, x]), float(activation[image, channel].sum())
        if g:
            alphas[image, channel, y, x] = g**2 / (2 * g**2 + total * g**3 + eps)
    return alphas


@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.5])
@pytest.mark.parametrize("negative", [False, True])
def test_the_alphas_and_weights_of_gradcampp_are_those_of_the_equations(eps: float, negative: bool) -> None:
    activation, gradient = random_pair(negative=negative)
    alphas = alphas_by_hand(activation, gradient, eps)
    np.testing.assert_allclose(gradcampp_alphas(activation, gradient, eps=eps), alphas, rtol=1e-10)
    expected = (alphas * np.maximum(gradient.numpy(), 0)).sum(axis=(2, 3))
    np.testing.assert_allclose(gradcampp_weights(activation, gradient, eps=eps), expected, rtol=1e-10)


def test_gradients_too_small_to_be_squared_have_finite_alphas() -> None:
    activation = torch.ones(1, 1, 2, 2)
    gradient = torch.full((1, 1, 2, 2), 1e-30)
    assert gradcampp_alphas(activation, gradient).tolist() == torch.full((1, 1, 2, 2), 0.5).tolist()
    assert gradcampp_alphas(activation, gradient, eps=1e-6).max() == 0, "which eps does not leave"


def test_alphas_without_a_denominator_are_zero() -> None:
    activation = torch.ones(1, 1, 1, 2)
    alphas = gradcampp_alphas(activation, torch.tensor([[[[-1.0, 0.0]]]]))  # 2 + 2 * -1 = 0
    assert alphas.tolist() == [[[[0, 0]]]]


def test_positive_gradients_of_positive_activations_have_alphas_up_to_one_half() -> None:
    activation, gradient = random_pair()
    alphas = gradcampp_alphas(activation, gradient.relu())
    assert torch.equal(alphas > 0, gradient > 0)
    assert 0.3 < float(alphas.max()) <= 0.5


def test_equation_19_holds_with_the_second_and_third_derivatives_of_exp_score() -> None:
    """Between two kinks a ReLU network is linear in each cell, which is what the paper's short form supposes."""
    localizer = small(GradCAMpp, layer=1, score="exp")
    image, wanted = noise(1), torch.tensor([2])
    activation, gradient = activation_and_gradient(localizer, image, wanted)
    alphas = gradcampp_alphas(activation, gradient)
    weights = torch.zeros(1, 5, dtype=torch.float64)
    with torch.enable_grad():
        for channel, y, x in np.ndindex(5, 3, 4):
            moved = torch.zeros((), dtype=torch.float64, requires_grad=True)
            cell = torch.zeros_like(activation)
            cell[0, channel, y, x] = 1
            derivatives = [from_stage(localizer, 1, activation + moved * cell)[0, 2].exp()]
            for _ in range(3):
                derivatives += torch.autograd.grad(derivatives[-1], moved, create_graph=True)
            first, second, third = derivatives[1:]
            if first == 0:
                continue
            alpha = second / (2 * second + activation[0, channel].sum() * third)
            assert float(alphas[0, channel, y, x]) == pytest.approx(float(alpha.detach()), rel=1e-9)
            weights[0, channel] += (alpha * first.relu()).detach()
    expected = torch.einsum("bd,bdhw->bhw", weights, activation).relu()
    seen = localizer.localize(image, wanted[:, None])
    assert float(expected.max()) > 0
    np.testing.assert_allclose(seen.maps[:, 0], expected, rtol=1e-5)


# --- the gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["none", "mean"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_gradients_are_the_finite_differences_of_the_score(layer: int, background: str) -> None:
    localizer = small(GradCAM, smooth=True, layer=layer, background=background)
    classes = torch.tensor([2, 0])
    activation, gradient = activation_and_gradient(localizer, noise(), classes)

    def scores(moved: Tensor) -> Tensor:
        logits = from_stage(localizer, layer, moved)
        own = logits[torch.arange(2), classes]
        return own - logits.mean(dim=1) if background == "mean" else own

    step = 1e-5
    for channel, y, x in ((0, 0, 0), (1, 2, 3), (3, 1, 2), (2, 2, 0)):
        change = torch.zeros_like(activation)
        change[:, channel, y, x] = step
        expected = (scores(activation + change) - scores(activation - change)) / (2 * step)
        assert expected.abs().min() > 1e-5
        np.testing.assert_allclose(gradient[:, channel, y, x], expected, rtol=1e-6)


def test_stages_below_the_one_read_keep_nothing_for_gradients() -> None:
    localizer = small(GradCAM, layer=1)
    (activation,), logits = localizer.trace(noise())
    assert activation.is_leaf
    assert logits.requires_grad
    localizer.localize(noise(), torch.tensor([[1], [2]]))
    assert all(value.grad is None for value in localizer.parameters())


def leaves(graph: Any) -> list[Tensor]:
    """Tensors that autograd would keep for a gradient."""
    below = [leaves(one) for one, _ in graph.next_functions if one is not None]
    return [graph.variable] if hasattr(graph, "variable") else [leaf for some in below for leaf in some]


def test_autograd_keeps_nothing_for_the_parameters() -> None:
    localizer = small(GradCAM, layer=0)
    (activation,), logits = localizer.trace(noise())
    assert {id(leaf) for leaf in leaves(logits.grad_fn)} == {id(activation)}
    with torch.enable_grad():
        assert len(leaves(localizer(noise()).grad_fn)) == len(list(localizer.parameters()))


def test_requires_grad_is_restored_after_an_error() -> None:
    localizer = small(GradCAM)
    localizer.classifier.requires_grad_(False)
    with pytest.raises(ZeroDivisionError), constant(localizer.parameters()):
        assert not any(one.requires_grad for one in localizer.parameters())
        raise ZeroDivisionError
    assert all(one.requires_grad for one in localizer.backbone.parameters())
    assert not any(one.requires_grad for one in localizer.classifier.parameters())


@pytest.mark.parametrize("background", ["none", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_at_the_last_stage_needs_no_backward_pass(kind: type[GradientLocalizer], background: str) -> None:
    localizer = small(kind, background=background)
    classes = torch.tensor([2, NO_CLASS])
    activations, logits = localizer.trace(noise())
    direction = localizer.direction(classes, logits)
    (expected,) = torch.autograd.grad(logits, activations[-1:], direction, retain_graph=True)
    gradient = localizer.gradients(activations, logits, direction)[-1]
    assert gradient.shape == (2, 6, 1, 1)
    assert gradient.abs().max() > 0.01
    torch.testing.assert_close(gradient.expand_as(expected), expected, rtol=1e-12, atol=1e-15)


def test_a_constant_gradient_may_be_given_as_one_cell() -> None:
    activation, gradient = random_pair()
    once = gradient[:, :, 1:2, 2:3]
    spread = once.expand_as(activation)
    assert once.min() < 0 < once.max()
    for of in (
        lambda g: gradcam_weights(g),
        lambda g: gradcampp_alphas(activation, g) + torch.zeros_like(activation),
        lambda g: gradcampp_weights(activation, g),
        lambda g: gradcampp_weights(activation, g, eps=0.01),
        lambda g: layercam_map(activation, g),
        lambda g: small(MSRD).layer_map(Stage(activation, g)),
        lambda g: small(MSRD, window=5, stride=2, delta=0.05, negative="kept").layer_map(Stage(activation, g)),
    ):
        assert of(once).abs().max() > 0
        torch.testing.assert_close(of(once), of(spread), rtol=1e-12, atol=1e-14)


# --- against autograd through everything -----------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["none", "mean"])
@pytest.mark.parametrize(("kind", "options"), [*((kind, {"layer": layer}) for kind in BASELINES for layer in (0, 1, 2)), (MSRD, {})])  # fmt: skip
def test_maps_equal_those_of_autograd_through_the_whole_network(
    kind: type[GradientLocalizer], options: dict[str, Any], background: str
) -> None:
    localizer = small(kind, background=background, **options)
    classes = torch.tensor([[3, 1], [0, 2]])
    expected = plainly_mapped(localizer, noise(), classes)
    seen = localizer.localize(noise(), classes)
    assert expected.abs().max() > 0
    np.testing.assert_allclose(seen.maps, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "mobilenet_v2"])
@pytest.mark.parametrize(("kind", "options"), [(GradCAMpp, {}), (LayerCAM, {"layer": -2}), (MSRD, {})])
def test_maps_of_a_prepared_network_equal_those_of_autograd_through_the_whole_network(
    kind: type[GradientLocalizer], options: dict[str, Any], backbone: str
) -> None:
    localizer = prepare_for_inference(lite(kind, backbone=backbone, background="mean", **options), torch.device("cpu"))
    classes = torch.tensor([[0, 3], [2, 1]])
    expected = plainly_mapped(localizer.requires_grad_(), pictures(), classes)
    seen = localizer.requires_grad_(False).localize(pictures(), classes)
    assert expected.std() > 0
    np.testing.assert_allclose(seen.maps, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


RAGGED = [
    [3, 0, 2],
    [1, NO_CLASS, NO_CLASS],
    [2, 1, NO_CLASS],
    [0, NO_CLASS, NO_CLASS],
    [0, NO_CLASS, NO_CLASS],
]


@pytest.mark.parametrize("kind", KINDS)
def test_classes_of_few_images_have_the_same_maps_as_shared_ones(kind: type[GradientLocalizer]) -> None:
    options = {} if kind is MSRD else {"layer": 1, "relu": False}
    localizer, classes = small(kind, **options), torch.tensor(RAGGED)
    assert len(split_columns(classes)[1]) == 3
    expected = plainly_mapped(localizer, noise(5), classes)
    seen = localizer.localize(noise(5), classes)
    asked = classes != NO_CLASS
    assert torch.equal(seen.classes, classes)
    assert (expected[asked].abs().amax(dim=(1, 2)) > 0).all()
    np.testing.assert_allclose(seen.maps[asked], expected[asked], rtol=1e-6, atol=1e-7 * float(expected.abs().max()))


def test_columns_that_less_than_half_of_the_images_have_are_separate() -> None:
    def taken(classes: list[list[int]]) -> tuple[list[int], list[list[int]]]:
        together, apart = split_columns(torch.tensor(classes))
        return together, apart.tolist()

    assert taken(RAGGED) == ([0], [[0, 1], [0, 2], [2, 1]])
    assert taken(RAGGED[:4]) == ([0, 1], [[0, 2]])
    assert taken(RAGGED[:1]) == ([0, 1, 2], []), "one image has no column that is others'"
    assert taken([[NO_CLASS, NO_CLASS, 1], [0, NO_CLASS, 1], [0, 1, 2]]) == ([0, 2], [[2, 1]])


@pytest.mark.parametrize("kind", KINDS)
def test_results_carry_no_autograd_graph(kind: type[GradientLocalizer]) -> None:
    with torch.enable_grad():
        seen = small(kind).localize(noise(), torch.tensor([[1], [2]]))
    assert not seen.logits.requires_grad
    assert not seen.maps.requires_grad


# --- maps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1, -1])
@pytest.mark.parametrize("kind", BASELINES)
def test_a_map_is_the_method_applied_to_the_named_stage(kind: type[GradientLocalizer], layer: int) -> None:
    localizer = small(kind, layer=layer)
    classes = torch.tensor([[3, 1], [0, 2]])
    seen = localizer.localize(noise(), classes)
    for place in range(2):
        activation, gradient = activation_and_gradient(localizer, noise(), classes[:, place])
        expected = {
            GradCAM: lambda a, g: weighted_sum(gradcam_weights(g), a),
            GradCAMpp: lambda a, g: weighted_sum(gradcampp_weights(a, g), a),
            LayerCAM: layercam_map,
        }[kind](activation, gradient)
        assert seen.maps[:, place].shape == expected.shape == ((2, 6, 8) if layer == 0 else (2, 3, 4))
        np.testing.assert_allclose(seen.maps[:, place], expected.relu(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("background", ["none", "mean"])
def test_at_the_last_stage_gradcam_is_the_positive_part_of_cam(background: str) -> None:
    cam, gradcam = lite(CAM, background=background), lite(GradCAM, background=background)
    classes = torch.tensor([[0, 3], [2, 1]])
    expected = cam.localize(pictures(), classes)
    seen = gradcam.localize(pictures(), classes)
    cells = seen.maps.shape[2] * seen.maps.shape[3]
    assert expected.maps.min() < -1 < 1 < expected.maps.max()
    np.testing.assert_allclose(seen.maps, expected.maps.relu() / cells, rtol=1e-3, atol=1e-4)
    assert torch.allclose(seen.logits, expected.logits, atol=1e-4)


def test_without_relu_negative_activation_is_kept() -> None:
    classes = torch.tensor([[0], [2]])
    plain, cut = (small(GradCAM, relu=relu).localize(noise(), classes).maps for relu in (False, True))
    assert plain.min() < -0.005
    assert torch.equal(cut, plain.relu())


def test_exp_multiplies_an_images_map_by_the_exponential_of_its_score() -> None:
    classes = torch.tensor([[1], [3]])
    plain = small(GradCAMpp, layer=1).localize(noise(), classes)
    exp = small(GradCAMpp, layer=1, score="exp").localize(noise(), classes)
    factor = plain.logits.gather(1, classes).exp()[:, :, None, None]
    assert (factor - 1).abs().min() > 0.05
    np.testing.assert_allclose(exp.maps, plain.maps * factor, rtol=1e-5)


def test_eps_reaches_the_map() -> None:
    classes = torch.tensor([[1], [3]])
    localizer = small(GradCAMpp, layer=1, eps=0.01)
    activation, gradient = activation_and_gradient(localizer, noise(), classes[:, 0])
    expected = weighted_sum(gradcampp_weights(activation, gradient, eps=0.01), activation)
    seen = localizer.localize(noise(), classes).maps
    np.testing.assert_allclose(seen[:, 0], expected, rtol=1e-5)
    assert not torch.allclose(seen, small(GradCAMpp, layer=1).localize(noise(), classes).maps, rtol=0.05)


def test_a_single_class_has_no_background_to_subtract() -> None:
    asked = torch.zeros(2, 1, dtype=torch.int64)
    plain, mean = (
        small(GradCAM, relu=False, classes=1, background=background).localize(noise(), asked).maps
        for background in ("none", "mean")
    )
    assert plain.abs().max() > 0
    assert torch.equal(plain, mean)


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_gets_its_own_classes_in_the_order_asked(kind: type[GradientLocalizer]) -> None:
    localizer = small(kind)
    asked = torch.tensor([[3, 0, 2], [1, NO_CLASS, NO_CLASS]])
    seen = localizer.localize(noise(), asked)
    every = localizer.localize(noise(), torch.arange(CLASSES).repeat(2, 1)).maps
    assert torch.equal(seen.classes, asked)
    assert not torch.allclose(every[0, 3], every[0, 0])
    for image, place in ((0, 0), (0, 1), (0, 2), (1, 0)):
        assert torch.allclose(seen.maps[image, place], every[image, asked[image, place]], rtol=1e-6)
    assert seen.maps.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_classes_chosen_from_the_logits_have_the_same_maps(kind: type[GradientLocalizer]) -> None:
    localizer = small(kind)
    chosen = localizer.localize(noise(), lambda logits: logits.topk(2).indices)
    named = localizer.localize(noise(), chosen.classes)
    assert torch.equal(chosen.maps, named.maps)
    assert torch.equal(chosen.classes, chosen.logits.topk(2).indices)


@pytest.mark.parametrize("kind", KINDS)
def test_no_class_asked_for_gives_an_empty_stack_of_maps_of_the_right_size(kind: type[GradientLocalizer]) -> None:
    localizer = small(kind)
    none = localizer.localize(noise(), torch.zeros((2, 0), dtype=torch.int64))
    one = localizer.localize(noise(), torch.zeros((2, 1), dtype=torch.int64))
    assert none.maps.shape == (2, 0, *one.maps.shape[2:])
    assert torch.equal(none.logits, one.logits)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_without_structure_gives_a_constant_map(kind: type[GradientLocalizer]) -> None:
    localizer = small(kind)
    for part in localizer.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
            part.padding_mode, part._reversed_padding_repeated_twice = "replicate", [1, 1, 1, 1]
    seen = localizer.localize(torch.full((1, 3, 6, 8), 0.5, dtype=torch.float64), torch.tensor([[0, 1, 2, 3]]))
    assert seen.maps.isfinite().all()
    inner = seen.maps[..., 1:-1, 1:-1].flatten(2)
    assert torch.allclose(inner.amax(dim=2), inner.amin(dim=2), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_network_gives_zeros(kind: type[GradientLocalizer]) -> None:
    localizer = small(kind)
    for value in localizer.backbone.parameters():
        value.zero_()
    assert localizer.localize(noise(), torch.tensor([[0, 1], [2, 3]])).maps.abs().max() == 0


# --- on real networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_of_an_odd_size_is_mapped(kind: type[GradientLocalizer]) -> None:
    localizer = lite(kind, backbone="mobilenet_v2", background="mean")  # so that some class has a positive map
    seen = localizer.localize(pictures(1, 225, 371), torch.arange(CLASSES)[None])
    assert tuple(seen.maps.shape) == (1, CLASSES, *((29, 47) if kind is MSRD else (15, 24)))
    assert seen.maps.max() > seen.maps.min()


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_for_inference_does_not_change_the_maps(kind: type[GradientLocalizer]) -> None:
    localizer = lite(kind)
    classes = torch.tensor([[0, 3], [2, 1]])
    before = localizer.localize(pictures(), classes)
    quick = prepare_for_inference(copy.deepcopy(localizer), torch.device("cpu"))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in quick.modules())
    after = quick.localize(pictures().to(memory_format=torch.channels_last), classes)
    assert torch.allclose(before.maps, after.maps, atol=1e-2 * float(before.maps.abs().max()))
    assert torch.allclose(before.logits, after.logits, atol=1e-3 * float(before.logits.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_under_reduced_precision_gradients_and_maps_stay_float32(kind: type[GradientLocalizer]) -> None:
    localizer = lite(kind)
    classes = torch.tensor([[0, 3], [2, 1]])
    full = localizer.localize(pictures(), classes)
    with torch.autocast("cpu", torch.bfloat16):
        activations, logits = localizer.trace(pictures())
        seen = localizer.localize(pictures(), classes)
    assert {one.dtype for one in (*activations, logits, seen.maps, seen.logits)} == {torch.float32}
    assert not torch.equal(seen.maps, full.maps), "autocast was at work below"
    assert (seen.maps - full.maps).abs().max() < 0.2 * full.maps.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_trained_for_cam_can_be_mined_by_every_gradient_method(
    kind: type[GradientLocalizer], tmp_path: Any
) -> None:
    cam = lite(CAM)
    listed = [{"id": number, "name": f"class {number}"} for number in range(CLASSES)]
    save_model(tmp_path, cam, ModelCard("cam", "efficientnet_lite0", "single", listed, 64, {}))
    localizer, card = load_model(tmp_path, MineOptions(localizer=kind.name, options={"background": "mean"}))
    assert type(localizer) is kind
    assert card.options == {"background": "mean"}
    assert torch.equal(localizer(pictures()), cam(pictures()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_is_bitwise_equal(kind: type[GradientLocalizer], tmp_path: Any) -> None:
    localizer = lite(kind, background="mean")
    listed = [{"id": number, "name": f"class {number}"} for number in range(CLASSES)]
    options = {"background": "mean"}
    save_model(tmp_path, localizer, ModelCard(kind.name, "efficientnet_lite0", "single", listed, 64, {}, options))
    classes = torch.tensor([[0, 3], [2, 1]])
    before, after = (one.localize(pictures(), classes) for one in (localizer, load_model(tmp_path)[0]))
    assert before.maps.max() > before.maps.min()
    assert torch.equal(before.maps, after.maps)
    assert torch.equal(before.logits, after.logits)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["single", "multi"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_methods_train_as_cam_does(kind: type[GradientLocalizer], objective: Any) -> None:
    targets = torch.eye(CLASSES)[:2]
    losses = []
    for one in (lite(kind, dropout=0.0), lite(CAM, dropout=0.0)):
        with torch.enable_grad():
            loss = one.training_step(pictures(), targets, ClassificationLoss(objective))
            assert set(loss) == {"classification"}
            loss["classification"].backward()
        assert all(value.grad is not None for value in one.parameters())
        losses.append(loss["classification"])
    assert torch.equal(*losses)


def test_with_a_frozen_backbone_the_head_is_trained_and_maps_are_made() -> None:
    localizer = lite(LayerCAM, layer=-2, dropout=0.0)
    localizer.freeze_backbone()
    localizer.train()
    groups = localizer.parameter_groups(0.5)
    assert [len(group["params"]) for group in groups] == [2]
    seen = localizer.eval().localize(pictures(), torch.tensor([[0], [2]]))
    assert seen.maps.max() > 0


@pytest.mark.parametrize("kind", BASELINES)
def test_the_loss_falls_on_eight_small_images(kind: type[GradientLocalizer]) -> None:
    localizer = small(kind, dropout=0.0).train()
    images, targets = noise(8), torch.eye(CLASSES, dtype=torch.float64).repeat(2, 1)
    optimizer = torch.optim.Adam(localizer.parameter_groups(0.05))
    losses = []
    with torch.enable_grad():
        for _ in range(100):
            optimizer.zero_grad()
            loss = localizer.training_step(images, targets, ClassificationLoss("single"))["classification"]
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[0] > 1
    assert losses[-1] < 0.5 * losses[0]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [3, -4])
@pytest.mark.parametrize("kind", BASELINES)
def test_a_stage_that_the_network_lacks_is_refused(kind: type[GradientLocalizer], layer: int) -> None:
    with pytest.raises(ModelError, match=rf"small has 3 stages, 0 to 2 or -3 to -1 \(got {layer}\)"):
        small(kind, layer=layer)


@pytest.mark.parametrize("options", [{"background": "median"}, {"layer": "top"}, {"relu": "perhaps"}, {"dropout": "a"}])
def test_an_option_of_the_wrong_kind_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"Option '{next(iter(options))}' of the localizer"):
        small(GradCAM, **options)


def test_an_option_of_another_method_is_refused() -> None:
    with pytest.raises(ModelError, match="Unknown option 'eps'"):
        small(LayerCAM, eps=1e-6)
