import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, ClassificationLoss, Localizer, pad_classes, probabilities
from mining.localizers.cam import CAM
from mining.localizers.loading import localizer_named
from mining.localizers.registry import LOCALIZERS
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer

CLASSES = 5


def pictures(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def cam(*, background: str = "mean", classes: int = CLASSES) -> CAM:
    """CAM on EfficientNet-Lite0 of random weights, its head random too, in evaluation mode."""
    torch.manual_seed(1)
    localizer = CAM(build("efficientnet_lite0")[0], classes, background=background)
    nn.init.normal_(localizer.classifier.weight)
    nn.init.normal_(localizer.classifier.bias)
    return localizer.eval()


def of_every_class(count: int = 2, classes: int = CLASSES) -> Tensor:
    return torch.arange(classes).repeat(count, 1)


def sums_by_hand(localizer: CAM, images: Tensor) -> np.ndarray:
    """M_c(x, y) = sum_k w_k^c f_k(x, y), written out in double precision; (B, C, h, w)."""
    features = localizer.backbone(images)[-1].double().numpy()
    weights = localizer.classifier.weight.flatten(1).double().detach().numpy()
    batch, _, height, width = features.shape
    maps = np.zeros((batch, len(weights), height, width))
    for number, weight in enumerate(weights):
        for channel, share in enumerate(weight):
            maps[:, number] += share * features[:, channel]
    return maps


@pytest.fixture(autouse=True)
def _no_gradients_unless_asked_for() -> None:
    with torch.no_grad():
        yield


# --- the list --------------------------------------------------------------------------------------------------------


def test_a_localizer_is_found_by_its_name() -> None:
    assert localizer_named("cam") is CAM
    assert all(localizer_named(name).name == name for name in LOCALIZERS)


def test_an_unknown_localizer_is_refused_with_the_nearest_name_and_the_choices() -> None:
    with pytest.raises(ModelError, match=r"Unknown localizer 'cm': did you mean 'cam'\?") as caught:
        localizer_named("cm")
    assert all(name in str(caught.value).split("Choose from:")[1] for name in LOCALIZERS)


# --- the contract, whatever the paper --------------------------------------------------------------------------------


def localizer_of(name: str) -> Localizer:
    torch.manual_seed(2)
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    return build_localizer(ModelCard(name, "efficientnet_lite0", "single", listed, 64, {}))[0].eval()


@pytest.mark.parametrize("name", LOCALIZERS)
def test_forward_and_localize_give_the_same_logits(name: str) -> None:
    localizer = localizer_of(name)
    seen = localizer.localize(pictures(3), torch.tensor([[0], [1], [2]]))
    assert (seen.logits.shape, seen.logits.dtype) == ((3, CLASSES), torch.float32)
    assert torch.allclose(seen.logits, localizer(pictures(3)), atol=1e-5)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_without_classes_there_are_logits_and_no_maps(name: str) -> None:
    seen = localizer_of(name).localize(pictures(2), torch.zeros((2, 0), dtype=torch.int64))
    assert seen.logits.shape == (2, CLASSES)
    assert tuple(seen.classes.shape) == (2, 0)
    assert tuple(seen.maps.shape[:2]) == (2, 1 if localizer_named(name).class_agnostic else 0)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_maps_do_not_depend_on_the_other_images_of_the_batch(name: str) -> None:
    localizer = localizer_of(name)
    classes = torch.tensor([[0, 3], [4, NO_CLASS], [2, 1], [1, 0]])
    together = localizer.localize(pictures(4), classes)
    for place in range(4):
        alone = localizer.localize(pictures(4)[place : place + 1], classes[place : place + 1])
        asked = 1 if localizer.class_agnostic else int((classes[place] != NO_CLASS).sum())
        assert torch.allclose(alone.logits[0], together.logits[place], atol=1e-5)
        assert torch.allclose(alone.maps[0, :asked], together.maps[place, :asked], atol=1e-4)


# --- maps ------------------------------------------------------------------------------------------------------------


def test_the_maps_of_the_paper_are_the_class_weighted_sums_of_the_features() -> None:
    localizer = cam(background="none")
    maps = localizer.localize(pictures(), of_every_class()).maps
    np.testing.assert_allclose(maps.numpy(), sums_by_hand(localizer, pictures()), rtol=1e-3, atol=1e-3)


def test_by_default_the_mean_of_all_class_maps_is_subtracted() -> None:
    localizer = cam()
    sums = sums_by_hand(localizer, pictures())
    maps = localizer.localize(pictures(), of_every_class()).maps
    expected = sums - sums.mean(axis=1, keepdims=True)
    assert CAM(localizer.backbone, 3).config.background == "mean"
    assert np.abs(expected - sums).max() > 1, "the mean map is worth taking off here"
    np.testing.assert_allclose(maps.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_mean_is_over_all_classes_not_over_those_asked_for() -> None:
    localizer = cam()
    alone = localizer.localize(pictures(), torch.tensor([[3], [3]])).maps
    every = localizer.localize(pictures(), of_every_class()).maps
    assert alone.abs().max() > 0.1
    assert torch.allclose(alone[:, 0], every[:, 3], atol=1e-4)


def test_a_part_common_to_all_classes_does_not_show_in_the_maps() -> None:
    plain = cam()
    shifted = copy.deepcopy(plain)
    shifted.classifier.weight += torch.randn(1, *plain.classifier.weight.shape[1:])
    assert not torch.allclose(plain.classifier.weight, shifted.classifier.weight, atol=0.1)
    before, after = (one.localize(pictures(), of_every_class()).maps for one in (plain, shifted))
    assert torch.allclose(before, after, atol=1e-3)


def test_a_single_class_has_no_background_to_subtract() -> None:
    localizer = cam(classes=1)
    maps = localizer.localize(pictures(), of_every_class(classes=1)).maps
    np.testing.assert_allclose(maps.numpy(), sums_by_hand(localizer, pictures()), rtol=1e-3, atol=1e-3)


def test_maps_are_not_normalised() -> None:
    """Twice the weights give twice the map, negative activation is kept, and the bias is in the logits only."""
    plain = cam()
    louder = copy.deepcopy(plain)
    louder.classifier.weight *= 2
    louder.classifier.bias += 100
    quiet, loud = (one.localize(pictures(), of_every_class()) for one in (plain, louder))
    assert quiet.maps.min() < -1
    assert quiet.maps.max() > 1
    assert torch.allclose(loud.maps, 2 * quiet.maps, rtol=1e-3, atol=1e-3)
    assert torch.allclose(
        loud.logits - 100 - plain.classifier.bias, 2 * (quiet.logits - plain.classifier.bias), atol=1e-2
    )


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (96, 64), (65, 97)])
def test_maps_have_one_cell_for_sixteen_pixels(height: int, width: int) -> None:
    seen = cam().localize(pictures(2, height, width), torch.tensor([[0, 1, 2], [4, 3, 2]]))
    assert seen.maps.dtype == torch.float32
    assert tuple(seen.maps.shape) == (2, 3, -(-height // 16), -(-width // 16))


def test_each_image_gets_its_own_classes_in_the_order_asked() -> None:
    localizer = cam()
    every = localizer.localize(pictures(3), of_every_class(3)).maps
    asked = torch.tensor([[4, 0, 2], [1, 1, 3], [0, NO_CLASS, NO_CLASS]])
    seen = localizer.localize(pictures(3), asked)
    assert torch.equal(seen.classes, asked)
    for image, place in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)):
        assert torch.allclose(seen.maps[image, place], every[image, asked[image, place]], atol=1e-4)


