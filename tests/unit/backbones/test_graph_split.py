"""Unmodified classifiers, split into stages and their own head."""

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from mining.backbones.build import resize_outputs
from mining.backbones.classifiers import build_classifier, classifier_spec
from mining.backbones.graph_split import SplitClassifier, split_classifier
from mining.backbones.receptive_fields import cell_grid
from mining.errors import ModelError

HALVING = [2, 4, 8, 16, 32]
STRIDES = {
    "alexnet": [4, 8, 16],
    "squeezenet1_1": [2, 4, 8, 16],
    "resnet18": HALVING,
    "mobilenet_v3_small": HALVING,
    "efficientnet_b0": HALVING,
    "densenet121": HALVING,
    "convnext_tiny": [4, 8, 16, 32],
}
TIMMS = {"regnety_002": HALVING, "ghostnet_100": HALVING, "convnext_atto": [4, 8, 16, 32], "resnet18.tv_in1k": HALVING}


def random_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name, weights=None)
    return timm.create_model(name, pretrained=False)


def noise(height: int, width: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def run(parts: SplitClassifier, images: Tensor) -> list[Tensor]:
    """Return the output of every stage, then the logits."""
    outputs = [images]
    for part in (*parts.stages, parts.head):
        outputs.append(part(outputs[-1]))
    return outputs[1:]


@pytest.mark.parametrize("name", [*STRIDES, *TIMMS])
def test_the_parts_compute_what_the_network_computes(name: str) -> None:
    network = random_network(name)
    parts = split_classifier(network, name)
    assert parts.strides == {**STRIDES, **TIMMS}[name]
    images = noise(133, 180)
    with torch.no_grad():
        *features, logits = run(parts, images)
        assert torch.equal(logits, network(images))
    for stage, channels, stride in zip(features, parts.channels, parts.strides, strict=True):
        assert stage.shape[1] == channels
        assert stage.shape[2] == pytest.approx(133 / stride, abs=2.5)
        assert stage.shape[3] == pytest.approx(180 / stride, abs=2.5)


def test_stages_of_vgg_end_before_its_max_pools_and_the_last_one_is_in_the_head() -> None:
    network = torchvision.models.vgg11(weights=None, init_weights=False)
    parts = split_classifier(network, "vgg11")
    assert (parts.strides, parts.channels) == ([1, 2, 4, 8, 16], [64, 128, 256, 512, 512])
    image = noise(96, 96, 1)
    with torch.no_grad():
        *features, _ = run(parts, image)
        layers = network.features
        for end, stage in zip((2, 5, 10, 15, 20), features, strict=True):  # each a ReLU, followed by a max-pool
            assert isinstance(layers[end - 1], nn.ReLU)
            assert isinstance(layers[end], nn.MaxPool2d)
            assert torch.equal(stage, layers[:end](image))
        pooled = network.avgpool(layers[20](features[-1])).flatten(1)
        assert torch.equal(parts.head(features[-1]), network.classifier(pooled))


@pytest.mark.parametrize("size", [(224, 224), (224, 304), (336, 456), (64, 96)])
def test_fully_connected_layers_take_images_of_any_size(size: tuple[int, int]) -> None:
    """They see the last features averaged to the grid that they were trained on."""
    network = random_network("alexnet")
    parts = split_classifier(network, "alexnet")
    with torch.no_grad():
        *features, logits = run(parts, noise(*size))
        grid = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(features[-1], 3, 2), 6)
        assert torch.allclose(logits, network.classifier(grid.flatten(1)), atol=1e-6)
    assert tuple(logits.shape) == (2, 1000)


def test_weights_that_are_loaded_afterwards_are_those_of_the_parts() -> None:
    network, other = random_network("squeezenet1_1"), torchvision.models.squeezenet1_1(weights=None)
    parts = split_classifier(network, "squeezenet1_1")
    network.load_state_dict(other.state_dict())
    images = noise(96, 96)
    with torch.no_grad():
        assert torch.equal(run(parts, images)[-1], other.eval()(images))


def test_no_parameter_is_in_two_parts() -> None:
    parts = split_classifier(network := random_network("mobilenet_v3_small"), "mobilenet_v3_small")
    held = [parameter for part in (*parts.stages, parts.head) for parameter in part.parameters()]
    assert len(held) == len({id(one) for one in held}) == len(list(network.parameters()))


def test_the_cells_of_a_stage_look_at_known_places() -> None:
    backbone, _ = build_classifier("resnet18", classes=3)
    grid = cell_grid(backbone, (224, 224), -1)
    assert grid is not None
    assert (grid.step_y, grid.step_x) == (32, 32)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vit_b_32", "does not take images of any size"),
        ("xcit_nano_12_p16_224", "no feature map precedes its last layers"),
        ("hrnet_w18_small", "does not take images of any size"),
    ],
)
def test_other_networks_are_refused_with_a_remedy(name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=f"pretrained:{name} cannot mine: .*{reason}.*Use a convolutional network"):
        split_classifier(random_network(name), name)


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "mobilenet_v3_small", "regnety_002"])
def test_a_classifier_can_have_another_number_of_outputs(name: str) -> None:
    network = random_network(name)
    before = {key: value.shape for key, value in network.state_dict().items()}
    resize_outputs(network, 7)
    after = {key: value.shape for key, value in network.state_dict().items()}
    assert len({key for key in before if before[key] != after[key]}) == 2  # weight and bias of one layer
    assert tuple(network.eval()(noise(96, 96)).shape) == (2, 7)


def test_a_network_without_imagenet_classes_is_refused() -> None:
    with pytest.raises(ModelError, match="no layer of 1000 outputs"):
        resize_outputs(nn.Linear(4, 21841), 7)


@pytest.mark.parametrize(
    ("name", "size", "mean"),
    [
        ("vgg16", 224, (0.485, 0.456, 0.406)),
        ("efficientnet_b4", 380, (0.485, 0.456, 0.406)),
        ("tf_efficientnet_lite0", 224, (0.5, 0.5, 0.5)),
    ],
)
def test_size_and_normalisation_are_those_of_the_weights(name: str, size: int, mean: tuple[float, ...]) -> None:
    spec: Any = classifier_spec(name)
    assert (spec.input_size, spec.mean) == (size, mean)


def test_torchvision_comes_before_timm() -> None:
    assert type(classifier_spec("resnet18").build_network()).__module__.startswith("torchvision")
    assert type(classifier_spec("resnet18.tv_in1k").build_network()).__module__.startswith("timm")
