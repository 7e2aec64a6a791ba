"""ORNet's two stages and its losses against the paper's equations, in double precision."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mining.localizers.base import ClassificationLoss
from mining.localizers.ornet import (
    ORNet,
    ORNetConfig,
    area_loss,
    attentively_erased,
    entropy_loss,
    epochs_of_stage_one,
    erasing_candidates,
    pixel_entropy,
    rest_loss,
    weighted_entropy_loss,
)
from tests.factories import image_with_rectangle
from tests.unit.localizers.ornet_making import (
    CLASSES,
    STAGE_ONE,
    STAGE_TWO,
    cross_entropy,
    losses_of,
    on,
    pictures,
    sigmoid,
    small,
    targets,
)

# --- stage one -------------------------------------------------------------------------------------------------------


def test_the_classifier_gets_low_level_features_times_the_map() -> None:
    """Eq. 3 and 5, in evaluation mode so that dropout and batch norms are fixed."""
    localizer = small()
    with torch.no_grad():
        losses = losses_of(localizer, STAGE_ONE, pictures(), targets())
        low = localizer.backbone(pictures())[0]
        masked = low * localizer.generator(low)[0]
        logits = localizer.classifier(localizer.backbone.stages[1](masked).mean(dim=(2, 3)))
        unmasked = localizer.classifier(localizer.backbone.stages[1](low).mean(dim=(2, 3)))
    assert float(losses["classification"]) == pytest.approx(cross_entropy(logits, targets()), rel=1e-5)
    assert float(losses["classification"]) != pytest.approx(cross_entropy(unmasked, targets()), rel=1e-3)


def test_the_auxiliary_head_averages_the_convolved_features() -> None:
    """Eq. 4 in the paper's order, convolution first; eq. 6."""
    localizer = small()
    with torch.no_grad():
        losses = losses_of(localizer, STAGE_ONE, pictures(), targets())
        features = localizer.generator(localizer.backbone(pictures())[0])[1]
        guess = localizer.auxiliary(features).mean(dim=(2, 3))
    assert float(losses["auxiliary"]) == pytest.approx(cross_entropy(guess, targets()), rel=1e-5)


def test_the_evaluator_learns_as_it_would_alone() -> None:
    """Its gradients are those of its own loss, and its loss reaches nothing else."""
    localizer = small(dropout=0.0).train()
    losses = losses_of(localizer, STAGE_ONE, pictures(), targets())
    torch.stack(list(losses.values())).sum().backward()
    alone = copy.deepcopy(small(dropout=0.0).evaluator).train()
    ClassificationLoss("single")(alone(pictures()), targets()).backward()
    for own, other in zip(localizer.evaluator.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(own.grad, other.grad, atol=1e-6)
    again = small(dropout=0.0).train()
    losses_of(again, STAGE_ONE, pictures(), targets())["evaluator"].backward()
    reached = {name.split(".")[0] for name, value in again.named_parameters() if value.grad is not None}
    assert reached == {"evaluator"}


def test_the_auxiliary_loss_can_be_weighted_and_switched_off() -> None:
    with torch.no_grad():
        full, half, none = (
            losses_of(small(auxiliary=weight), STAGE_ONE, pictures(), targets()) for weight in (1, 0.5, 0)
        )
    assert float(half["auxiliary"]) == pytest.approx(0.5 * float(full["auxiliary"]))
    assert set(none) == {"classification", "evaluator"}


@pytest.mark.parametrize("stage", [STAGE_ONE, STAGE_TWO])
def test_images_of_several_classes_have_binary_losses(stage: int) -> None:
    several = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0]])
    name = ("evaluator", "evaluation")[stage]
    localizer = small(erase=False)
    with torch.no_grad():
        found = losses_of(localizer, stage, pictures(), several, "multi")[name]
        shown = localizer.maps(pictures(), several) if stage == STAGE_TWO else torch.ones(2, 1, 16, 24)
        logits = evaluated_by_hand(localizer, pictures(), shown).double().numpy()
    wanted = several.numpy()
    by_hand = -(wanted * np.log(sigmoid(logits)) + (1 - wanted) * np.log(1 - sigmoid(logits))).mean()
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


# --- the losses of stage two -----------------------------------------------------------------------------------------


