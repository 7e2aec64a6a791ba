"""MSRD's Algorithm 1 against loops in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.errors import ModelError
from mining.localizers.base import ClassificationLoss
from mining.localizers.msrd import MSRD, MSRDConfig, fused_layers, layers_read, mean_of_local_maxima

CLASSES = 4


def small(*, linear: bool = False, **options: Any) -> MSRD:
    """MSRD on three stages of strides 1, 2 and 4, in double precision; `linear` stages give negative activation too."""
    torch.manual_seed(8)

    def act() -> nn.Module:
        return nn.Identity() if linear else nn.ReLU()

    stages = [
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 1), act()),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 5, 1), act()),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(5, 6, 3, padding=1), act()),
    ]
    anatomy = StageSpec(stages, (4, 5, 6), (1, 2, 4), None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    localizer = MSRD(Backbone("small", anatomy), CLASSES, **options).double().eval()
    nn.init.normal_(localizer.classifier.weight, std=3)
    return localizer


def noise(count: int = 2, height: int = 12, width: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.rand(count, 3, height, width, dtype=torch.float64, generator=generator) * 6 - 3


def seen_stages(localizer: MSRD, classes: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Activation and gradient of the class's score at each stage, by one backward pass through the whole network."""
    with torch.enable_grad():
        features = localizer.backbone(noise())
        for one in features:
            one.retain_grad()
        logits = localizer.logits(features[-1])
        logits[torch.arange(len(classes)), classes].sum().backward()
    return [(one.detach().numpy(), one.grad.numpy()) for one in features]


