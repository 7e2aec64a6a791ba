"""Gradient methods on unmodified networks, whose fully connected layers follow a last max-pool, as in VGG."""

import copy
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.graph_split import split_classifier
from mining.localizers.base import NO_CLASS
from mining.localizers.gradient import GradCAM, GradCAMpp, GradientLocalizer, LayerCAM, gradcampp_alphas
from mining.localizers.msrd import MSRD, mean_of_local_maxima
from mining.models.fuse_batchnorm import prepare_for_inference

CLASSES = 5
ENDS = (2, 6, 10)  # of the stages, in layers of `features`: before each max-pool
KINDS = (GradCAM, GradCAMpp, LayerCAM, MSRD)


class SmallVGG(nn.Module):
    """Three stages, a max-pool, a grid of 3 x 3 and two fully connected layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        widths = (3, 8, 12, 16)
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Conv2d(width, following, 3, padding=1)]
            layers += [nn.BatchNorm2d(following)] if layers[1:] else []
            layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(3)
        self.classifier = nn.Sequential(
            nn.Linear(16 * 9, 20), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(20, CLASSES)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
        return logits


def small(kind: type[GradientLocalizer], **options: Any) -> tuple[SmallVGG, Any]:
    """The network in double precision, and a localizer on it that normalises nothing."""
    network = SmallVGG().double().eval()
    parts = split_classifier(copy.deepcopy(network), "small")
    assert parts.strides == [1, 2, 4]
    spec = StageSpec(parts.stages, parts.channels, parts.strides, None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    localizer = kind(Backbone("small", spec), CLASSES, **options)
    localizer.use_head(parts.head)
    return network, localizer.double().eval()


def noise(count: int = 2, height: int = 20, width: int = 28) -> Tensor:
    return torch.rand(count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def traced(network: SmallVGG, images: Tensor, stage: int, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Activation of a stage and gradient of each image's class, by plain autograd."""
    activation = network.features[: ENDS[stage]](images).detach().requires_grad_()
    features = network.features[ENDS[stage] :](activation)
    logits = network.classifier(torch.flatten(network.avgpool(features), 1))
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), activation)
    return activation.detach(), gradient


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_networks(kind: type[GradientLocalizer]) -> None:
    network, localizer = small(kind)
    images = noise()
    with torch.no_grad():
        assert torch.allclose(localizer(images), network(images))
        found = localizer.localize(images, torch.tensor([[0], [3]]))
    assert torch.allclose(found.logits.double(), network(images), atol=1e-6)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("size", [(20, 28), (24, 24), (37, 22)])
def test_gradients_are_those_of_autograd_at_every_stage(stage: int, size: tuple[int, int]) -> None:
    network, localizer = small(GradCAM, layer=stage)
    images, classes = noise(2, *size), torch.tensor([1, 4])
    activation, gradient = traced(network, images, stage, classes)
    activations, logits = localizer.trace(images)
    (found,) = localizer.gradients(activations, logits, functional.one_hot(classes, CLASSES).double())
    assert torch.allclose(activations[0], activation)
    assert torch.allclose(found, gradient)
    assert found.flatten(2).std(dim=2).max() > 0  # fully connected layers tell the cells apart