def drawn_map() -> Tensor:
    return torch.rand(3, 1, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def entropy_by_hand(p: np.ndarray) -> np.ndarray:
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def test_the_pixel_entropy_is_that_of_a_bernoulli_variable() -> None:
    p = drawn_map()
    np.testing.assert_allclose(pixel_entropy(p).numpy(), entropy_by_hand(p.numpy()), rtol=1e-12)
    known = pixel_entropy(torch.tensor([0.5, 0.25, 0.0, 1.0], dtype=torch.float64))
    assert known.tolist() == pytest.approx([np.log(2), 2 * np.log(2) - 0.75 * np.log(3), 0, 0], abs=1e-13)


def test_the_entropy_loss_is_the_mean_over_the_pixels() -> None:
    p = drawn_map()
    assert float(entropy_loss(p)) == pytest.approx(entropy_by_hand(p.numpy()).mean(), rel=1e-12)


@pytest.mark.parametrize(("mu", "sigma"), [(0.5, 0.1), (0.4, 0.3)])
def test_the_weighted_entropy_loss_uses_a_gaussian(mu: float, sigma: float) -> None:
    p = drawn_map()
    gamma = np.exp(-((p.numpy() - mu) ** 2) / (2 * sigma**2))
    by_hand = (gamma * entropy_by_hand(p.numpy())).mean()
    assert float(weighted_entropy_loss(p, mu, sigma)) == pytest.approx(by_hand, rel=1e-12)


def test_the_area_loss_is_the_mean_activation() -> None:
    assert float(area_loss(drawn_map())) == pytest.approx(drawn_map().numpy().mean(), rel=1e-12)


def test_certain_pixels_have_finite_gradients() -> None:
    raw = torch.tensor([-1e4, -90.0, -17.0, 0.3, 17.0, 90.0, 1e4], requires_grad=True)
    p = raw.sigmoid().view(1, 1, 1, -1)
    (entropy_loss(p) + weighted_entropy_loss(p, 0.5, 0.1)).backward()
    assert raw.grad.isfinite().all()
    assert float(raw.grad[3].abs()) > 0


def test_the_entropy_loss_pushes_a_pixel_away_from_the_middle() -> None:
    raw = torch.tensor([-0.3, 0.3], dtype=torch.float64, requires_grad=True)
    weighted_entropy_loss(raw.sigmoid().view(1, 1, 1, 2), 0.5, 0.1).backward()
    assert raw.grad[0] > 0 > raw.grad[1]


def evaluated_by_hand(localizer: ORNet, images: Tensor, shown: Tensor) -> Tensor:
    """F^e(I p^a), each cell of the map repeated over its 4 x 4 px (eq. 9)."""
    judge = localizer.evaluator
    enlarged = shown.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    features = (images - judge.backbone.mean) / judge.backbone.std * enlarged
    for stage in judge.backbone.stages:
        features = stage(features)
    return features.mean(dim=(2, 3)) @ judge.classifier.weight.flatten(1).T + judge.classifier.bias


def test_the_evaluator_gets_the_image_times_the_map() -> None:
    localizer = small(erase=False)
    with torch.no_grad():
        losses = losses_of(localizer, STAGE_TWO, pictures(), targets())
        logits = evaluated_by_hand(localizer, pictures(), localizer.maps(pictures(), targets()))
    assert float(losses["evaluation"]) == pytest.approx(cross_entropy(logits, targets()), rel=1e-5)


def test_the_loss_of_stage_two_is_the_weighted_sum() -> None:
    """Eq. 10 with alpha 1.5 and beta 0.02."""
    localizer = small(preset="paper")
    with torch.no_grad():
        losses = losses_of(localizer, STAGE_TWO, pictures(), targets())
        p = localizer.maps(pictures(), targets()).double().numpy()
    gamma = np.exp(-((p - 0.5) ** 2) / 0.02)
    assert list(losses) == ["evaluation", "entropy", "area"]
    assert float(losses["entropy"]) == pytest.approx(1.5 * (gamma * entropy_by_hand(p)).mean(), rel=1e-5)
    assert float(losses["area"]) == pytest.approx(0.02 * p.mean(), rel=1e-5)


def test_the_rest_of_the_image_must_not_show_the_class() -> None:
    """-log(1 - P(c)) of the evaluator on I (1 - p^a), which erasing does not change."""
    localizer = small(rest=0.5)
    with torch.no_grad():
        losses = losses_of(localizer, STAGE_TWO, pictures(), targets())
        shown = 1 - localizer.maps(pictures(), targets())
        logits = evaluated_by_hand(localizer, pictures(), shown).double()
    of_class = logits.softmax(dim=1)[targets() > 0]
    assert float(losses["rest"]) == pytest.approx(-0.5 * float((1 - of_class).log().mean()), rel=1e-4)


def test_the_rest_of_an_image_of_several_classes_must_show_none_of_them() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    several = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0]])
    by_hand = -np.log(1 - sigmoid(np.array([2.0, 0.5]))).mean()
    assert float(rest_loss(logits, several, "multi")) == pytest.approx(by_hand, rel=1e-12)
    assert float(rest_loss(logits, torch.zeros(2, 4), "multi")) == 0
    assert float(rest_loss(logits, torch.zeros(2, 4), "single")) == 0


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_a_class_that_the_rest_shows_clearly_has_a_finite_slope(objective: Any) -> None:
    logits = torch.tensor([[200.0, 0, 0, 0]], requires_grad=True)
    rest_loss(logits, targets(1), objective).backward()
    assert logits.grad.isfinite().all()
    assert float(logits.grad[0, 0]) == pytest.approx(1)


