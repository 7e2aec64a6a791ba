"""Restricting and renaming the classes of a model: cards, probabilities and outputs."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mining.config import MineOptions
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS
from mining.models.card import ModelCard, OutputSelection, read_card
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.models.class_outputs import choose_outputs, class_of_output, class_probabilities
from mining.models.class_selection import rename_classes, select_classes
from mining.models.install import install_model
from mining.models.pretrained import load_reference
from tests.factories import register_tiny_backbone

CLASSES = [{"id": 10 * number, "name": name} for number, name in enumerate(("ape", "bee", "cat", "dog"), start=1)]
CARD = ModelCard("cam", "tiny", "single", CLASSES, 32, {})


def selected(card: ModelCard = CARD, **options: object) -> ModelCard:
    return select_classes(card, MineOptions.model_validate(options))


def named(card: ModelCard) -> dict[str, tuple[int, list[int]]]:
    """Name to id and outputs."""
    return {
        str(entry["name"]): (entry["id"], outputs)
        for entry, outputs in zip(card.classes, card.selection.outputs, strict=True)
    }


def test_without_options_the_card_is_unchanged() -> None:
    assert selected() is CARD
    assert rename_classes(CARD, MineOptions()) is CARD
    assert "selection" not in CARD.to_record()


def test_selected_classes_keep_id_output_and_the_order_of_the_card() -> None:
    card = selected(classes=["dog", "bee"])
    assert named(card) == {"bee": (20, [1]), "dog": (40, [3])}
    assert (card.class_names, card.output_count) == (["bee", "dog"], 4)


def test_a_renamed_class_keeps_its_id() -> None:
    assert named(selected(map=["cat=kitten"]))["kitten"] == (30, [2])
    assert selected(map=["cat=kitten"]).class_names == ["ape", "bee", "kitten", "dog"]


def test_several_classes_of_one_name_become_one() -> None:
    assert named(selected(map={"ape": "mammal", "dog": "mammal"}, classes=["mammal"])) == {"mammal": (10, [0, 3])}


def test_a_class_that_has_the_name_already_is_merged_and_gives_its_id() -> None:
    assert named(selected(map=["bee=dog"]))["dog"] == (40, [1, 3])


def test_names_can_be_exchanged() -> None:
    card = selected(map=["cat=dog", "dog=cat"])
    assert named(card) == {"ape": (10, [0]), "bee": (20, [1]), "dog": (30, [2]), "cat": (40, [3])}


def test_a_selection_of_a_selection_refers_to_the_networks_outputs() -> None:
    once = selected(map=["cat=pet", "dog=pet"])
    assert named(selected(once, classes=["pet"], map=["ape=pet"])) == {"pet": (30, [0, 2, 3])}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["dgo"]}, "class 'dgo' of --classes: did you mean 'dog'"),
        ({"map": ["dgo=wolf"]}, "class 'dgo' of --map: did you mean 'dog'"),
        ({"map": ["dog=wolf"], "classes": ["dog"]}, "class 'dog' of --classes"),
    ],
)
def test_a_name_that_the_model_does_not_have_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        selected(**options)


@pytest.mark.parametrize("pairs", [["dog"], ["dog="], ["=wolf"], ["dog=wolf=cat"], ["dog=wolf", "dog=fox"]])
def test_a_map_that_is_no_renaming_is_refused(pairs: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"give CLASS=NAME|renamed twice"):
        MineOptions.model_validate({"map": pairs})


def test_the_order_in_which_options_are_given_does_not_matter() -> None:
    options = [MineOptions.model_validate({"classes": names}) for names in ("dog,bee", ["bee", " dog", "bee"])]
    assert options[0] == options[1]
    pairs = [MineOptions.model_validate({"map": pairs}) for pairs in ({"b": "x", "a": "y"}, ["a=y", "b=x"])]
    assert pairs[0] == pairs[1]


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_a_merged_class_has_the_highest_probability_and_left_out_classes_stay_in_the_softmax(objective: str) -> None:
    card = selected(ModelCard("cam", "tiny", objective, CLASSES, 32, {}), map=["bee=pet", "dog=pet"], classes=["pet"])
    logits = torch.tensor([[3.0, 1.0, 0.0, 2.0], [0.0, 2.0, 0.0, 1.0]])
    whole = logits.softmax(dim=1) if objective == "single" else logits.sigmoid()
    assert torch.equal(class_probabilities(logits, card), whole[:, [1, 3]].amax(dim=1, keepdim=True))


def test_the_map_of_a_merged_class_is_that_of_the_most_probable_member() -> None:
    card = selected(map=["bee=pet", "dog=pet"])
    pet, cat = card.class_names.index("pet"), card.class_names.index("cat")
    logits = torch.tensor([[3.0, 1.0, 0.0, 2.0], [0.0, 2.0, 0.0, 1.0]])
    assert choose_outputs([[pet, cat], [pet]], logits, card).tolist() == [[3, 2], [1, NO_CLASS]]
    assert class_of_output(card) == {0: 0, 1: pet, 3: pet, 2: cat}


def test_without_a_selection_classes_and_outputs_are_the_same() -> None:
    logits = torch.rand(2, 4)
    assert torch.equal(class_probabilities(logits, CARD), logits.softmax(dim=1))
    assert choose_outputs([[2, 0], [1]], logits, CARD).tolist() == [[2, 0], [1, NO_CLASS]]
    assert class_of_output(CARD) == {0: 0, 1: 1, 2: 2, 3: 3}


# --- model folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register_tiny_backbone(monkeypatch)
    torch.manual_seed(0)
    save_model(tmp_path / "model", build_localizer(CARD)[0].eval(), CARD)
    return tmp_path / "model"


def test_a_model_without_a_selection_is_written_as_before_there_were_any(model: Path) -> None:
    assert "selection" not in json.loads((model / "model.json").read_text())


def test_an_installed_model_has_the_selected_classes_and_the_same_weights(model: Path, tmp_path: Path) -> None:
    options = MineOptions(classes=("dog",))
    card = install_model(str(model), tmp_path / "run", options)
    assert (card.class_names, card.weights_sha256) == (["dog"], read_card(model).weights_sha256)
    localizer, loaded = load_model(tmp_path / "run", options)
    assert loaded == card
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(localizer(images), load_model(model)[0](images))


def test_a_selection_without_renaming_can_be_loaded_in_memory(model: Path) -> None:
    _, card = load_reference(model, MineOptions(classes=("cat",), map=("ape=monkey",)))
    assert card.class_names == ["cat"]
    assert load_reference(str(model))[1] == read_card(model)


def test_a_pretrained_model_is_installed_with_the_selected_classes(tmp_path: Path) -> None:
    options = MineOptions(classes=("horse",), map=("sorrel=horse",))
    card = install_model("pretrained:efficientnet_lite0", tmp_path, options)
    assert card.classes == [{"id": 340, "name": "horse"}]
    assert card.selection == OutputSelection(1000, [[339]])
    before = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    assert install_model("pretrained:efficientnet_lite0", tmp_path, options) == card
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before
    assert load_reference("pretrained:efficientnet_lite0", options)[1].classes == card.classes


@pytest.mark.parametrize(
    "selection",
    [{"count": 4, "outputs": [[4], [1], [2], [3]]}, {"count": 4, "outputs": [[0]]}, {"count": 4, "outputs": [[0], [0], [1], [2]]}, {"count": 4, "outputs": [[], [1], [2], [3]]}, {"count": 4}, []],
)  # fmt: skip
def test_a_card_with_a_broken_selection_is_refused(model: Path, selection: object) -> None:
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "selection": selection or {"outputs": 3}}))
    with pytest.raises(ModelError, match="is not a boxmine model"):
        read_card(model)