def weight_by_hand(weights: np.ndarray, *, window: int = 3, stride: int = 1, delta: float = 0.0) -> float:
    """Algorithm 1 on one gradient weight map, cell by cell."""
    found = []
    reach = window // 2
    for y in range(0, weights.shape[0], stride):
        for x in range(0, weights.shape[1], stride):
            around = weights[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if weights[y, x] == around.max() and weights[y, x] > 0 and weights[y, x] > delta:
                found.append(weights[y, x])
    return float(np.mean(found)) if found else 0.0


def map_by_hand(activation: np.ndarray, gradient: np.ndarray, **search: Any) -> np.ndarray:
    """(B, h, w) of one layer: positive gradients' alphas (Grad-CAM++ eq. 19), their maxima's mean, the weighted sum."""
    result = np.zeros((activation.shape[0], *activation.shape[2:]))
    for image, channel in np.ndindex(activation.shape[:2]):
        a, g = np.maximum(activation[image, channel], 0), np.maximum(gradient[image, channel], 0)
        with np.errstate(invalid="ignore"):
            alphas = np.where(g > 0, g**2 / (2 * g**2 + a.sum() * g**3), 0)
        result[image] += weight_by_hand(alphas, **search) * a
    return result


def doubled(small_map: np.ndarray) -> np.ndarray:
    """(B, h, w) to twice the size, bilinear, cell centres aligned, the border repeated."""
    padded = np.pad(small_map, ((0, 0), (1, 1), (1, 1)), mode="edge")
    for axis in (1, 2):
        middle = np.take(padded, range(1, padded.shape[axis] - 1), axis)
        before = np.take(padded, range(padded.shape[axis] - 2), axis)
        after = np.take(padded, range(2, padded.shape[axis]), axis)
        both = np.stack([0.75 * middle + 0.25 * before, 0.75 * middle + 0.25 * after], axis + 1)
        shape = list(padded.shape)
        shape[axis] = 2 * (shape[axis] - 2)
        padded = both.reshape(shape)
    return padded


@pytest.fixture(autouse=True)
def _no_gradients_unless_the_method_asks_for_them() -> Any:
    with torch.no_grad():
        yield


# --- local maxima ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.0, 0.1, 0.6])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (9, 3)])
def test_a_channels_weight_is_the_mean_of_its_local_maxima(window: int, stride: int, delta: float) -> None:
    generator = np.random.default_rng(10)
    weights = generator.integers(-4, 10, (2, 3, 7, 6)) / 10  # many ties, zeros and negative ones
    seen = mean_of_local_maxima(torch.from_numpy(weights), window=window, stride=stride, delta=delta)
    expected = [[weight_by_hand(one, window=window, stride=stride, delta=delta) for one in image] for image in weights]
    assert len(np.unique(expected)) > 1
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_two_peaks_count_equally_whatever_their_width() -> None:
    """A large object's strong response and a small one's weak response: the mean of the two, not of the area."""
    weights = torch.zeros(1, 1, 8, 8)
    weights[0, 0, 1:4, 1:4] = 0.3
    weights[0, 0, 2, 2] = 0.4
    weights[0, 0, 6, 6] = 0.2
    assert float(mean_of_local_maxima(weights)) == pytest.approx(0.3)
    assert float(mean_of_local_maxima(weights, delta=0.2)) == pytest.approx(0.4), "above delta, not at it"


def test_all_cells_of_a_plateau_are_local_maxima() -> None:
    weights = torch.full((1, 1, 3, 4), 0.25)
    weights[0, 0, 0, 0] = 0.5  # its three neighbours are none
    assert float(mean_of_local_maxima(weights)) == pytest.approx((0.5 + 8 * 0.25) / 9)


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_a_channel_without_a_positive_local_maximum_has_weight_zero(level: float) -> None:
    assert float(mean_of_local_maxima(torch.full((1, 1, 3, 4), level))) == 0


def test_a_larger_window_finds_fewer_maxima() -> None:
    weights = torch.zeros(1, 1, 1, 7)
    weights[..., 1], weights[..., 3] = 0.4, 0.2
    assert float(mean_of_local_maxima(weights, window=3)) == pytest.approx(0.3)
    assert float(mean_of_local_maxima(weights, window=5)) == pytest.approx(0.4)


# --- maps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "search", [{}, {"window": 5}, {"stride": 2}, {"delta": 0.1}, {"delta": 0.3}], ids=lambda one: str(one)
)
def test_the_map_is_conv4_plus_resized_conv5(search: dict[str, Any]) -> None:
    localizer = small(**search)
    classes = torch.tensor([2, 0])
    _, conv4, conv5 = seen_stages(localizer, classes)
    expected = map_by_hand(*conv4, **search) + doubled(map_by_hand(*conv5, **search))
    maps = localizer.localize(noise(), classes[:, None]).maps
    assert tuple(maps.shape) == (2, 1, 6, 10)
    assert expected.max() > 0.1
    np.testing.assert_allclose(maps[:, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "used"), [("conv5", [2]), ("conv4", [1]), ("conv5+conv4", [1, 2]), ("conv5+conv4+conv3", [0, 1, 2])]
)
def test_each_choice_of_layers_adds_those_layers(layers: str, used: list[int]) -> None:
    localizer = small(layers=layers)
    classes = torch.tensor([3, 1])
    parts = seen_stages(localizer, classes)
    maps = [torch.from_numpy(map_by_hand(*parts[number])) for number in used]
    np.testing.assert_allclose(localizer.localize(noise(), classes[:, None]).maps[:, 0], fused_layers(maps), rtol=1e-5)


def test_layers_are_added_at_the_finest_size() -> None:
    fine, coarse = np.random.default_rng(11).random((2, 6, 8)), np.random.default_rng(12).random((2, 3, 4))
    fused = fused_layers([torch.from_numpy(fine), torch.from_numpy(coarse)])
    np.testing.assert_allclose(fused, fine + doubled(coarse), rtol=1e-12)


@pytest.mark.parametrize("negative", ["zero", "kept"])
@pytest.mark.parametrize("features", ["rectified", "raw"])
def test_negative_gradients_and_activations_are_zeroed_unless_kept(negative: Any, features: Any) -> None:
    localizer = small(linear=True, layers="conv4", negative=negative, features=features)
    classes = torch.tensor([1, 2])
    activation, gradient = seen_stages(localizer, classes)[1]
    assert activation.min() < -0.1 < 0.1 < activation.max()
    a = activation if features == "raw" else np.maximum(activation, 0)
    g = gradient if negative == "kept" else np.maximum(gradient, 0)
    total = a.sum(axis=(2, 3), keepdims=True)
    with np.errstate(invalid="ignore"):
        alphas = np.where(g != 0, g**2 / (2 * g**2 + total * g**3), 0)
    weights = np.array([[weight_by_hand(one) for one in image] for image in alphas])
    expected = (weights[:, :, None, None] * a).sum(axis=1)
    np.testing.assert_allclose(localizer.localize(noise(), classes[:, None]).maps[:, 0], expected, rtol=1e-4)