def test_the_mean_entropy_of_table_four_can_be_asked_for() -> None:
    localizer = small(entropy="mean", alpha=1.0)
    with torch.no_grad():
        losses = losses_of(localizer, STAGE_TWO, pictures(), targets())
        p = localizer.maps(pictures(), targets()).double().numpy()
    assert float(losses["entropy"]) == pytest.approx(entropy_by_hand(p).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"alpha": 0, "beta": 0, "erase": False}, {"evaluation"}),
        ({"beta": 0, "erase": False}, {"evaluation", "entropy"}),
        ({"alpha": 0, "erase": False}, {"evaluation", "area"}),
        ({"alpha": 0, "beta": 0}, {"evaluation"}),
        ({"erase": False}, {"evaluation", "entropy", "area"}),
        ({"beta": 0}, {"evaluation", "entropy"}),
        ({"alpha": 0}, {"evaluation", "area"}),
        ({}, {"evaluation", "entropy", "area"}),
        ({"evaluation": 0}, {"entropy", "area"}),
        ({"rest": 1}, {"evaluation", "entropy", "area", "rest"}),
    ],
)
def test_the_rows_of_table_three_can_be_asked_for(options: dict[str, Any], names: set[str]) -> None:
    localizer = small(erase_probability=1.0, **options)
    with torch.no_grad():
        losses = losses_of(localizer, STAGE_TWO, pictures(), targets())
        whole = cross_entropy(
            evaluated_by_hand(localizer, pictures(), localizer.maps(pictures(), targets())), targets()
        )
    assert set(losses) == names
    if "evaluation" in losses:
        erased = float(losses["evaluation"]) != pytest.approx(whole, rel=1e-5)
        assert erased is localizer.config.erase


def test_the_map_is_brought_to_the_images_size_as_asked_for() -> None:
    cells, smooth = (small(erase=False, upsampling=how) for how in ("nearest-exact", "bilinear"))
    with torch.no_grad():
        found = losses_of(cells, STAGE_TWO, pictures(), targets()), losses_of(smooth, STAGE_TWO, pictures(), targets())
    assert float(found[0]["evaluation"]) != pytest.approx(float(found[1]["evaluation"]), rel=1e-6)
    assert torch.equal(found[0]["entropy"], found[1]["entropy"])


# --- attentive erasing -----------------------------------------------------------------------------------------------


