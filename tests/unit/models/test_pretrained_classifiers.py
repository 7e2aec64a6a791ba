"""Classifiers that were trained elsewhere: torchvision's, timm's, and a user's own checkpoint of their architecture."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from mining.config import MineOptions, MineSettings
from mining.errors import ModelError
from mining.localizers.gradient import GradCAM
from mining.localizers.msrd import MSRD
from mining.models.checkpoint import load_model
from mining.models.install import install_model
from mining.models.pretrained import imagenet_names, load_reference, pretrained_card, pretrained_model
from mining.models.pretrained_choice import identify_pretrained, read_class_names

ANIMALS = ("cat", "dog", "Ünicorn")


def own_network(name: str = "squeezenet1_1", classes: int = len(ANIMALS), seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return torchvision.models.get_model(name, weights=None, num_classes=classes).eval()


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("cat\n dog \n\nU\u0308nicorn\n", encoding="utf-8")
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(own_network().state_dict(), tmp_path / "own.pth")
    return tmp_path / "own.pth"


def photos(side: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, side, side + 20), dtype=torch.uint8, generator=generator)


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images / 255 - mean) / std


# --- torchvision's weights -------------------------------------------------------------------------------------------


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torch keeps what it downloaded; no other file can be had."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_weights_in_the_cache_of_torch_need_no_network(hub_cache: Path) -> None:
    network = own_network("mobilenet_v3_small", classes=1000)
    url = torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.url
    torch.save(network.state_dict(), hub_cache / os.path.basename(url))
    localizer, card = pretrained_model("mobilenet_v3_small")
    assert (card.localizer, card.own_head, card.input_size, card.objective) == ("gradcam", True, 224, "single")
    assert card.class_names == imagenet_names()
    assert card.normalisation["mean"] == [0.485, 0.456, 0.406]
    with torch.no_grad():
        assert torch.allclose(localizer(photos()), network(normalised(photos())), atol=1e-4)


def test_weights_that_are_not_there_fail_with_the_remedy(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match=r"weights of vgg16 could not be downloaded \(no network\).*--weights FILE"):
        pretrained_model("vgg16")
    assert not list(hub_cache.iterdir())


def test_the_hash_of_a_download_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's file names have the first digits of the file's SHA-256, which its loader compares."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked: list[tuple[str, Any]] = []

    def record(url: str, file: str, hash_prefix: Any, progress: bool) -> None:
        asked.append((url, hash_prefix))
        raise OSError("stopped")

    monkeypatch.setattr("torch.hub.download_url_to_file", record)
    with pytest.raises(ModelError):
        pretrained_model("alexnet")
    assert asked == [("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79")]


@pytest.mark.parametrize("name", ["vit_b_32", "hrnet_w18_small"])
def test_a_network_that_cannot_be_read_is_refused_before_any_download(name: str, hub_cache: Path) -> None:
    with pytest.raises(ModelError, match=f"pretrained:{name} cannot mine"):
        pretrained_model(name)


# --- localizers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cam", "ccam"])
def test_localizers_that_need_a_linear_head_are_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} needs a classifier that is one linear layer.*msrd, or train {name}"):
        pretrained_model("vgg16", MineOptions(localizer=name))


@pytest.mark.parametrize("name", ["spg", "mldfr", "ornet"])
def test_localizers_with_weights_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name}"):
        pretrained_model("vgg16", MineOptions(localizer=name))


def test_the_localizer_and_its_options_can_be_chosen() -> None:
    options = MineOptions(weights="none", localizer="msrd", options={"layers": "conv5", "window": 5})
    localizer, card = pretrained_model("squeezenet1_1", options)
    assert isinstance(localizer, MSRD)
    assert (localizer.config.window, list(localizer.stages_read())) == (5, [3])
    assert card.options == {"layers": "conv5", "window": 5}


def test_a_random_network_is_the_same_each_time() -> None:
    first, second = (pretrained_model("squeezenet1_1", MineOptions(weights="none"))[0] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


# --- one's own checkpoint --------------------------------------------------------------------------------------------


def test_a_checkpoint_of_other_classes_names_them(checkpoint: Path, names: Path) -> None:
    options = MineOptions(weights=str(checkpoint), class_names=names, objective="multi")
    localizer, card = load_reference("pretrained:squeezenet1_1", options)
    assert isinstance(localizer, GradCAM)
    assert (card.class_names, card.objective) == (list(ANIMALS), "multi")
    with torch.no_grad():
        assert torch.allclose(localizer(photos()), own_network()(normalised(photos())), atol=1e-5)


def test_a_listed_network_with_a_linear_classifier_is_read_by_cam(tmp_path: Path, names: Path) -> None:
    network = own_network("mobilenet_v2")
    torch.save({"state_dict": network.state_dict()}, tmp_path / "own.pth")
    localizer, card = pretrained_model(
        "mobilenet_v2", MineOptions(weights=str(tmp_path / "own.pth"), class_names=names)
    )
    assert (card.localizer, card.own_head, card.class_names) == ("cam", False, list(ANIMALS))
    assert torch.equal(localizer.classifier.weight.flatten(1), network.classifier[1].weight)


def save_safetensors(network: nn.Module, path: Path) -> Path:
    save_file(network.state_dict(), path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def save_parallel(network: nn.Module, path: Path) -> Path:
    torch.save({"model": {f"module.{key}": value for key, value in network.state_dict().items()}}, path)
    return path


@pytest.mark.parametrize("save", [save_safetensors, save_parallel])
def test_a_checkpoint_may_be_safetensors_or_from_a_training_on_several_devices(
    save: Callable[[nn.Module, Path], Path], tmp_path: Path, names: Path
) -> None:
    path = save(own_network(), tmp_path / "own.pth")
    localizer, _ = pretrained_model("squeezenet1_1", MineOptions(weights=str(path), class_names=names))
    with torch.no_grad():
        assert torch.allclose(localizer(photos()), own_network()(normalised(photos())), atol=1e-5)


def test_a_file_of_imagenets_weights_needs_no_class_names(tmp_path: Path) -> None:
    torch.save(own_network(classes=1000).state_dict(), tmp_path / "own.pth")
    card = pretrained_model("squeezenet1_1", MineOptions(weights=str(tmp_path / "own.pth")))[1]
    assert card.class_names == imagenet_names()
    assert card.training["weights"] == "own.pth, not trained further"


def test_weights_of_another_number_of_classes_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "four.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(
        ModelError, match=r"have 3 outputs, and there are 4 class names; give --class-names FILE with 3"
    ):
        pretrained_model("squeezenet1_1", MineOptions(weights=str(checkpoint), class_names=tmp_path / "four.txt"))
    with pytest.raises(ModelError, match=r"have 3 outputs, and there are 1000 class names"):
        pretrained_model("squeezenet1_1", MineOptions(weights=str(checkpoint)))
    torch.save(own_network("mobilenet_v2").state_dict(), checkpoint)
    with pytest.raises(ModelError, match=r"have 3 outputs, and there are 4 class names"):
        pretrained_model("mobilenet_v2", MineOptions(weights=str(checkpoint), class_names=tmp_path / "four.txt"))


def test_weights_of_another_architecture_are_refused(checkpoint: Path, names: Path) -> None:
    with pytest.raises(ModelError, match=r"do not fit the backbone mobilenet_v3_small: the file lacks"):
        pretrained_model("mobilenet_v3_small", MineOptions(weights=str(checkpoint), class_names=names))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "holds no class name"), ("cat\ndog\ncat\n", "names the class 'cat' twice"), ("\x00\udcff", "cannot be read")],
)
def test_class_names_that_cannot_be_used_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=reason):
        read_class_names(path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weights": "nowhere.pth"}, "No weights file .*nowhere.pth"),
        ({"weights": "none", "class_names": "nowhere.txt"}, "nowhere.txt cannot be read as class names"),
        ({"class_names": "names.txt"}, "--class-names goes with --weights FILE"),
        ({"objective": "multi"}, "--objective goes with --weights FILE"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        pretrained_card("squeezenet1_1", MineOptions(**options))


# --- into a run ------------------------------------------------------------------------------------------------------


def test_imagenets_classes_can_be_named_by_their_synsets() -> None:
    card = pretrained_card("vgg16", MineOptions(class_names="synsets"))
    assert (len(card.classes), card.class_names[:2]) == (1000, ["n01440764", "n01443537"])
    assert identify_pretrained(MineOptions(class_names="synsets"), "pretrained:vgg16") == "pretrained:vgg16 synsets"


def test_an_installed_classifier_is_loaded_with_its_head(checkpoint: Path, names: Path, tmp_path: Path) -> None:
    options = MineOptions(weights=str(checkpoint), class_names=names, classes=("cat", "Ünicorn"), localizer="msrd")
    card = install_model("pretrained:squeezenet1_1", tmp_path / "model", options)
    assert (card.class_names, card.own_head) == (["cat", "Ünicorn"], True)
    before = (tmp_path / "model/weights.safetensors").stat()
    assert install_model("pretrained:squeezenet1_1", tmp_path / "model", options) == card
    assert (tmp_path / "model/weights.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    localizer, loaded = load_model(tmp_path / "model", options)
    assert (loaded.localizer, loaded.output_count) == ("msrd", 3)
    with torch.no_grad():
        assert torch.allclose(localizer(photos()), own_network()(normalised(photos())), atol=1e-5)


def test_other_weights_replace_those_that_were_installed(checkpoint: Path, names: Path, tmp_path: Path) -> None:
    first = install_model(
        "pretrained:squeezenet1_1", tmp_path / "model", MineOptions(weights=str(checkpoint), class_names=names)
    )
    torch.save(own_network(seed=4).state_dict(), checkpoint)
    second = install_model(
        "pretrained:squeezenet1_1", tmp_path / "model", MineOptions(weights=str(checkpoint), class_names=names)
    )
    assert first.weights_sha256 != second.weights_sha256


def test_a_run_is_told_apart_by_the_files_of_its_model(checkpoint: Path, names: Path, tmp_path: Path) -> None:
    def identity(**options: Any) -> str:
        settings = MineSettings(images="photos", model="pretrained:squeezenet1_1", out="run", **options)
        return identify_pretrained(settings, settings.model)

    seen = {identity(), identity(weights="none"), identity(weights=str(checkpoint))}
    seen |= {identity(weights=str(checkpoint), class_names=names)}
    torch.save(own_network(seed=4).state_dict(), checkpoint)
    seen |= {identity(weights=str(checkpoint), class_names=names)}
    names.write_text("a\nb\nc\n")
    seen |= {identity(weights=str(checkpoint), class_names=names)}
    assert len(seen) == 6
    assert identity() == "pretrained:squeezenet1_1"


def test_a_model_folder_has_weights_of_its_own(checkpoint: Path, names: Path, tmp_path: Path) -> None:
    options = MineOptions(weights=str(checkpoint), class_names=names)
    install_model("pretrained:squeezenet1_1", tmp_path / "model", options)
    with pytest.raises(ModelError, match="--weights goes with --model pretrained:NAME"):
        load_reference(tmp_path / "model", options)
