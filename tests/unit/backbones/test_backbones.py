import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mining.backbones.base import dilate, read_weights
from mining.backbones.build import build
from mining.backbones.registry import BACKBONES, spec_of
from mining.errors import ModelError
from mining.models.pretrained import imagenet_names

STAGES = {
    "efficientnet_lite0": ((16, 24, 40, 112, 1280), (2, 4, 8, 16, 16)),
    "efficientnet_lite1": ((16, 24, 40, 112, 1280), (2, 4, 8, 16, 16)),
    "efficientnet_lite2": ((16, 24, 48, 120, 1280), (2, 4, 8, 16, 16)),
    "vgg16": ((64, 128, 256, 512, 512), (1, 2, 4, 8, 16)),
    "googlenet": ((192, 480, 832, 1024), (4, 8, 16, 16)),
    "inception_v3": ((64, 192, 288, 768, 2048), (2, 4, 8, 16, 16)),
    "resnet50": ((64, 256, 512, 1024, 2048), (4, 4, 8, 16, 16)),
    "densenet161": ((384, 768, 2112, 2208), (4, 8, 16, 16)),
    "mobilenet_v2": ((16, 24, 32, 96, 1280), (2, 4, 8, 16, 16)),
}


def picture(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=torch.manual_seed(0))


def features(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return backbone.eval()(image)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_every_listed_backbone_is_tested_here() -> None:
    assert set(STAGES) == set(BACKBONES)


@pytest.mark.parametrize("name", STAGES)
def test_stages_have_the_stated_channels_and_strides(name: str) -> None:
    backbone, _ = build(name)
    channels, strides = STAGES[name]
    assert (backbone.channels, backbone.strides) == (channels, strides)
    assert backbone.input_size == spec_of(name).input_size == BACKBONES[name].input_size
    for height, width in ((96, 128), (97, 131)):
        found = features(backbone, picture(height, width))
        assert [stage.shape[1] for stage in found] == list(channels)
        for stage, stride in zip(found, strides, strict=True):
            # valid convolutions of InceptionV3's stem take up to four cells and a half of a stage
            slack = 4.5 if name == "inception_v3" else 1
            assert abs(stage.shape[2] - height / stride) <= slack
            assert abs(stage.shape[3] - width / stride) <= slack
        assert found[-1].isfinite().all()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
def test_bytes_and_floats_of_the_same_values_give_the_same_features(name: str) -> None:
    backbone, _ = build(name)
    image = picture(64, 96)
    for one, other in zip(features(backbone, image), features(backbone, image.float()), strict=True):
        assert torch.equal(one, other)


def test_pixels_are_normalised_by_the_stated_mean_and_deviation() -> None:
    backbone, _ = build("resnet50")
    seen: list[Tensor] = []
    backbone.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features(backbone, picture(32, 32))
    mean, std = (torch.tensor(backbone.normalisation[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert torch.allclose(seen[0][0], (picture(32, 32)[0] / 255 - mean) / std, atol=1e-5)


def test_random_weights_follow_the_seed() -> None:
    torch.manual_seed(3)
    one, _ = build("mobilenet_v2")
    torch.manual_seed(3)
    other, _ = build("mobilenet_v2")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_removing_the_last_stride_preserves_the_features() -> None:
    """Every second cell of the dilated network is the strided network's cell (away from the padding)."""
    torch.manual_seed(0)
    strided = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    dense = nn.Sequential(nn.Conv2d(4, 4, 3, stride=1, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    dense.load_state_dict(strided.state_dict())
    dilate(dense[1])
    signal = torch.randn(1, 4, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(dense(signal)[:, :, ::2, ::2], strided(signal), atol=1e-5)


def test_the_installed_weights_are_unsure_about_a_grey_image() -> None:
    backbone, linear = build("efficientnet_lite0", weights="imagenet")
    assert linear is not None
    assert (linear.in_features, linear.out_features) == (1280, 1000)
    with torch.inference_mode():
        shares = linear(features(backbone, torch.full((1, 3, 224, 224), 127))[-1].mean(dim=(2, 3))).softmax(dim=1)
    assert shares.isfinite().all()
    assert shares.max() < 0.9


@pytest.mark.parametrize("name", ["vgg16", "vit_tiny_patch16_224"])
def test_backbones_without_a_linear_head_have_no_classifier(name: str) -> None:
    assert build(name)[1] is None


# --- timm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 16), ("mobilenetv3_small_050", 32), ("convnext_atto", 16)])
def test_any_convolutional_timm_model_works_by_its_name(name: str, stride: int) -> None:
    backbone, _ = build(name)
    assert backbone.strides == (stride,)
    for height, width in ((224, 224), (97, 131)):
        (last,) = features(backbone, picture(height, width))
        assert last.shape[1] == backbone.channels[0]
        assert abs(last.shape[2] - height / stride) <= 1
        assert abs(last.shape[3] - width / stride) <= 1


@pytest.mark.parametrize(
    ("size", "cells"), [((224, 224), (14, 14)), ((336, 456), (21, 29)), ((97, 131), (6, 8)), ((32, 32), (2, 2))]
)
def test_a_transformer_takes_images_of_any_size(size: tuple[int, int], cells: tuple[int, int]) -> None:
    backbone, _ = build("vit_tiny_patch16_224")
    of_stages = features(backbone, picture(*size))
    assert [tuple(one.shape) for one in of_stages] == [(1, channels, *cells) for channels in backbone.channels]


def test_an_unknown_backbone_is_refused_with_the_nearest_name_and_the_choices() -> None:
    with pytest.raises(ModelError, match="did you mean 'efficientnet_lite0'") as caught:
        build("efficientnet_lite_0")
    assert "vgg16" in str(caught.value)
    assert "timm" in str(caught.value)


# --- weights from files ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return spec_of("mobilenet_v2").build_network().state_dict()


def is_loaded(path: Path, weights: dict[str, Tensor]) -> bool:
    backbone, linear = build("mobilenet_v2", weights=str(path))
    first = next(backbone.parameters())
    return torch.equal(first, weights["features.0.0.weight"]) and torch.equal(linear.bias, weights["classifier.1.bias"])


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w, "epoch": 3}, lambda w: {"model": w}])
def test_weights_are_read_from_a_pytorch_file(tmp_path: Path, weights: dict[str, Tensor], wrap: object) -> None:
    assert is_loaded(saved(tmp_path / "w.pth", wrap(weights)), weights)


def test_weights_are_read_from_a_safetensors_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    save_file(weights, tmp_path / "w.safetensors")
    assert is_loaded(tmp_path / "w.safetensors", weights)


def test_weights_of_another_network_are_refused_with_what_they_lack(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "w.pth", weights)
    with pytest.raises(ModelError, match=r"do not fit the backbone efficientnet_lite0: the file lacks 'conv_stem"):
        build("efficientnet_lite0", weights=str(path))


def test_weights_of_another_shape_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "w.pth", {**weights, "classifier.1.bias": torch.zeros(7)})
    with pytest.raises(ModelError, match=r"another shape of 'classifier\.1\.bias'"):
        build("mobilenet_v2", weights=str(path))


def test_missing_weights_are_refused_by_their_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No weights file .*missing\.pth"):
        build("mobilenet_v2", weights=str(tmp_path / "missing.pth"))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04" + bytes(200)])
def test_corrupt_weights_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="is not a file of plain weights"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_half_a_weights_file_is_refused(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    path = tmp_path / name
    save_file(weights, path) if name.endswith("safetensors") else torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ModelError, match="is not a file of plain weights"):
        read_weights(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "b"}}, torch.zeros(3)])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ModelError, match="holds no state dict"):
        read_weights(saved(tmp_path / "w.pth", content))


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"state_dict": Trap(sprung)}))
    with pytest.raises(ModelError, match="is not a file of plain weights"):
        build("mobilenet_v2", weights=str(tmp_path / "w.pth"))
    assert not sprung.exists()
    pickle.loads((tmp_path / "w.pth").read_bytes())
    assert sprung.exists(), "the trap is a real one"


def test_the_advice_of_torch_to_run_the_code_of_a_file_is_not_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "labels.pth"
    path.write_text("file_name,labels\na.jpg,dog\n")
    with pytest.raises(ModelError, match="is not a file of plain weights") as raised:
        read_weights(path)
    assert "weights_only" not in str(raised.value)


def test_imagenet_has_a_thousand_unique_class_names() -> None:
    names = imagenet_names()
    assert len(names) == len(set(names)) == 1000
