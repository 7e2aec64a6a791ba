import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mining.backbones.build import build
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.models.card import ModelCard, read_card, unknown_classes
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.models.device import resolve_device
from mining.models.install import install_model
from mining.models.pretrained import pretrained_model
from tests.factories import register_tiny_backbone

CLASSES = [{"id": 17, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "Kuh & Kalb"}]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny_backbone(monkeypatch)


def card_of(backbone: str = "tiny", **values: Any) -> ModelCard:
    return replace(ModelCard("cam", backbone, "multi", CLASSES, 64, {"mean": [0.5]}, training={"epochs": 3}), **values)


def saved(folder: Path, seed: int = 0, **values: Any) -> tuple[Localizer, ModelCard]:
    torch.manual_seed(seed)
    localizer = build_localizer(card_of(**values))[0]
    with torch.no_grad():
        localizer.train()(torch.rand(2, 3, 64, 64) * 255)  # statistics of their own, as training leaves them
    return localizer.eval(), save_model(folder, localizer, card_of(**values))


def seen_by(localizer: Localizer) -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (2, 3, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        seen = localizer.localize(images, torch.tensor([[0, 1, 2], [2, 1, 0]]))
    return seen.logits, seen.maps


def changed_card(folder: Path, **values: Any) -> None:
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**record, **values}))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["tiny", "efficientnet_lite0"])
@pytest.mark.parametrize("options", [{}, {"background": "none", "dropout": 0.5}])
def test_a_loaded_model_is_bitwise_equal(tmp_path: Path, backbone: str, options: dict[str, Any]) -> None:
    localizer, written = saved(tmp_path / "model", backbone=backbone, options=options)
    torch.manual_seed(99)
    back, card = load_model(tmp_path / "model")
    assert card == written
    assert not back.training
    for first, second in zip(seen_by(localizer), seen_by(back), strict=True):
        assert first.abs().max() > 0
        assert torch.equal(first, second)


def test_a_model_saved_in_training_mode_is_the_same_model(tmp_path: Path) -> None:
    localizer, card = saved(tmp_path / "first")
    save_model(tmp_path / "second", localizer.train(), card)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_the_card_holds_the_given_values_and_the_hash_of_the_weights(tmp_path: Path) -> None:
    _, written = saved(tmp_path)
    digest = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    assert written == card_of(weights_sha256=digest)
    assert json.loads((tmp_path / "model.json").read_text()) == {"format": "boxmine-model/1", **written.to_record()}
    assert read_card(tmp_path) == written
    assert written.class_names == ["cat", "dog", "Kuh & Kalb"]


