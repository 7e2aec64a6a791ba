"""SPG's seeds, masks and losses against those of the released code and of wsolevaluation's port of it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone, StageSpec
from mining.localizers.base import ClassificationLoss
from mining.localizers.spg import (
    BACKGROUND,
    IGNORED,
    OBJECT,
    SPG,
    attention_of_labels,
    guidance_loss,
    guidance_mask,
    min_max,
    resized,
)

RELEASED = {"fewest_object_px": 30, "fallback": 0.7}
RELEASED_THRESHOLDS = {"b2": (0.05, 0.7), "b1": (0.05, 0.5), "c": (0.1, 0.7)}


@pytest.fixture(scope="module")
def peer(oracle: Callable[[str], Path]) -> dict[str, np.ndarray]:
    with np.load(oracle("spg") / "spg_seeds.npz") as file:
        return {name: file[name] for name in file.files}


def attention_of_the_peer(peer: dict[str, np.ndarray]) -> Tensor:
    return torch.from_numpy(peer["atten_u8x250"]).float() / 250


def masks_by_thresholds(peer: dict[str, np.ndarray], kind: str) -> dict[tuple[float, float], np.ndarray]:
    """(low, high) to the peer's mask, of every pair the file has."""
    found = {re.fullmatch(rf"{kind}_([\d.]+)_([\d.]+)", name): value for name, value in peer.items()}
    pairs = {(float(match[2]), float(match[1])): value for match, value in found.items() if match}
    assert pairs, f"no {kind} in the file"
    return pairs


def masks_whose_fallback_leaks(attention: Tensor, low: float, high: float) -> Tensor:
    """The released code's protocol: the fallback of an image holds for those after it in the batch."""
    masks = []
    for one in attention:
        if (one > high).sum() < RELEASED["fewest_object_px"]:
            high = float(one.max() * RELEASED["fallback"])
        masks.append(guidance_mask(one[None], low, high))
    return torch.cat(masks)


def labels_as_targets(peer: dict[str, np.ndarray], labels: str, classes: int) -> Tensor:
    return functional.one_hot(torch.from_numpy(peer[labels]).long(), classes).float()


def test_normalised_maps_are_the_peers(peer: dict[str, np.ndarray]) -> None:
    levels, varied = min_max(torch.from_numpy(peer["feat14"]))
    assert varied.all()
    np.testing.assert_allclose(levels.numpy(), peer["spg_norm_all"], atol=1e-6)


def test_the_attention_map_of_the_label_is_the_peers(peer: dict[str, np.ndarray]) -> None:
    maps = torch.from_numpy(peer["feat14"])
    size = tuple(maps.shape[-2:])
    attention, _ = attention_of_labels(maps, labels_as_targets(peer, "labels", maps.shape[1]), size)
    np.testing.assert_allclose(attention.numpy(), peer["spg_atten14"], atol=1e-6)


@pytest.mark.parametrize("kind", ["spg", "wsol"])
def test_it_is_resized_first_and_normalised_then(peer: dict[str, np.ndarray], kind: str) -> None:
    maps, expected = torch.from_numpy(peer["feat14"]), peer[f"{kind}_atten224_every4th"]
    size = 4 * expected.shape[-2], 4 * expected.shape[-1]
    attention, _ = attention_of_labels(maps, labels_as_targets(peer, "labels", maps.shape[1]), size)
    np.testing.assert_allclose(attention[:, ::4, ::4].numpy(), expected, atol=1e-5)
    other_order = resized(torch.from_numpy(peer["spg_atten14"])[:, None], size)[:, 0, ::4, ::4]
    assert np.abs(other_order.numpy() - expected).max() > 1e-3, "the order shows in these numbers"


def test_a_constant_map_has_no_seeds_where_the_peer_has_nan(peer: dict[str, np.ndarray]) -> None:
    assert np.isnan(peer["const_norm"]).all()
    batch, classes, *size = peer["const_norm"].shape
    attention, has_seeds = attention_of_labels(
        torch.full((batch, classes, 2, 2), 0.3), torch.ones(batch, classes), size
    )
    assert not attention.any()
    assert not has_seeds.any()
    # what the peer makes of its NaN is the same: nothing is below or above the thresholds
    assert (guidance_mask(torch.from_numpy(peer["const_norm"][:, 0]), 0.1, 0.7) == IGNORED).all()