def test_gradient_weights_of_positive_gradients_stay_below_one_half() -> None:
    """As the paper says of its data; so a delta of 0.5 leaves no maximum at all."""
    asked = torch.tensor([[0], [1]])
    assert small(linear=True).localize(noise(), asked).maps.max() > 0
    assert small(linear=True, delta=0.5).localize(noise(), asked).maps.abs().max() == 0


def test_behind_an_averaging_head_the_window_matters_at_conv4_only() -> None:
    asked = torch.tensor([[0, 1], [1, 3]])
    for layers, alike in (("conv5", True), ("conv4", False)):
        narrow, wide = (small(layers=layers, window=window).localize(noise(), asked).maps for window in (3, 5))
        assert torch.allclose(narrow, wide, rtol=1e-6) is alike


# --- which stages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "by_stride", "by_stage"),
    [
        ("vgg16", [2, 3, 4], [2, 3, 4]),
        ("resnet50", [1, 2, 4], [2, 3, 4]),
        ("efficientnet_lite0", [1, 2, 4], [2, 3, 4]),
        ("googlenet", [0, 1, 3], [1, 2, 3]),
        ("densenet161", [0, 1, 3], [1, 2, 3]),
        ("resnet18", [0], [0]),
    ],
)
def test_conv3_to_conv5_of_a_backbone(backbone: str, by_stride: list[int], by_stage: list[int]) -> None:
    with torch.device("meta"):
        network, _ = build(backbone)
    three: Any = "conv5+conv4+conv3"
    assert layers_read(network, MSRDConfig(layers=three)) == by_stride
    assert layers_read(network, MSRDConfig(layers=three, apart="stage")) == by_stage
    assert layers_read(network, MSRDConfig(layers="conv5")) == by_stride[-1:]
    assert layers_read(network, MSRDConfig()) == by_stride[-2:]


def test_conv4_alone_is_refused_for_a_network_without_it() -> None:
    anatomy = StageSpec([nn.Identity()], (3,), (1,), None)
    with pytest.raises(ModelError, match="pixels has no conv4, only conv5"):
        MSRD(Backbone("pixels", anatomy), CLASSES, layers="conv4")
    assert MSRD(Backbone("pixels", anatomy), CLASSES).stages_read() == [0]


# --- options and training --------------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers() -> None:
    config = MSRDConfig()
    assert (config.layers, config.window, config.stride, config.delta) == ("conv5+conv4", 3, 1, 0.0)


@pytest.mark.parametrize(
    "options",
    [{"window": 4}, {"window": 0}, {"stride": 0}, {"delta": -0.1}, {"layers": "conv6"}, {"apart": "far"}],
    ids=lambda one: str(one),
)
def test_an_invalid_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"Option '{next(iter(options))}' of the localizer"):
        small(**options)


def test_numbers_may_be_given_as_text() -> None:
    config = small(window="5", delta="0.1").config
    assert (config.window, config.delta) == (5, 0.1)


def test_the_loss_falls_on_eight_small_images() -> None:
    torch.manual_seed(7)
    localizer = MSRD(build("mobilenet_v2")[0], CLASSES, dropout=0.0).train()
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    targets = torch.eye(CLASSES).repeat(2, 1)
    optimizer = torch.optim.Adam(localizer.parameter_groups(1e-2))
    losses = []
    with torch.enable_grad():
        for _ in range(8):
            optimizer.zero_grad()
            loss = localizer.training_step(images, targets, ClassificationLoss("multi"))["classification"]
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[0] > 0.6
    assert losses[-1] < 0.5 * losses[0]
