"""Gradient methods against the numbers of the packages grad-cam and torchcam (see the oracles' README).

torchcam's Grad-CAM++ is left out: it divides a temporary copy, so that its weights are not Grad-CAM++'s.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.localizers.gradient import (
    GradCAM,
    GradCAMpp,
    GradientLocalizer,
    LayerCAM,
    gradcam_weights,
    gradcampp_weights,
    layercam_map,
    weighted_sum,
)

LAYERS = {"relu2": 0, "conv3": 1, "relu3": 2}  # stages of the network below
PEERS_EPS = 1e-6
Arrays = dict[str, np.ndarray]
METHODS: dict[str, tuple[type[GradientLocalizer], dict[str, Any]]] = {
    "GradCAM": (GradCAM, {"relu": False}),
    "GradCAMPlusPlus": (GradCAMpp, {"relu": False, "eps": PEERS_EPS}),
    "LayerCAM": (LayerCAM, {"relu": False}),
}


@pytest.fixture(scope="module")
def arrays(oracle: Callable[[str], Path]) -> Arrays:
    with np.load(oracle("gradcam") / "gradcam.npz") as file:
        return {name: file[name] for name in file.files}


def on_the_peers_network(arrays: Arrays, kind: type[GradientLocalizer], **options: Any) -> Any:
    """The localizer on the oracle's network, in double precision; its stages end where the oracle's layers do."""
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    head = nn.Linear(*reversed(arrays["state.fc.weight"].shape))
    network = nn.ModuleDict({"features": features, "fc": head}).double()
    state = {n.removeprefix("state."): torch.from_numpy(v) for n, v in arrays.items() if n.startswith("state.")}
    network.load_state_dict(state)
    anatomy = StageSpec([features[:5], features[5:7], features[7:]], (16, 32, 32), (2, 4, 4), head)
    localizer = kind(Backbone("oracle", anatomy), head.out_features, **options).double().eval()
    localizer.backbone.mean.fill_(0)
    localizer.backbone.std.fill_(1)  # the oracle's input is normalised already
    localizer.load_linear(head)
    return localizer


def activation_and_gradient(arrays: Arrays, layer: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(arrays[f"{layer}.activation"]), torch.from_numpy(arrays[f"{layer}.gradient"])


def as_the_peer_shows_it(raw: np.ndarray, height: int, width: int) -> np.ndarray:
    """grad-cam's last steps: cut at 0, stretch to 0-1 before resizing and once more after, in float32."""

    def stretched(shown: np.ndarray) -> np.ndarray:
        shown = shown - shown.min()
        return shown / np.float32(1e-7 + shown.max())

    small = stretched(np.maximum(raw, 0)).astype(np.float32)
    return stretched(np.maximum(cv2.resize(small, (width, height)), 0))