def test_classes_may_be_chosen_from_the_logits() -> None:
    localizer = cam()
    shown: list[Tensor] = []

    def best_two(logits: Tensor) -> Tensor:
        shown.append(logits)
        return logits.topk(2).indices

    seen = localizer.localize(pictures(3), best_two)
    assert torch.equal(shown[0], seen.logits)
    assert torch.equal(seen.classes, seen.logits.topk(2).indices)
    asked = localizer.localize(pictures(3), seen.classes)
    assert torch.equal(seen.maps, asked.maps)


def test_results_are_float32_under_autocast() -> None:
    localizer = cam()
    with torch.autocast("cpu", torch.bfloat16):
        seen = localizer.localize(pictures(), of_every_class())
    full = localizer.localize(pictures(), of_every_class())
    assert (seen.logits.dtype, seen.maps.dtype) == (torch.float32, torch.float32)
    assert (seen.maps - full.maps).abs().max() < 0.1 * full.maps.abs().max()
    assert not torch.equal(seen.maps, full.maps), "autocast was at work"


# --- logits ----------------------------------------------------------------------------------------------------------


def test_logits_are_the_mean_of_the_one_by_one_class_convolution() -> None:
    localizer = cam()
    convolved = localizer.classifier(localizer.backbone(pictures(3))[-1])
    assert convolved.shape[2:] == (4, 6)
    assert torch.allclose(localizer(pictures(3)), convolved.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)


def test_the_mean_of_an_uncentred_map_is_the_logit_without_its_bias() -> None:
    localizer = cam(background="none")
    seen = localizer.localize(pictures(), of_every_class())
    assert torch.allclose(seen.maps.mean(dim=(2, 3)) + localizer.classifier.bias, seen.logits, rtol=1e-4, atol=1e-4)


def test_weights_of_a_linear_classifier_are_copied() -> None:
    localizer = cam()
    linear = nn.Linear(1280, CLASSES)
    localizer.load_linear(linear)
    pooled = localizer.backbone(pictures())[-1].mean(dim=(2, 3))
    assert torch.allclose(localizer(pictures()), linear(pooled), atol=1e-4)


def test_dropout_is_active_in_training_only() -> None:
    localizer = cam()
    assert torch.equal(localizer(pictures()), localizer(pictures()))
    localizer.freeze_backbone()
    localizer.train()
    assert not torch.allclose(localizer(pictures()), localizer(pictures()))


# --- training --------------------------------------------------------------------------------------------------------


