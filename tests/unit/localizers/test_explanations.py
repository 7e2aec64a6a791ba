"""What localizers show besides their maps: layers, ranks, masks, the evaluator's verdict."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mining.localizers.base import ClassificationLoss, Localizer
from mining.localizers.gradient import named_layers
from mining.localizers.msrd import explanation_map
from mining.localizers.nlccam import ranks_shown
from mining.localizers.registry import LOCALIZERS
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, load_model, save_model

CLASSES = 6
ASKED = torch.tensor([[1], [4]])


def localizer_of(name: str, **options: object) -> Localizer:
    """A localizer on EfficientNet-Lite0 of random weights, in evaluation mode."""
    torch.manual_seed(2)
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    card = ModelCard(name, "efficientnet_lite0", "single", listed, 64, {}, options=options)
    return build_localizer(card)[0].eval()


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)


@pytest.fixture(autouse=True)
def _no_gradients() -> None:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", LOCALIZERS)
def test_explanations_have_a_map_per_image_and_values_of_their_kind(name: str) -> None:
    for one in localizer_of(name).explain(images(), ASKED).values():
        assert one.maps.shape[:2] == (2, 1)
        assert one.maps.dtype == torch.float32
        assert bool(one.maps.isfinite().all())
        if one.kind not in ("activation", "relative"):
            assert bool(((one.maps >= 0) & (one.maps <= 1)).all())
        if one.kind == "mask":
            assert set(one.maps.unique().tolist()) <= {0.0, 0.5, 1.0}


@pytest.mark.parametrize("name", LOCALIZERS)
def test_explaining_changes_neither_maps_nor_weights(name: str) -> None:
    localizer = localizer_of(name)
    before, weights = localizer.localize(images(), ASKED).maps, copy.deepcopy(localizer.state_dict())
    localizer.explain(images(), ASKED)
    assert torch.equal(localizer.localize(images(), ASKED).maps, before)
    assert all(torch.equal(value, weights[key]) for key, value in localizer.state_dict().items())
    assert all(parameter.requires_grad for parameter in localizer.parameters())


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradcam", "gradcampp", "layercam"])
def test_a_layer_is_the_map_of_a_localizer_that_reads_this_stage(name: str) -> None:
    shown = localizer_of(name).explain(images(), ASKED)
    layers = named_layers(localizer_of(name).backbone)
    assert list(shown) == ["conv5", "conv4", "conv3", "conv5+conv4+conv3"]
    for layer, stage in layers.items():
        expected = localizer_of(name, layer=stage).localize(images(), ASKED).maps
        assert torch.allclose(shown[layer].maps, expected, rtol=1e-4, atol=1e-6)


def test_the_sum_of_layers_weights_them_equally() -> None:
    shown = localizer_of("layercam").explain(images(), ASKED)
    *single, total = (one.maps for one in shown.values())
    finest = total.shape[-2:]
    expected = sum(functional.interpolate(one / one.amax((2, 3), True), finest, mode="bilinear") for one in single)
    assert torch.allclose(total, expected, atol=1e-5)


def test_msrd_adds_its_layers_as_they_are() -> None:
    for layers in ("conv5+conv4", "conv5+conv4+conv3"):
        localizer = localizer_of("msrd", layers=layers)
        shown = localizer.explain(images(), ASKED)
        expected = localizer.localize(images(), ASKED).maps
        assert torch.allclose(shown[layers].maps, expected, rtol=1e-3)
    assert list(shown)[:4] == ["conv5", "conv4", "conv3", "conv5+conv4+conv3"]


def test_the_explanation_map_is_the_scaled_map_with_what_exceeds_a_quarter_at_1() -> None:
    level = torch.tensor([[0.0, 1.0], [2.0, 8.0]])[None, None]
    assert explanation_map(level, (2, 2))[0, 0].tolist() == [[0.0, 0.125], [0.25, 1.0]]
    assert explanation_map(torch.ones(1, 1, 2, 2), (4, 4)).sum() == 0
    products = {key: one for key, one in localizer_of("msrd").explain(images(), ASKED).items() if "image" in key}
    assert set(products) == {f"image x {layer}" for layer in
                             ("conv5", "conv4", "conv3", "conv5+conv4", "conv5+conv4+conv3")}  # fmt: skip
    assert all(one.kind == "product" and one.maps.shape[-2:] == (64, 96) for one in products.values())


# --- ranks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ccam", "nlccam"])
def test_the_maps_of_all_ranks_add_up_to_the_combined_map(name: str) -> None:
    localizer = localizer_of(name, function="polynomial")
    shown = localizer.explain(images(), ASKED)
    *by_rank, combined = shown.values()
    total = sum(float(weight) * one.maps for weight, one in zip(localizer.shares, by_rank, strict=True))
    assert torch.allclose(total, combined.maps, atol=1e-4)
    assert torch.allclose(combined.maps, localizer.localize(images(), ASKED).maps, atol=1e-4)


def test_ranks_name_their_classes_from_the_asked_one_to_the_least_probable() -> None:
    localizer = localizer_of("ccam")
    shown = list(localizer.explain(images(), ASKED).values())[:-1]
    order = localizer(images()).argsort(dim=1, descending=True)
    for image, asked in enumerate(ASKED[:, 0].tolist()):
        classes = [int(one.classes[image, 0]) for one in shown]
        assert classes == [asked, *(index for index in order[image].tolist() if index != asked)]


def test_of_many_classes_the_first_and_the_last_ranks_are_shown() -> None:
    assert ranks_shown(4) == [0, 1, 2, 3]
    assert ranks_shown(1000) == [0, 1, 2, 997, 998, 999]


# --- masks -----------------------------------------------------------------------------------------------------------


SMALL = {"width": 24, "guidance_width": 16}


def test_spg_shows_the_masks_that_its_training_makes_of_the_same_labels() -> None:
    localizer = localizer_of("spg", **SMALL)
    labels = torch.tensor([[1, 3], [4, -1]])
    targets = torch.zeros(2, CLASSES)
    targets[0, [1, 3]], targets[1, 4] = 1, 1
    size = (64, 96)
    features = localizer.features(images())
    attention, has_seeds = localizer.attention(features[2], targets, size, ClassificationLoss("multi"))
    branches = localizer.branches(*features, size)
    masks = localizer.masks(attention, has_seeds, branches["b1"], branches["b2"])
    shown = localizer.explain(images(), labels)
    assert list(shown) == ["A", "mask of A", "B2", "mask of B2", "B1", "mask of (B1 + B2) / 2", "C"]
    assert torch.allclose(shown["A"].maps[:, 0], attention, atol=1e-5)
    for name, branch in {"mask of A": "b2", "mask of B2": "b1", "mask of (B1 + B2) / 2": "c"}.items():
        mask = shown[name].maps[:, 0]
        expected = torch.where(masks[branch] == 255, 0.5, masks[branch].float())
        assert float((mask != expected).float().mean()) < 0.001
    assert torch.allclose(shown["C"].maps[:, 0], branches["c"].sigmoid())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"branches": "A"}, ["A"]),
        ({"branches": "AB"}, ["A", "mask of A", "B2", "mask of B2", "B1"]),
        ({"cascade": False}, ["A", "mask of A", "B2", "B1", "mask of (B1 + B2) / 2", "C"]),
    ],
)
def test_spg_shows_the_branches_that_it_has(options: dict[str, object], names: list[str]) -> None:
    assert list(localizer_of("spg", **SMALL, **options).explain(images(), ASKED)) == names


# --- the evaluator ---------------------------------------------------------------------------------------------------


def test_ornet_asks_its_evaluator_about_the_image_multiplied_by_the_map() -> None:
    localizer = localizer_of("ornet")
    shown = localizer.explain(images(), ASKED)
    masked = shown["image x p^a"]
    assert torch.equal(shown["p^a"].maps, localizer.maps(images(), ASKED))
    weight = functional.interpolate(masked.maps, (64, 96), mode="nearest-exact")
    mean = localizer.evaluator.backbone.mean
    by_hand = localizer.evaluator(mean + (images().float() - mean) * weight)
    assert torch.allclose(masked.logits, by_hand, atol=1e-4)


def test_the_evaluator_is_among_the_weights_that_a_model_keeps(tmp_path: object) -> None:
    localizer = localizer_of("ornet")
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    save_model(tmp_path, localizer, ModelCard("ornet", "efficientnet_lite0", "single", listed, 64, {}))
    loaded, _ = load_model(tmp_path)
    shown, expected = (one.explain(images(), ASKED)["image x p^a"].logits for one in (loaded, localizer))
    assert torch.allclose(shown, expected, atol=1e-5)
