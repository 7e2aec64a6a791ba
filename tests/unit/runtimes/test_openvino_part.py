"""Parts of localizers in OpenVINO: the same results as in torch, in any number of threads, for any size."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mining.backbones.build import build
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, Localizer
from mining.localizers.cell_classifier import cell_spec
from mining.localizers.loading import localizer_named
from mining.localizers.stage_recorder import StageRecorder
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.runtimes import openvino_part
from mining.runtimes.choice import Compute
from mining.runtimes.prepare import use_runtime
from tests.factories import slow_except

CPU = torch.device("cpu")
CLASSES = torch.tensor([[2, 0]])
LOCALIZERS = ["cam", "ccam", "nlccam", "gradcam", "gradcampp", "layercam", "msrd", "spg", "mldfr", "ornet"]


def localizer_on(name: str, backbone: str = "efficientnet_lite0", weights: str = "none") -> Localizer:
    torch.manual_seed(0)
    kind: Any = localizer_named(name)
    localizer: Localizer = kind(build(backbone, weights=weights)[0], 4)
    for parameter in localizer.parameters():  # zeros at the start (a block that is the identity) would hide an error
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return prepare_for_inference(localizer, CPU)


def in_openvino(localizer: Localizer, precision: Any = "float32", threads: int = 1) -> tuple[Localizer, StageRecorder]:
    """Return a copy that OpenVINO computes, and a recorder of the stages that a cell classifier reads."""
    quick = copy.deepcopy(localizer)
    recorder = StageRecorder(quick.backbone, cell_spec(quick.backbone).stages)
    compute = Compute(CPU, "openvino", precision)
    used = use_runtime(quick, compute, recorder, threads=threads, timer=nullcontext, asked=("openvino", precision))
    assert used == compute
    return quick, recorder


def picture(height: int = 96, width: int = 128, seed: int = 1) -> Tensor:
    return torch.randint(
        0, 256, (1, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-3) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("name", slow_except(("nlccam", "msrd", "spg", "ornet"), LOCALIZERS))
def test_logits_maps_and_features_equal_those_of_torch(name: str) -> None:
    plain = localizer_on(name)
    quick, recorder = in_openvino(plain)
    reference = StageRecorder(plain.backbone, recorder.stages)
    for size in ((96, 128), (144, 80), (101, 131)):
        with torch.no_grad():
            with reference.recording():
                expected = plain.localize(picture(*size), CLASSES)
            with recorder.recording():
                found = quick.localize(picture(*size), CLASSES)
            assert_close(found.logits, expected.logits)
            assert_close(found.maps, expected.maps)
            assert_close(quick.maps(picture(*size), CLASSES), expected.maps)
            for own, other in zip(recorder.features(picture(*size)), reference.features(picture(*size)), strict=True):
                assert_close(own, other)
        assert float(expected.maps.std()) > 0
        assert not found.maps.requires_grad


@pytest.mark.parametrize(
    "backbone", slow_except(("mobilenet_v2",), ["resnet50", "vgg16", "mobilenet_v2", "googlenet", "inception_v3"])
)
def test_every_kind_of_backbone_is_converted(backbone: str) -> None:
    plain = localizer_on("cam", backbone)
    quick, _ = in_openvino(plain)
    with torch.no_grad():
        expected = plain.localize(picture(117, 150), CLASSES)
        assert_close(quick.localize(picture(117, 150), CLASSES).maps, expected.maps)


def test_several_images_and_missing_classes_are_computed_as_by_torch() -> None:
    plain = localizer_on("ccam")
    quick, _ = in_openvino(plain)
    images, classes = torch.cat([picture(), picture(seed=2)]), torch.tensor([[1, 3], [0, NO_CLASS]])
    with torch.no_grad():
        assert_close(quick.localize(images, classes).maps[0], plain.localize(images, classes).maps[0])
        assert_close(quick.localize(images, classes).maps[1, :1], plain.localize(images, classes).maps[1, :1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_passes_are_equal_to_the_last_bit_for_any_number_of_threads(precision: str) -> None:
    plain = localizer_on("cam", weights="imagenet")
    sizes = [(96, 128), (128, 96), (96, 96), (150, 101)] * 3

    def run(threads: int) -> list[Tensor]:
        quick, _ = in_openvino(plain, precision, threads)

        def one(size: tuple[int, int]) -> Tensor:
            with torch.inference_mode():
                return quick.localize(picture(*size), CLASSES).maps

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, sizes))

    expected = run(1)
    for threads in (2, 4):
        assert all(torch.equal(found, own) for found, own in zip(run(threads), expected, strict=True))


def test_results_stay_valid_after_further_passes() -> None:
    quick, recorder = in_openvino(localizer_on("cam"))
    part: Callable[[Tensor], Tensor] = quick.last_features  # type: ignore[attr-defined, unused-ignore]
    with recorder.recording():
        first = part(picture())
    copied = first.clone()
    recorded = [features.clone() for features in recorder.features(picture())]
    with recorder.recording():
        part(picture())
    kept = recorder.features(picture())
    part(picture(seed=9))
    assert torch.equal(first, copied)
    assert all(torch.equal(own, other) for own, other in zip(kept, recorded, strict=True))


def test_sides_without_an_exact_value_in_bfloat16_are_padded_right() -> None:
    """TensorFlow's padding, computed from the size in bfloat16, was a column off for odd sides above 256 px."""
    plain = localizer_on("cam", weights="imagenet")
    quick, _ = in_openvino(plain, "bfloat16")
    for size in ((64, 299), (301, 64), (96, 128)):
        with torch.inference_mode():
            expected = plain.last_features(picture(*size))  # type: ignore[operator]
            found = quick.last_features(picture(*size))  # type: ignore[operator]
        error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert float(error) < 0.1


def test_a_graph_that_low_precision_breaks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOXMINE_CACHE", str(tmp_path))
    monkeypatch.setattr(openvino_part, "_pad_within_convolutions", lambda model: None)
    with pytest.raises(ModelError, match="an image of 299 x 64 px differs from torch's"):
        in_openvino(localizer_on("cam", weights="imagenet"), "bfloat16")
