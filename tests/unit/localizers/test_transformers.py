"""Localizers on plain transformers: gradients at a block, and the runtimes."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tests.small_transformers  # noqa: F401  registers small_dinov3
from mining.backbones.build import build
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.gradient import gradcam_weights, layercam_map, weighted_sum
from mining.localizers.loading import localizer_named
from mining.localizers.stage_recorder import StageRecorder
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.runtimes.choice import choose_compute
from mining.runtimes.openvino_part import compile_part
from mining.runtimes.stage_features import prepare_stages
from tests.factories import slow_except

CPU = torch.device("cpu")
NETWORKS = ("test_vit", "test_vit2")  # a class token; a register and no class token


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


def built(localizer: str, backbone: str, **options: object) -> Localizer:
    torch.manual_seed(0)
    kind: Any = localizer_named(localizer)
    model: Localizer = kind(build(backbone)[0], 4, **options)
    return model.eval()


def traced(model: Any, image: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Cells of a stage and the gradient of class 2 there, by a hook in the middle of an ordinary pass."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    hook = model.backbone.stages[layer].register_forward_hook(keep)
    model(image)[:, 2].sum().backward()
    hook.remove()
    (output,) = outputs
    assert output.grad is not None
    return model.backbone.cells_of(output).detach(), model.backbone.cells_of(output.grad)


@pytest.mark.parametrize("backbone", NETWORKS)
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("size", [(96, 128), (100, 75)])
def test_gradient_maps_of_a_block_are_those_of_an_ordinary_pass(
    backbone: str, layer: int, size: tuple[int, int]
) -> None:
    image, classes = picture(*size), torch.tensor([[2], [2]])
    grad, layer_cam = (built(name, backbone, layer=layer, relu=False) for name in ("gradcam", "layercam"))
    activation, gradient = traced(grad, image, layer)
    expected = weighted_sum(gradcam_weights(gradient), activation)
    assert torch.allclose(grad.localize(image, classes).maps[:, 0], expected, atol=1e-5 * float(expected.abs().max()))
    expected = layercam_map(activation, gradient)
    maps = layer_cam.localize(image, classes).maps[:, 0]
    assert torch.allclose(maps, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("apart", ["stride", "stage"])
@pytest.mark.parametrize(
    ("layers", "read"), [("conv5", [3]), ("conv5+conv4", [2, 3]), ("conv5+conv4+conv3", [1, 2, 3])]
)
def test_msrd_adds_the_maps_of_the_last_stages(apart: str, layers: str, read: list[int]) -> None:
    model = built("msrd", "test_vit", apart=apart, layers=layers)
    assert list(model.stages_read()) == read  # type: ignore[operator]
    with torch.no_grad():
        seen = model.localize(picture(96, 128), torch.tensor([[0, 1], [2, 3]]))
    assert seen.maps.shape == (2, 2, 6, 8)
    assert not torch.equal(seen.maps[:, 0], seen.maps[:, 1])


def test_spg_keeps_the_whole_transformer() -> None:
    model: Any = built("spg", "test_vit")
    assert model.places == (2, 3)
    assert len(model.backbone.stages) == 4


def test_mldfr_needs_down_samplings() -> None:
    with pytest.raises(ModelError, match="mldfr needs features of 1/4, 1/8, 1/16"):
        built("mldfr", "test_vit")


# --- runtimes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", slow_except(("test_vit2",), [*NETWORKS, "small_dinov3"]))
def test_openvino_computes_the_same_cells_for_any_image_size(backbone: str) -> None:
    model = prepare_for_inference(built("cam", backbone), CPU)
    recorder = StageRecorder(model.backbone, [3, 2])
    part = compile_part(model, "last_features", recorder=recorder, precision="float32", threads=1, timer=nullcontext)
    for size in ((64, 64), (130, 250), (37, 211)):
        image = picture(*size)[:1]
        with torch.inference_mode():
            expected = model.backbone(image)
        with recorder.recording():
            result = part(image)
        recorded = recorder.recorded()
        assert torch.allclose(result, expected[3], atol=0.01)
        assert torch.allclose(recorded[2][0], expected[2], atol=0.01)


@pytest.mark.parametrize("backbone", [*NETWORKS, "small_dinov3"])
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_features_for_training_include_the_class_token(backbone: str, runtime: Any) -> None:
    torch.manual_seed(0)
    network = build(backbone)[0].eval()
    run, compute = prepare_stages(network, [3], choose_compute(CPU, runtime, "float32"), threads=1)
    assert compute.runtime == runtime
    image = picture(100, 75)[:1]
    (found,) = run(image)
    with torch.no_grad():
        features = network.normalise(image)
        for stage in network.stages:
            features = stage(features)
    assert torch.allclose(found, features, atol=0.01)
    assert torch.allclose(network.image_vector(found), network.image_vector(features), atol=0.01)