def by_hand(activation: np.ndarray, gradient: np.ndarray, window: int) -> np.ndarray:
    """Algorithm 1 for one layer of one image, cell by cell: the (h, w) map."""
    depth, height, width = activation.shape
    total = np.zeros((height, width))
    for channel in range(depth):
        maxima = []
        alphas = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                g = max(gradient[channel, i, j], 0)
                alphas[i, j] = g**2 / (2 * g**2 + g**3 * activation[channel].sum()) if g > 0 else 0
        reach = window // 2
        for i in range(height):
            for j in range(width):
                around = alphas[max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
                if alphas[i, j] > 0 and alphas[i, j] == around.max():
                    maxima.append(alphas[i, j])
        total += (np.mean(maxima) if maxima else 0) * activation[channel]
    return total


@pytest.mark.parametrize("window", [3, 5])
def test_msrd_follows_algorithm_1_at_conv5_and_conv4(window: int) -> None:
    network, localizer = small(MSRD, window=window)
    images, classes = noise(), torch.tensor([2, 0])
    stages = [traced(network, images, stage, classes) for stage in (1, 2)]
    found = localizer.localize(images, classes[:, None]).maps[:, 0]
    for place in range(2):
        conv4, conv5 = (by_hand(a[place].numpy(), g[place].numpy(), window) for a, g in stages)
        resized = functional.interpolate(torch.tensor(conv5)[None, None], conv4.shape, mode="bilinear")[0, 0]
        assert torch.allclose(found[place].double(), torch.tensor(conv4) + resized, atol=1e-6)


def test_the_window_matters_at_conv5() -> None:
    """With a head that averages, all cells of a channel are equal there, and all are local maxima."""
    network, localizer = small(MSRD, layers="conv5")
    images, classes = noise(), torch.tensor([2, 0])
    activation, gradient = traced(network, images, 2, classes)
    alphas = gradcampp_alphas(activation, gradient.relu())
    weights = {window: mean_of_local_maxima(alphas, window=window) for window in (1, 3, 5)}
    assert not torch.allclose(weights[1], weights[3])
    assert not torch.allclose(weights[3], weights[5])
    maps = {window: small(MSRD, layers="conv5", window=window)[1].localize(images, classes[:, None]).maps for window in (3, 5)}  # fmt: skip
    assert not torch.allclose(maps[3], maps[5])
    assert torch.equal(localizer.localize(images, classes[:, None]).maps, maps[3])


@pytest.mark.parametrize("kind", KINDS)
def test_several_classes_of_a_batch_have_the_maps_of_single_ones(kind: type[GradientLocalizer]) -> None:
    """Images with more classes than the others run again from their features, through the head as well."""
    _, localizer = small(kind)
    images = noise(4)
    several = torch.tensor([[0, 3, 1], [2, NO_CLASS, NO_CLASS], [1, 4, NO_CLASS], [4, NO_CLASS, NO_CLASS]])
    found = localizer.localize(images, several).maps
    for place, column in (several != NO_CLASS).nonzero().tolist():
        alone = localizer.localize(images[place : place + 1], several[place : place + 1, column : column + 1]).maps
        assert torch.allclose(found[place, column], alone[0, 0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_folded_batch_norms_change_no_map(kind: type[GradientLocalizer]) -> None:
    _, localizer = small(kind)
    localizer = localizer.float()
    for part in localizer.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    images, classes = noise().float(), torch.tensor([[2], [0]])
    before = localizer.localize(images, classes)
    after = prepare_for_inference(copy.deepcopy(localizer), torch.device("cpu")).localize(images, classes)
    assert torch.allclose(before.logits, after.logits, atol=1e-5)
    assert torch.allclose(before.maps, after.maps, rtol=1e-3, atol=1e-5)


# --- other packages --------------------------------------------------------------------------------------------------


def scaled(activation: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map's positive part in the range 0-1, resized, and in that range again, as grad-cam returns it."""
    positive = np.maximum(activation, 0)
    for step in (lambda level: cv2.resize(level, size[::-1]), lambda level: level):
        level = positive - positive.min()
        positive = step(level / (1e-7 + level.max()))
    return positive


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("method", ["GradCAM", "LayerCAM"])
def test_maps_are_those_of_the_package_grad_cam(method: str, stage: int) -> None:
    package = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    kind = {"GradCAM": GradCAM, "LayerCAM": LayerCAM}[method]
    network, localizer = small(kind, layer=stage)
    images, classes = noise(), [1, 4]
    network = network.float()
    for part in network.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    with getattr(package, method)(network, [network.features[ENDS[stage] - 1]]) as cam:
        theirs = cam(images.float(), [targets.ClassifierOutputTarget(one) for one in classes])
    ours = localizer.localize(images, torch.tensor(classes)[:, None]).maps[:, 0].numpy()
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(scaled(one, images.shape[2:]) - other).max() < 1e-3


def test_maps_are_those_of_the_package_torchcam() -> None:
    methods = pytest.importorskip("torchcam.methods")
    network, localizer = small(GradCAM, layer=2)
    images, classes = noise(), [1, 4]
    for part in network.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    with methods.GradCAM(network, network.features[ENDS[2] - 1]) as cam:
        (theirs,) = cam(classes, network(images.requires_grad_()), normalized=False)
    ours = localizer.localize(images.detach(), torch.tensor(classes)[:, None]).maps[:, 0]
    assert torch.allclose(ours.double(), theirs.detach(), rtol=1e-4, atol=1e-7)