def hill(row: int, column: int, *, height: int = 28, width: int = 42, spread: float = 6.0, count: int = 1) -> Tensor:
    """(count, 1, height, width) maps with a peak of 0.9 that falls off to 0.1."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = ((y - row) ** 2 + (x - column) ** 2) / (2 * spread**2)
    return (0.1 + 0.8 * torch.exp(-distance)).expand(count, 1, height, width).clone()


def plateau(level: float, count: int) -> Tensor:
    """`level` inside a block, 0 outside."""
    activation = torch.zeros(count, 1, 28, 28)
    activation[:, :, 8:20, 8:20] = level
    return activation


def fixed_depth(depth: float, **options: Any) -> ORNetConfig:
    return ORNetConfig(erase_depth_least=depth, erase_depth=depth, **options)


@pytest.mark.parametrize(("row", "column"), [(14, 20), (3, 5), (0, 0), (27, 41)])
def test_candidates_are_high_pixels_in_a_rectangle_around_the_peak(row: int, column: int) -> None:
    torch.manual_seed(0)
    activation = hill(row, column, count=64)
    high = activation[0, 0] > 0.9 - 0.5 * float(0.9 - activation[0, 0].min()) + 1e-6
    sides = set()
    for candidates in erasing_candidates(activation, fixed_depth(0.5))[:, 0]:
        y, x = (axis - centre for axis, centre in zip(torch.nonzero(candidates).T, (row, column), strict=True))
        tall, wide = int(y.abs().max()), int(x.abs().max())
        inside = torch.zeros_like(high)
        inside[max(0, row - tall) : row + tall + 1, max(0, column - wide) : column + wide + 1] = True
        assert torch.equal(candidates, high & inside)
        sides.add((tall, wide))
    assert len(sides) > 1, "height and width are drawn"


def test_the_rectangles_sides_are_within_their_limits() -> None:
    torch.manual_seed(0)
    activation = torch.full((400, 1, 28, 28), 0.2)
    activation[:, :, 4:25, 9:20] = 0.6  # 21 rows and 11 columns are high
    activation[:, :, 14, 14] = 0.9
    candidates = erasing_candidates(activation, fixed_depth(0.9, erase_least=1 / 4))[:, 0]
    tall, wide = candidates.any(dim=2).sum(dim=1), candidates.any(dim=1).sum(dim=1)
    assert (int(tall.min()), int(tall.max())) == (7, 21)
    assert (int(wide.min()), int(wide.max())) == (7, 11)
    assert candidates[:, 14, 14].all()


def test_the_threshold_is_drawn_between_the_depths_asked_for() -> None:
    torch.manual_seed(0)
    slope = torch.linspace(0, 1, 101).view(1, 1, 1, -1).expand(300, 1, 3, -1).clone()
    candidates = erasing_candidates(slope, ORNetConfig(erase_depth_least=0.2, erase_depth=0.4, erase_least=1.0))
    lowest = torch.where(candidates, slope, 2.0).flatten(1).amin(dim=1)
    # the rectangle is as long as the map and around its end, so it cuts nothing that is above the middle
    assert 0.59 < float(lowest.min()) < 0.63
    assert 0.77 < float(lowest.max()) < 0.82


def test_half_of_the_candidates_are_erased_and_nothing_else() -> None:
    torch.manual_seed(0)
    activation = plateau(0.8, 300)
    config = fixed_depth(0.5, erase_least=1.0)  # the rectangle holds the whole plateau
    erased = attentively_erased(activation, config)
    dropped = erased == 0
    on_plateau = activation[0, 0] > 0
    share = float(dropped[:, 0][:, on_plateau].float().mean())
    assert share == pytest.approx(0.5, abs=0.01)
    assert torch.equal(torch.where(dropped, 0, activation), erased)
    each = dropped[:, 0, 8:20, 8:20].float().mean(dim=(1, 2))
    assert float(each.std()) < 0.08, "pixel by pixel, not map by map"


@pytest.mark.parametrize(("probability", "level", "share"), [(0, 0.8, 0), (1, 0.8, 1), (0.3, 0.8, 0.3)])
def test_the_probability_can_be_set(probability: float, level: float, share: float) -> None:
    torch.manual_seed(0)
    erased = attentively_erased(plateau(level, 200), fixed_depth(0.5, erase_least=1.0, erase_probability=probability))
    assert float((erased[:, :, 8:20, 8:20] == 0).float().mean()) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("level", "share"), [(0.9, 0.74), (0.4, 0.44)])
def test_the_probability_can_follow_the_activation(level: float, share: float) -> None:
    torch.manual_seed(0)
    erased = attentively_erased(plateau(level, 200), fixed_depth(0.5, erase_least=1.0, erase_probability="adaptive"))
    assert float((erased[:, :, 8:20, 8:20] == 0).float().mean()) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_asked_share_of_the_maps_is_erased(share: float) -> None:
    torch.manual_seed(0)
    activation = plateau(0.8, 400)
    erased = attentively_erased(activation, fixed_depth(0.5, erase_share=share, erase_probability=1.0))
    touched = (erased != activation).flatten(1).any(dim=1)
    assert float(touched.float().mean()) == pytest.approx(share, abs=0.06)


def test_equal_maps_are_erased_independently() -> None:
    torch.manual_seed(0)
    first, second = attentively_erased(hill(10, 12, count=2), ORNetConfig())
    assert not torch.equal(first, second)


def test_a_constant_map_is_not_erased() -> None:
    torch.manual_seed(0)
    for value in (0.0, 0.5, 1.0):
        activation = torch.full((20, 1, 9, 13), value)
        assert torch.equal(attentively_erased(activation, ORNetConfig(erase_probability=1.0)), activation)


def test_gradients_pass_through_the_remaining_pixels() -> None:
    torch.manual_seed(0)
    activation = hill(10, 12, count=3).requires_grad_()
    erased = attentively_erased(activation, ORNetConfig())
    erased.sum().backward()
    assert 0 < int((erased == 0).sum()) < erased.numel() / 2
    assert torch.equal(activation.grad, (erased != 0).float())


# --- the stages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "share", "first"),
    [(100, 0.7, 70), (8, 5 / 8, 5), (12, 0.7, 8), (2, 0.7, 1), (2, 0.01, 1), (1, 0.7, 1), (3, 0.99, 2), (5, 1.0, 5)],
)
def test_the_epochs_are_divided_between_the_stages(epochs: int, share: float, first: int) -> None:
    assert epochs_of_stage_one(epochs, share) == first
    localizer = small(stage_one=share)
    stages = []
    for epoch in range(epochs):
        localizer.start_epoch(epoch, epochs)
        stages.append(localizer.refining)
    assert stages == [False] * first + [True] * (epochs - first)


def step(localizer: ORNet, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    losses = localizer.training_step(pictures(4), targets(4), ClassificationLoss("single"))
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()


def moved_in(stage: int, *, frozen: bool = False, **options: Any) -> set[str]:
    """Names of the parameters that a step of the stage changes, after a step of stage one filled the momenta.

    Weights and statistics alike, by the part that they belong to.
    """
    localizer = small(**options)
    if frozen:
        localizer.freeze_backbone()
    optimizer = torch.optim.AdamW(localizer.parameter_groups(0.01), weight_decay=0.5)
    localizer.train()
    for epoch in range(stage + 1):
        localizer.start_epoch(epoch, 2)
        before = copy.deepcopy(localizer.state_dict())
        step(localizer, optimizer)
    changed = {name for name, value in localizer.state_dict().items() if not torch.equal(value, before[name])}
    return {part for part in PARTS if any(name.startswith(part) for name in changed)}


PARTS = (
    "backbone.stages.0", "backbone.stages.1", "classifier", "auxiliary", "generator",
    "evaluator.backbone", "evaluator.classifier",
)  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "frozen", "options", "expected"),
    [
        (STAGE_ONE, False, {}, set(PARTS)),
        (STAGE_TWO, False, {}, {"backbone.stages.0", "generator"}),
        (STAGE_TWO, False, {"refine_shallow": False}, {"generator"}),
        (STAGE_ONE, True, {}, {"classifier", "auxiliary", "generator", "evaluator.classifier"}),
        (STAGE_TWO, True, {}, {"generator"}),
    ],
)
def test_each_stage_changes_its_own_parts_only(
    stage: int, frozen: bool, options: dict[str, Any], expected: set[str]
) -> None:
    assert moved_in(stage, frozen=frozen, **options) == expected


def test_a_step_of_stage_one_changes_every_weight() -> None:
    localizer = small().train()
    before = copy.deepcopy(dict(localizer.named_parameters()))
    step(localizer, torch.optim.AdamW(localizer.parameter_groups(0.01), weight_decay=0.0))
    still = {name for name, value in localizer.named_parameters() if torch.equal(value, before[name])}
    # a bias in front of a batch norm in training has no effect
    assert still <= {name for name in before if name.endswith("stages.0.0.bias") or name.endswith("stages.1.0.bias")}


@pytest.mark.parametrize("frozen", [False, True])
def test_the_optimizer_has_the_parameters_of_both_stages_once(frozen: bool) -> None:
    localizer = small()
    if frozen:
        localizer.freeze_backbone()
    names = {id(value): name for name, value in localizer.named_parameters()}
    given = [(names[id(p)], group["lr"]) for group in localizer.parameter_groups(0.5) for p in group["params"]]
    old = {name for name in names.values() if name.startswith(("backbone.", "evaluator.backbone."))}
    assert len(given) == len(dict(given))
    assert {name for name, rate in given if rate == 0.5} == set(names.values()) - old
    assert {name for name, rate in given if rate == 0.05} == (set() if frozen else old)


def test_a_fixed_part_stays_in_evaluation_mode_and_comes_back_to_training_after() -> None:
    localizer = small().train()
    localizer.start_epoch(STAGE_TWO, 2)
    assert localizer.generator.training
    assert not any(part.training for part in localizer.evaluator.modules())
    assert not any(part.training for part in localizer.eval().modules())
    localizer.train()
    assert not localizer.evaluator.training
    localizer.start_epoch(STAGE_ONE, 2)
    assert localizer.evaluator.training
    assert all(value.requires_grad for value in localizer.parameters())


def eight_images() -> Tensor:
    """(8, 3, 64, 64), a rectangle on noise, of a brightness a class."""
    images = [image_with_rectangle(number, height=64, width=64) // (1 + number % CLASSES) for number in range(8)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def overfitted(localizer: ORNet, *, first: int, second: int) -> dict[str, list[float]]:
    """Each loss at each step, over a number of steps of either stage."""
    optimizer = torch.optim.AdamW(localizer.train().parameter_groups(0.01))
    seen: dict[str, list[float]] = {}
    for number in range(first + second):
        localizer.start_epoch(int(number >= first), 2)
        optimizer.zero_grad()
        losses = localizer.training_step(eight_images(), targets(8), ClassificationLoss("single"))
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        for name, value in losses.items():
            seen.setdefault(name, []).append(value.item())
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "mobilenet_v2"])
def test_the_losses_of_stage_one_fall_on_eight_images(backbone: str) -> None:
    seen = overfitted(on(backbone, width=8, features=8, dropout=0.0), first=14, second=0)
    assert seen["classification"][-1] < 0.2 * seen["classification"][0]
    assert seen["evaluator"][-1] < 0.2 * seen["evaluator"][0]
    assert seen["auxiliary"][-1] < 0.97 * seen["auxiliary"][0]


def test_the_losses_of_stage_one_fall_on_a_small_network() -> None:
    seen = overfitted(small(width=8, features=8, dropout=0.0), first=40, second=0)
    assert seen["classification"][-1] < 0.5 * seen["classification"][0]
    assert seen["evaluator"][-1] < 0.8 * seen["evaluator"][0]
    assert seen["auxiliary"][-1] < 0.97 * seen["auxiliary"][0]


@pytest.mark.parametrize(
    ("name", "options", "left"),
    [
        ("evaluation", {"alpha": 0, "beta": 0}, 0.8),
        ("entropy", {"evaluation": 0, "beta": 0}, 0.8),
        ("area", {"evaluation": 0, "alpha": 0}, 0.95),  # the batch norm before the map yields slowly
    ],
)
def test_each_loss_of_stage_two_falls_on_eight_images(name: str, options: dict[str, Any], left: float) -> None:
    seen = overfitted(small(dropout=0.0, erase=False, **options), first=20, second=40)
    assert seen[name][-1] < left * seen[name][0]


def test_stage_two_makes_the_map_certain() -> None:
    """Fig. 4: values around 0.5 at first, near 0 or 1 in the end."""

    def uncertain(localizer: ORNet) -> float:
        with torch.no_grad():
            maps = localizer.maps(eight_images(), targets(8))
        return float(((maps > 0.25) & (maps < 0.75)).float().mean())

    coarse, refined = small(), small()
    overfitted(coarse, first=30, second=0)
    overfitted(refined, first=30, second=50)
    assert uncertain(refined) < 0.75 * uncertain(coarse)