# --- the methods on the peers' activations and gradients -------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
def test_gradcam_is_that_of_both_packages(arrays: Arrays, layer: str) -> None:
    activation, gradient = activation_and_gradient(arrays, layer)
    weights = gradcam_weights(gradient)
    for peer in ("pgc", "tc"):
        np.testing.assert_allclose(weights, arrays[f"{layer}.{peer}.GradCAM.weights"], rtol=1e-12, atol=1e-17)
    raw = weighted_sum(weights, activation)
    np.testing.assert_allclose(raw, arrays[f"{layer}.pgc.GradCAM.map_raw"], rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradcampp_with_the_peers_eps_is_that_of_grad_cam(arrays: Arrays, layer: str) -> None:
    activation, gradient = activation_and_gradient(arrays, layer)
    weights = gradcampp_weights(activation, gradient, eps=PEERS_EPS)
    np.testing.assert_allclose(weights, arrays[f"{layer}.pgc.GradCAMPlusPlus.weights"], rtol=1e-13, atol=1e-18)
    raw = weighted_sum(weights, activation)
    np.testing.assert_allclose(raw, arrays[f"{layer}.pgc.GradCAMPlusPlus.map_raw"], rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("layer", ["relu2", "relu3"])
def test_gradcampp_is_by_default_the_papers_and_not_the_peers(arrays: Arrays, layer: str) -> None:
    activation, gradient = activation_and_gradient(arrays, layer)
    weights = gradcampp_weights(activation, gradient).numpy()
    np.testing.assert_allclose(weights, arrays[f"{layer}.derived_not_peer.paper_noeps.weights"], rtol=1e-12, atol=1e-17)
    peer = arrays[f"{layer}.pgc.GradCAMPlusPlus.weights"]
    assert np.abs(weights - peer).max() > 0.1 * peer.max(), "eps is not small against squared gradients"


@pytest.mark.parametrize("layer", LAYERS)
def test_layercam_is_that_of_both_packages(arrays: Arrays, layer: str) -> None:
    activation, gradient = activation_and_gradient(arrays, layer)
    raw = layercam_map(activation, gradient).numpy()
    np.testing.assert_allclose(raw, arrays[f"{layer}.pgc.LayerCAM.map_raw"], rtol=1e-10, atol=1e-16)
    np.testing.assert_allclose(gradient.relu(), arrays[f"{layer}.tc.LayerCAM.weights"], rtol=0, atol=0)


# --- from the pixels on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
def test_activations_logits_and_gradients_are_the_peers(arrays: Arrays, layer: str) -> None:
    localizer = on_the_peers_network(arrays, GradCAM, layer=LAYERS[layer])
    targets = torch.from_numpy(arrays["targets"]).long()
    (activation,), logits = localizer.trace(torch.from_numpy(arrays["input"]))
    (gradient,) = torch.autograd.grad(logits, [activation], localizer.direction(targets, logits))
    np.testing.assert_allclose(logits.detach(), arrays["logits"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(activation.detach(), arrays[f"{layer}.activation"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gradient, arrays[f"{layer}.gradient"], rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", METHODS)
def test_maps_are_the_peers(arrays: Arrays, method: str, layer: str) -> None:
    kind, options = METHODS[method]
    localizer = on_the_peers_network(arrays, kind, layer=LAYERS[layer], **options)
    targets = torch.from_numpy(arrays["targets"]).long()
    maps = localizer.localize(torch.from_numpy(arrays["input"]), targets[:, None]).maps[:, 0].numpy()
    expected = arrays[f"{layer}.pgc.{method}.map_raw"]
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", METHODS)
def test_shown_as_the_peer_shows_it_a_map_is_the_peers_picture(arrays: Arrays, method: str, layer: str) -> None:
    kind, options = METHODS[method]
    localizer = on_the_peers_network(arrays, kind, layer=LAYERS[layer], **{**options, "relu": True})
    images, targets = torch.from_numpy(arrays["input"])[:1], torch.from_numpy(arrays["targets"]).long()[:1]
    raw = localizer.localize(images, targets[:, None]).maps[0, 0].numpy()
    expected = arrays[f"{layer}.pgc.{method}.map_scaled_input"][0]
    np.testing.assert_allclose(as_the_peer_shows_it(raw, *expected.shape), expected, atol=2e-3)


def test_exp_gives_the_papers_weights_on_the_exponential_of_the_score(arrays: Arrays) -> None:
    targets = torch.from_numpy(arrays["targets"]).long()
    for layer in ("relu2", "relu3"):
        localizer = on_the_peers_network(arrays, GradCAMpp, layer=LAYERS[layer], score="exp")
        weights = torch.from_numpy(arrays[f"{layer}.derived_not_peer.paper_exp_score.weights"])
        expected = weighted_sum(weights, torch.from_numpy(arrays[f"{layer}.activation"])).numpy()
        maps = localizer.localize(torch.from_numpy(arrays["input"]), targets[:, None]).maps[:, 0].numpy()
        np.testing.assert_allclose(maps, np.maximum(expected, 0), rtol=1e-6, atol=1e-12)


def test_at_the_last_layer_gradcam_is_cam_over_the_number_of_cells(arrays: Arrays) -> None:
    localizer = on_the_peers_network(arrays, GradCAM, relu=False)
    targets = torch.from_numpy(arrays["targets"]).long()
    maps = localizer.localize(torch.from_numpy(arrays["input"]), targets[:, None]).maps[:, 0].numpy()
    expected = arrays["relu3.derived_not_peer.CAM.map_raw_no_relu"]
    np.testing.assert_allclose(maps * expected[0].size, expected, rtol=1e-5, atol=1e-6)