def test_other_weights_have_another_hash_and_the_same_weights_the_same(tmp_path: Path) -> None:
    hashes = [saved(tmp_path / str(number), seed)[1].weights_sha256 for number, seed in enumerate((0, 0, 1))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_model_folder_has_two_files(tmp_path: Path) -> None:
    saved(tmp_path)
    assert set(contents(tmp_path)) == {"weights.safetensors", "model.json"}


# --- what is no model ------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No model folder .*nowhere; train one with `boxmine train`"):
        load_model(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"weights\.pth is not a boxmine model.*--weights FILE"):
        load_model(tmp_path / "weights.pth")


CARDS_OF_NO_MODEL = {
    "empty": b"",
    "half": b'{"format": "boxmine-model/1", "localizer": "ca',
    "binary": b"\x80\x02\xff\xfe",
    "list": b"[1, 2]",
    "null": b"null",
    "no format": b"{}",
    "another format": b'{"format": "boxmine-model/9"}',
    "nothing but the format": b'{"format": "boxmine-model/1"}',
}


@pytest.mark.parametrize("content", CARDS_OF_NO_MODEL.values(), ids=CARDS_OF_NO_MODEL)
def test_an_invalid_card_is_refused_with_the_folder_and_a_remedy(tmp_path: Path, content: bytes) -> None:
    saved(tmp_path)
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(
        ModelError, match=r"is not a boxmine model: it needs a model\.json as `boxmine train`"
    ) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", "cat"), ("classes", None), ("classes", []), ("classes", ["cat", "dog"]),
        ("classes", [{"id": 1}]), ("classes", [{"id": "one", "name": "cat"}]), ("input_size", "large"),
        ("input_size", 0), ("objective", "triple"), ("options", [1]), ("localizer", 3), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_card_with_a_value_of_the_wrong_kind_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    saved(tmp_path)
    changed_card(tmp_path, **{name: value})
    with pytest.raises(ModelError, match="is not a boxmine model") as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.json").unlink()
    with pytest.raises(ModelError, match="is not a boxmine model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"localizer": "camm"}, "did you mean 'cam'"),
        ({"backbone": "efficientnet_lite9"}, "did you mean 'efficientnet_lite"),
        ({"options": {"colour": "red"}}, "colour"),
    ],
)
def test_a_card_that_names_an_unknown_localizer_is_refused(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    saved(tmp_path)
    changed_card(tmp_path, **values)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


# --- weights ---------------------------------------------------------------------------------------------------------


def refused(folder: Path) -> str:
    """Load a model that must be refused; returns the message, which names the file and a remedy."""
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    sentence = str(caught.value)
    assert str(folder / "weights.safetensors") in sentence
    assert "train" in sentence
    assert "\n" not in sentence
    return sentence


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    refused(tmp_path)


@pytest.mark.parametrize("kept", [0, 7, 1000, -1])
def test_weights_cut_short_are_refused(tmp_path: Path, kept: int) -> None:
    saved(tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(tmp_path)


def test_a_single_flipped_bit_is_noticed(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "weights.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    assert "SHA-256" in refused(tmp_path)


def test_weights_of_another_model_of_the_same_kind_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "first", seed=0)
    saved(tmp_path / "second", seed=1)
    path = tmp_path / "first" / "weights.safetensors"
    path.write_bytes((tmp_path / "second" / "weights.safetensors").read_bytes())
    assert "SHA-256" in refused(tmp_path / "first")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """Also where the card has no hash, or that of the wrong file."""
    _, other = saved(tmp_path / "other", backbone="mobilenet_v2")
    saved(tmp_path / "model")
    path = tmp_path / "model" / "weights.safetensors"
    path.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    changed_card(tmp_path / "model", weights_sha256=other.weights_sha256)
    assert "cam on tiny" in refused(tmp_path / "model")


def test_weights_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "weights.safetensors"
    tensors = load_file(path)
    tensors["classifier.weight"] = torch.zeros(7, 8, 1, 1)
    save_file(tensors, path)
    changed_card(tmp_path, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    refused(tmp_path)


# --- the networks' own classifiers -----------------------------------------------------------------------------------


def test_pretrained_efficientnet_names_a_thousand_classes() -> None:
    localizer, card = pretrained_model("efficientnet_lite0")
    assert (card.localizer, card.backbone, card.objective, card.input_size) == ("cam", "efficientnet_lite0", "single", 224)  # fmt: skip
    assert [one["id"] for one in card.classes] == list(range(1, 1001))
    assert len(set(card.class_names)) == 1000
    assert (card.class_names[0], card.class_names[207], card.class_names[999]) == ("tench", "golden retriever", "toilet tissue")  # fmt: skip
    assert card.normalisation["mean"] == pytest.approx([127 / 255] * 3, abs=3e-3)
    backbone, linear = build("efficientnet_lite0", weights="imagenet")
    images = torch.full((1, 3, 64, 64), 90, dtype=torch.uint8)
    with torch.inference_mode():
        expected = linear(backbone.eval()(images)[-1].mean(dim=(2, 3)))
        assert torch.allclose(localizer(images), expected, atol=1e-4)


def test_an_unknown_backbone_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'efficientnet-lite0': did you mean 'efficientnet_lite0'"):
        install_model("pretrained:efficientnet-lite0", tmp_path / "model")
    assert not (tmp_path / "model").exists()


# --- into a run ------------------------------------------------------------------------------------------------------


def test_installing_a_model_twice_changes_nothing(tmp_path: Path) -> None:
    _, written = saved(tmp_path / "model")
    assert install_model(str(tmp_path / "model"), tmp_path / "run" / "model") == written
    once = contents(tmp_path / "run" / "model")
    assert once == contents(tmp_path / "model")
    assert install_model(str(tmp_path / "model"), tmp_path / "run" / "model") == written
    assert contents(tmp_path / "run" / "model") == once


def test_installing_a_model_into_its_own_folder_changes_nothing(tmp_path: Path) -> None:
    _, written = saved(tmp_path / "model")
    before = times(tmp_path / "model")
    assert install_model(f"{tmp_path}/model/../model", tmp_path / "model") == written
    assert times(tmp_path / "model") == before


def test_an_interrupted_installation_is_no_model_and_is_completed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "model")
    copied: list[Path] = []

    def copy_one(source: Path, target: Path) -> None:
        if copied:
            target.write_bytes(b"half")
            raise KeyboardInterrupt
        copied.append(source)
        target.write_bytes(source.read_bytes())

    with monkeypatch.context() as patched:
        patched.setattr("mining.models.install.link_or_copy", copy_one)
        with pytest.raises(KeyboardInterrupt):
            install_model(str(tmp_path / "model"), tmp_path / "copy")
    with pytest.raises(ModelError):
        read_card(tmp_path / "copy")
    install_model(str(tmp_path / "model"), tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(tmp_path / "model")


def test_another_model_is_not_overwritten(tmp_path: Path) -> None:
    saved(tmp_path / "first", seed=0)
    saved(tmp_path / "second", seed=1)
    install_model(str(tmp_path / "first"), tmp_path / "run")
    with pytest.raises(ModelError, match=r"run holds another model than .*second; give another --out"):
        install_model(str(tmp_path / "second"), tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "first")


def test_a_pretrained_model_is_written_once(tmp_path: Path) -> None:
    first = install_model("pretrained:efficientnet_lite0", tmp_path)
    before = times(tmp_path)
    assert install_model("pretrained:efficientnet_lite0", tmp_path) == first
    assert times(tmp_path) == before
    assert load_model(tmp_path)[1] == first


def test_a_pretrained_model_replaces_another_pretrained_one(tmp_path: Path) -> None:
    install_model("pretrained:efficientnet_lite1", tmp_path)
    card = install_model("pretrained:efficientnet_lite0", tmp_path)
    assert card.backbone == "efficientnet_lite0"
    assert load_model(tmp_path)[1] == card


def test_a_trained_model_is_not_replaced_by_a_pretrained_one(tmp_path: Path) -> None:
    saved(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(
        ModelError, match="holds a trained model, not pretrained:efficientnet_lite0; give another --out"
    ):
        install_model("pretrained:efficientnet_lite0", tmp_path)
    assert contents(tmp_path) == before


# --- small things ----------------------------------------------------------------------------------------------------


def test_unknown_classes_are_listed_in_their_order() -> None:
    assert unknown_classes(["zebra", "cat", "Dog", "dog"], card_of()) == ["zebra", "Dog"]
    assert unknown_classes({"cat": 3, "ape": 1}, card_of()) == ["ape"]
    assert unknown_classes([], card_of()) == []


def test_a_device_is_resolved_by_its_name() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_missing_device_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(ModelError, match=f"Device '{name}' cannot be used: .*Try auto or cpu"):
        resolve_device(name)