def trained_at(localizer: Localizer) -> dict[str, float]:
    """Name of each parameter an optimizer would get, to its rate; a parameter given twice fails."""
    names = {id(value): name for name, value in localizer.named_parameters()}
    given = [(names[id(value)], group["lr"]) for group in localizer.parameter_groups(0.5) for value in group["params"]]
    assert len(given) == len(dict(given))
    return dict(given)


def test_the_head_is_trained_at_the_full_rate_and_the_backbone_at_a_tenth() -> None:
    localizer = cam()
    rates = trained_at(localizer)
    assert set(rates) == {name for name, _ in localizer.named_parameters()}
    assert {rate for name, rate in rates.items() if name.startswith("classifier.")} == {0.5}
    assert {rate for name, rate in rates.items() if name.startswith("backbone.")} == {0.05}


def test_with_a_frozen_backbone_only_the_head_is_trained() -> None:
    localizer = cam()
    localizer.freeze_backbone()
    assert trained_at(localizer) == {"classifier.weight": 0.5, "classifier.bias": 0.5}


def test_a_step_gives_gradients_to_trained_parameters_only() -> None:
    localizer = cam()
    localizer.freeze_backbone()
    targets = torch.eye(CLASSES)[:2]
    with torch.enable_grad():
        losses = localizer.train().training_step(pictures(), targets, ClassificationLoss("single"))
        torch.stack(list(losses.values())).sum().backward()
    assert all(value.grad is None for value in localizer.backbone.parameters())
    assert all(value.grad.abs().sum() > 0 for value in localizer.classifier.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_backbone_keeps_its_statistics_in_training_mode(frozen: bool) -> None:
    localizer = cam()
    before = copy.deepcopy(dict(localizer.backbone.named_buffers()))
    if frozen:
        localizer.freeze_backbone()
    localizer.train()
    assert localizer.training
    assert localizer.backbone.training is not frozen
    localizer(pictures())
    kept = all(torch.equal(before[name], value) for name, value in localizer.backbone.named_buffers())
    assert kept is frozen


def test_evaluation_mode_applies_to_all_parts() -> None:
    localizer = cam()
    localizer.freeze_backbone()
    assert not any(part.training for part in localizer.train().eval().modules())


def head_of(weight: list[list[float]]) -> CAM:
    """CAM whose features are the pixels, with these weights in its head and no bias."""
    pixels = StageSpec([nn.Identity()], (3,), (1,), None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    localizer = CAM(Backbone("pixels", pixels), len(weight), dropout=0.0)
    localizer.classifier.weight.copy_(torch.tensor(weight)[:, :, None, None])
    return localizer


def test_the_single_loss_is_cross_entropy() -> None:
    localizer = head_of([[1.0, 0, 0], [0, 1.0, 0]])
    image = torch.tensor([3.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    losses = localizer.training_step(image, torch.tensor([[0.0, 1.0]]), ClassificationLoss("single"))
    assert float(sum(losses.values())) == pytest.approx(np.log(np.exp(3) + np.exp(1)) - 1)


def test_the_multi_loss_is_binary_cross_entropy() -> None:
    localizer = head_of([[1.0, 0, 0], [0, 1.0, 0]])
    image = torch.tensor([3.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    loss = ClassificationLoss("multi", torch.tensor([2.0, 5.0]))
    losses = localizer.training_step(image, torch.tensor([[1.0, 0.0]]), loss)
    by_hand = (2 * np.log1p(np.exp(-3)) + np.log1p(np.exp(1))) / 2  # the weight counts for positives only
    assert float(sum(losses.values())) == pytest.approx(by_hand, rel=1e-5)


def test_a_rare_class_has_a_larger_weight_in_the_loss() -> None:
    logits, targets = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain = ClassificationLoss("single")(logits, targets)
    weighed = ClassificationLoss("single", torch.tensor([1.0, 3.0]))(logits, targets)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert float(plain) == pytest.approx((right + wrong) / 2)
    assert float(weighed) == pytest.approx((right + 3 * wrong) / 4)


# --- small things ----------------------------------------------------------------------------------------------------


def test_probabilities_are_softmax_or_sigmoid() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, -5.0]])
    assert probabilities(logits, "single").sum(dim=1).tolist() == pytest.approx([1, 1])
    assert probabilities(logits, "multi")[0].tolist() == [0.5, 0.5, 0.5]
    assert probabilities(logits, "multi")[1].tolist() == pytest.approx([0.99331, 0.99331, 0.00669], abs=1e-5)


def test_lists_of_classes_are_padded_at_their_end() -> None:
    padded = pad_classes([[3, 1], [], [2]])
    assert padded.dtype == torch.int64
    assert padded.tolist() == [[3, 1], [NO_CLASS, NO_CLASS], [2, NO_CLASS]]


@pytest.mark.parametrize("lists", [[], [[]], [[], []]])
def test_lists_without_any_class_keep_the_number_of_images(lists: list[list[int]]) -> None:
    assert tuple(pad_classes(lists).shape) == (len(lists), 0)
