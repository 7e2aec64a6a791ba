"""Every localizer on every backbone keeps the contract."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mining.backbones.registry import BACKBONES
from mining.localizers.base import ClassificationLoss, Localizer
from mining.localizers.registry import LOCALIZERS
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.models.fuse_batchnorm import prepare_for_inference

CLASSES = 4
TRANSFORMER = "test_vit"  # of timm: 6 blocks, class token


def all_pairs(*fast: str) -> list[Any]:
    """Pair all localizers with all backbones; pairs are slow unless their backbone is given."""
    return [
        pytest.param(localizer, backbone, marks=() if backbone in fast else pytest.mark.slow)
        for localizer in LOCALIZERS
        for backbone in (*BACKBONES, "regnetx_002", TRANSFORMER)
        if (localizer, backbone) != ("mldfr", TRANSFORMER)  # which has no down-samplings
    ]


PAIRS = all_pairs("mobilenet_v2", TRANSFORMER)


def built(localizer: str, backbone: str, **options: object) -> tuple[Localizer, ModelCard]:
    torch.manual_seed(0)
    listed = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    card = ModelCard(localizer, backbone, "single", listed, 64, {}, options)
    return build_localizer(card)[0], card


def pictures(count: int, height: int, width: int) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize(("localizer", "backbone"), PAIRS)
def test_odd_sizes_and_a_batch_of_one_are_localized(localizer: str, backbone: str) -> None:
    model = built(localizer, backbone)[0].eval()
    with torch.no_grad():
        seen = model.localize(pictures(1, 225, 371), torch.tensor([[2, 0]]))
    assert tuple(seen.logits.shape) == (1, CLASSES)
    maps = 1 if model.class_agnostic else 2
    assert tuple(seen.maps.shape[:2]) == (1, maps)
    assert min(seen.maps.shape[2:]) >= 2
    assert seen.maps.shape[2] < seen.maps.shape[3], "lying images have lying maps"
    assert seen.maps.dtype == torch.float32
    assert seen.maps.isfinite().all()


@pytest.mark.parametrize(("localizer", "backbone"), PAIRS)
def test_a_loaded_model_prepared_for_inference_gives_the_same_maps(
    localizer: str, backbone: str, tmp_path: Path
) -> None:
    model, card = built(localizer, backbone)
    save_model(tmp_path / "model", model, card)
    again = load_model(tmp_path / "model")[0]
    images, wanted = pictures(2, 96, 128), torch.tensor([[0, 3], [1, 2]])
    with torch.no_grad():
        first = model.eval().localize(images, wanted)
        second = again.localize(images, wanted)
        quick = prepare_for_inference(copy.deepcopy(again), torch.device("cpu")).localize(images, wanted)
    assert torch.equal(first.maps, second.maps)
    assert torch.equal(first.logits, second.logits)
    assert torch.allclose(first.maps, quick.maps, atol=1e-3 * float(first.maps.abs().max()) + 1e-9)


@pytest.mark.parametrize(
    ("localizer", "backbone", "objective"),
    [
        # the loss does not depend on the backbone
        pytest.param(*pair.values, objective, marks=pytest.mark.slow if slow else ())
        for pair in PAIRS
        for objective in ("single", "multi")
        for slow in [bool(pair.marks) or (objective == "multi" and pair.values[1] != "mobilenet_v2")]
    ],
)
def test_a_training_step_changes_every_trained_parameter(localizer: str, backbone: str, objective: str) -> None:
    model = built(localizer, backbone)[0].train()
    model.start_epoch(0, 2)
    targets = torch.eye(CLASSES)[[0, 2]]
    losses = model.training_step(pictures(2, 96, 96), targets, ClassificationLoss(objective))  # type: ignore[arg-type]
    assert losses
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    given = {id(p) for group in model.parameter_groups(1e-3) for p in group["params"]}  # type: ignore[attr-defined]
    learning = {id(p) for p in model.parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning
    assert learning <= given, "what has a gradient is in the optimizer"


# erasing is random, and masks made of masks jump at their thresholds: both would hide what is learned
STEADY: dict[str, dict[str, object]] = {"ornet": {"erase": False}, "spg": {"cascade": False}}


@pytest.mark.parametrize(("localizer", "backbone"), all_pairs("mobilenet_v2"))
def test_each_small_step_down_the_gradient_lowers_the_loss_on_eight_images(localizer: str, backbone: str) -> None:
    model = built(localizer, backbone, dropout=0.0, **STEADY.get(localizer, {}))[0].train()
    for epoch in range(2 if localizer == "ornet" else 1):  # a stage each
        model.start_epoch(epoch, 2)
        seen = []
        for _ in range(3):
            loss = loss_on_eight_images(model)
            seen.append(loss.item())
            loss.backward()
            step_down(model, loss.item())
        assert seen[0] > seen[1] > seen[2]


def loss_on_eight_images(model: Localizer) -> Tensor:
    losses = model.training_step(pictures(8, 96, 96), torch.eye(CLASSES).repeat(2, 1), ClassificationLoss("single"))
    return torch.stack(list(losses.values())).sum()


def step_down(model: Localizer, loss: float) -> None:
    """A gradient step that would lower a linear loss by 1 %, at most a thousandth of the weights' norm."""
    groups = model.parameter_groups(1.0)
    learning = [p for group in groups for p in group["params"] if p.grad is not None]  # type: ignore[attr-defined]
    steepness = sum(float(p.grad.square().sum()) for p in learning)
    size = sum(float(p.detach().square().sum()) for p in learning)
    length = min(0.01 * loss / steepness, 0.001 * (size / steepness) ** 0.5)
    with torch.no_grad():
        for parameter in learning:
            parameter -= length * parameter.grad
    model.zero_grad()


@pytest.mark.parametrize(
    ("localizer", "objective"),
    [
        pytest.param("cam", "single", marks=pytest.mark.slow),
        pytest.param("cam", "multi", marks=pytest.mark.slow),
        pytest.param("ccam", "single", marks=pytest.mark.slow),
        ("ccam", "multi"),
    ],
)
def test_a_classifier_memorises_eight_images(localizer: str, objective: str) -> None:
    model = built(localizer, "efficientnet_lite0", dropout=0.0)[0].train()
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-2))
    seen = []
    for _ in range(10):
        optimizer.zero_grad()
        targets = torch.eye(CLASSES).repeat(2, 1)
        losses = model.training_step(pictures(8, 64, 64), targets, ClassificationLoss(objective))  # type: ignore[arg-type]
        losses["classification"].backward()
        optimizer.step()
        seen.append(losses["classification"].item())
    assert seen[-1] < 0.3 * seen[0]


@pytest.mark.parametrize("localizer", LOCALIZERS)
def test_frozen_features_do_not_change(localizer: str) -> None:
    model = built(localizer, "efficientnet_lite0")[0]
    model.freeze_backbone()
    new = {id(value) for layer in model.new_layers() for value in layer.state_dict(keep_vars=True).values()}
    inherited = {name for name, value in model.backbone.state_dict(keep_vars=True).items() if id(value) not in new}
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    assert len(inherited) > 0.9 * len(before)
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-2), weight_decay=0.1)
    for epoch in range(3):
        model.train()
        model.start_epoch(epoch, 3)
        optimizer.zero_grad()
        losses = model.training_step(pictures(4, 64, 64), torch.eye(CLASSES), ClassificationLoss("single"))
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    after = model.backbone.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in inherited)