@pytest.mark.parametrize("kind", ["wsol_mask", "wsol_mask_noleak"])
def test_masks_are_those_of_the_port_with_its_fallback(peer: dict[str, np.ndarray], kind: str) -> None:
    attention = attention_of_the_peer(peer)
    if kind == "wsol_mask_noleak":
        attention[1] *= torch.tensor(peer["leak_atten_img1_scale"]).float()
    for (low, high), expected in masks_by_thresholds(peer, kind).items():
        assert set(np.unique(expected)) == {BACKGROUND, OBJECT, IGNORED}
        np.testing.assert_array_equal(guidance_mask(attention, low, high, **RELEASED).numpy(), expected)


def test_masks_are_those_of_the_released_code_under_its_protocol(peer: dict[str, np.ndarray]) -> None:
    attention = attention_of_the_peer(peer)
    for (low, high), expected in masks_by_thresholds(peer, "spg_mask").items():
        np.testing.assert_array_equal(masks_whose_fallback_leaks(attention, low, high).numpy(), expected)


def test_the_fallback_of_one_image_does_not_leak_into_the_next_as_the_peers_does(peer: dict[str, np.ndarray]) -> None:
    attention = attention_of_the_peer(peer)
    attention[1] *= torch.tensor(peer["leak_atten_img1_scale"]).float()
    for (low, high), leaked in masks_by_thresholds(peer, "spg_mask_leak").items():
        ours = guidance_mask(attention, low, high, **RELEASED).numpy()
        np.testing.assert_array_equal(masks_whose_fallback_leaks(attention, low, high).numpy(), leaked)
        differing = [place for place in range(len(ours)) if (ours[place] != leaked[place]).any()]
        assert differing
        assert min(differing) > 1, "only images after the faint one see its threshold"


def spg_with(**options: object) -> SPG:
    pixels = StageSpec([nn.Identity()], (3,), (1,), None)
    return SPG(Backbone("pixels", pixels), 2, preset="paper", width=1, guidance_width=1, **options)


def test_the_sum_of_the_losses_is_the_released_codes_under_its_protocol(peer: dict[str, np.ndarray]) -> None:
    logits, attention = torch.from_numpy(peer["loss_logits_1"]), attention_of_the_peer(peer)
    sides = {"b1": "loss_side3", "b2": "loss_side4", "c": "loss_out_seg"}
    size = tuple(attention.shape[-2:])
    branches = {name: resized(torch.from_numpy(peer[side]), size)[:, 0] for name, side in sides.items()}
    b1, b2 = branches["b1"].sigmoid(), branches["b2"].sigmoid()
    sources = {"b1": b2, "b2": attention, "c": (b1 + b2) / 2}
    leaky = {name: masks_whose_fallback_leaks(sources[name], *RELEASED_THRESHOLDS[name]) for name in sides}
    classification = ClassificationLoss("single")(logits, labels_as_targets(peer, "loss_gt", logits.shape[1]))
    total = classification + sum(guidance_loss(branches[name], leaky[name]) for name in sides)
    assert float(classification) == pytest.approx(float(peer["loss_cls_part"]), rel=1e-6)
    assert float(total) == pytest.approx(float(peer["loss_value"]), rel=1e-6)

    thresholds = {"b1": RELEASED_THRESHOLDS["b1"], "b2": RELEASED_THRESHOLDS["b2"], "fused": RELEASED_THRESHOLDS["c"]}
    ours = spg_with(**thresholds, **RELEASED).masks(
        attention, torch.ones(len(logits), dtype=torch.bool), branches["b1"], branches["b2"]
    )
    for name, source in sources.items():
        alone = [masks_whose_fallback_leaks(one[None], *RELEASED_THRESHOLDS[name]) for one in source]
        assert torch.equal(ours[name], torch.cat(alone)), "with each image for itself nothing can leak"


def test_the_seeds_of_the_text_are_other_than_those_of_the_released_code(peer: dict[str, np.ndarray]) -> None:
    attention = attention_of_the_peer(peer)
    nothing = torch.zeros_like(attention)
    seeds = spg_with().masks(attention, torch.ones(len(attention), dtype=torch.bool), nothing, nothing)["b2"]
    by_hand = np.select([attention < np.float32(0.1), attention > np.float32(0.7)], [BACKGROUND, OBJECT], IGNORED)
    np.testing.assert_array_equal(seeds.numpy(), by_hand)
    assert (by_hand != masks_by_thresholds(peer, "wsol_mask")[RELEASED_THRESHOLDS["b2"]]).any()
