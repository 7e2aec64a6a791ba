"""Our combinational maps, and boxes by its protocol, against the released code of the paper on the same features.

Where the combinations of that code differ from its paper they are written out here, so that both numbers can be had.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.evaluation.protocols.wsoleval import iou_plus_one
from mining.localizers.nlccam import (
    CCAM,
    CCAMConfig,
    combined_maps,
    polynomial_weights,
    ranks_from,
    ranks_of,
    top_bottom_weights,
    weights_by_rank,
)
from tests.oracles.protocols.nlccam import (
    SIDE_PX,
    box_of_largest_component,
    box_of_map,
    boxes_on_image,
    boxes_on_map,
)

Arrays = Mapping[str, np.ndarray]
FOREGROUND = 100  # of the released code's script
ASKED = 5  # 0-based rank of the class that the "rank5" boxes were asked for


@pytest.fixture(scope="module")
def combination(oracle: Callable[[str], Path]) -> Arrays:
    return np.load(oracle("nlccam") / "nlccam_combination.npz")


@pytest.fixture(scope="module")
def boxes(oracle: Callable[[str], Path]) -> Arrays:
    return np.load(oracle("nlccam") / "nlccam_boxes.npz")


@pytest.fixture(scope="module")
def derived(oracle: Callable[[str], Path]) -> Arrays:
    return np.load(oracle("nlccam") / "nlccam_g_derived_not_peer.npz")


# --- the released code's maps ----------------------------------------------------------------------------------------


def released_weights(function: str, classes: int, foreground: int) -> Tensor:
    """(K,) g by rank as the released code has it.

    Its quadratic halves are those of eq. 5 for two different pivots, so that each holds an exact 0: the first half
    ends with it at rank `foreground`, the second begins with it at the rank after.
    """
    if function == "linear":
        return polynomial_weights(classes, 1)
    if function == "quadratic":
        front = polynomial_weights(classes, 2, pivot=foreground)[:foreground]
        back = polynomial_weights(classes, 2, pivot=foreground + 1)[foreground + 1 :]
        return torch.cat([front, torch.zeros(min(1, classes - foreground), dtype=torch.float64), back])
    top, bottom = int(function[1]), int(function[3])  # t1b0
    return top_bottom_weights(classes, top, bottom)


def released_picture(activation: np.ndarray) -> np.ndarray:
    """The map as a grey picture of 224 px: min-max, truncated to 8 bits, then resized."""
    share = activation - activation.min()
    return cv2.resize(np.uint8(255 * (share / share.max())), (SIDE_PX, SIDE_PX))


# --- the cases of the file -------------------------------------------------------------------------------------------


def sizes(arrays: Arrays) -> list[int]:
    """The numbers of classes that the file has."""
    return sorted(int(key[1:].split("_")[0]) for key in arrays if key.endswith("_order"))


def functions(arrays: Arrays, ending: str) -> list[tuple[int, str, int, str]]:
    """Classes, function, number of foreground ranks and key of every array with that ending."""
    cases = []
    for key in arrays:
        if key.endswith(ending) and "_thr" in key:
            classes, function, foreground, *_ = key.split("_")
            cases.append((int(classes[1:]), function, int(foreground.removeprefix("thr")), key))
    assert cases
    return cases


def our_map(arrays: Arrays, classes: int, g: Tensor, *, rank: int | None = None) -> np.ndarray:
    """(h, w) float64 of the released features; rank: of the class asked for, None ranks by the logits alone."""
    weight, feature, logits = (
        torch.from_numpy(arrays[f"K{classes}_{name}"]) for name in ("weight", "feature", "logits")
    )
    ranks = ranks_of(logits[None])
    if rank is None:
        shares = g[ranks][:, None]
    else:
        asked = torch.from_numpy(arrays[f"K{classes}_order"])[rank].long().view(1, 1)
        shares = g[ranks_from(asked, ranks)]
    return combined_maps(feature, weight, shares)[0, 0].numpy()


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_the_ranking_is_the_peers(combination: Arrays) -> None:
    for classes in sizes(combination):
        ranks = ranks_of(torch.from_numpy(combination[f"K{classes}_logits"])[None])[0]
        assert ranks.argsort().tolist() == combination[f"K{classes}_order"].tolist()


def test_weights_by_rank_are_the_peers(combination: Arrays) -> None:
    for classes, function, foreground, key in functions(combination, "_g"):
        ours = released_weights(function, classes, foreground).numpy()
        np.testing.assert_allclose(ours, combination[key], rtol=0, atol=1e-12, err_msg=key)


def test_weights_by_rank_are_the_closed_forms(derived: Arrays) -> None:
    for key in derived:
        classes, *rest = key.split("_")
        if rest[0].startswith("eta"):
            ours = polynomial_weights(int(classes[1:]), int(rest[0].removeprefix("eta")))
        else:
            top, bottom = (int(part.lstrip("topbm")) for part in rest)
            ours = top_bottom_weights(int(classes[1:]), top, bottom)
        np.testing.assert_allclose(ours.numpy(), derived[key], rtol=0, atol=1e-12, err_msg=key)


def test_the_papers_quadratic_is_near_the_peers_and_not_the_same(combination: Arrays) -> None:
    """An even number of classes has two middle ranks, 0 each in the released code and never 0 in eq. 5."""
    for classes, function, foreground, key in functions(combination, "_g"):
        if function == "quadratic" and 2 * foreground == classes:
            paper = weights_by_rank(CCAMConfig(function="polynomial"), classes).numpy()
            apart = np.abs(paper - combination[key])
            assert 0 < apart.max() < 1 / classes
            assert (paper != 0).all()
            assert combination[key][foreground - 1] == combination[key][foreground] == 0


def test_combined_maps_are_the_peers(combination: Arrays) -> None:
    for classes, function, foreground, key in functions(combination, "_map"):
        ours = our_map(combination, classes, released_weights(function, classes, foreground))
        scale = np.abs(combination[key]).max()
        np.testing.assert_allclose(ours, combination[key], rtol=0, atol=1e-12 * scale, err_msg=key)


def test_pictures_of_the_maps_are_the_peers(combination: Arrays) -> None:
    for classes, function, foreground, key in functions(combination, "_img224_u8"):
        ours = released_picture(our_map(combination, classes, released_weights(function, classes, foreground)))
        assert np.abs(ours.astype(int) - combination[key]).max() <= 1, key


def test_boxes_under_the_peers_protocol_are_the_peers(combination: Arrays) -> None:
    for classes, function, foreground, key in functions(combination, "_box"):
        threshold = float(key.split("_seg")[1].removesuffix("_box"))
        ours = our_map(combination, classes, released_weights(function, classes, foreground))
        np.testing.assert_array_equal(box_of_map(ours, threshold), combination[key], err_msg=key)


def boxes_of_the_class_asked_for(arrays: Arrays) -> list[tuple[int, str, np.ndarray]]:
    """Classes, function and box of the class at rank ASKED."""
    found = [
        (classes, key.split("_")[1], arrays[key])
        for classes in sizes(arrays)
        for key in arrays
        if key.startswith(f"K{classes}_") and key.endswith("_class_rank5_box")
    ]
    assert found
    return found


def test_the_requested_class_changes_only_the_top_1_of_the_released_code(combination: Arrays) -> None:
    """Its polynomials draw the map of the most probable class whatever is asked for: our `first="predicted"`."""
    for classes, function, box in boxes_of_the_class_asked_for(combination):
        ignores_the_class = function in ("linear", "quadratic")
        g = released_weights(function, classes, FOREGROUND)
        drawn = our_map(combination, classes, g, rank=None if ignores_the_class else ASKED)
        np.testing.assert_array_equal(box_of_map(drawn), box, err_msg=f"{classes} {function}")


def test_ours_draws_the_requested_class_for_polynomials_too(combination: Arrays) -> None:
    """Little of it shows where classes are many: the weights of neighbouring ranks differ by 2 / (K - 1)."""
    for classes in sizes(combination):
        g = polynomial_weights(classes, 1)
        first, asked = (our_map(combination, classes, g, rank=rank) for rank in (0, ASKED))
        np.testing.assert_array_equal(first, our_map(combination, classes, g))
        weight, feature, order = (combination[f"K{classes}_{name}"] for name in ("weight", "feature", "order"))
        change = weight[order[ASKED]] * ASKED - weight[order[:ASKED]].sum(axis=0)
        expected = 2 / (classes - 1) * np.tensordot(change, feature[0], 1)
        np.testing.assert_allclose(asked - first, expected, rtol=0, atol=1e-12 * np.abs(first).max())
        assert np.abs(expected).max() > 1e-6 * np.abs(first).max()


def test_components_are_the_peers(boxes: Arrays) -> None:
    """There is none where the peer raises."""
    for case in boxes["names"]:
        found = box_of_largest_component(boxes[f"map_{case}"])
        if f"error_{case}" in boxes:
            assert found is None, case
        else:
            np.testing.assert_array_equal(found, boxes[f"box_{case}"], err_msg=case)


def test_overlaps_are_the_peers(boxes: Arrays) -> None:
    found = iou_plus_one(boxes["iou_a"], boxes["iou_b"]).diagonal()
    np.testing.assert_allclose(found, boxes["iou"], rtol=0, atol=1e-15)


def test_boxes_brought_to_the_photo_and_back_are_the_peers(boxes: Arrays) -> None:
    for case in boxes["resize_cases"]:
        height, width = case[4:6].tolist()
        np.testing.assert_array_equal(boxes_on_image(case[:4], (width, height))[0], case[6:10])
        np.testing.assert_array_equal(boxes_on_map(case[:4], (width, height))[0], case[10:])


class Stored(nn.Module):
    """A stage that has seen one picture only."""

    def __init__(self, features: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("features", torch.from_numpy(features).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.features.expand(len(images), -1, -1, -1)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("t1b0", {"top": 1, "bottom": 0}),
        ("t1b1", {"top": 1, "bottom": 1}),
        ("linear", {"function": "polynomial", "degree": 1}),
        ("linear", {"function": "polynomial", "degree": 1, "first": "predicted"}),
    ],
)
def test_the_localizer_draws_the_peers_maps(combination: Arrays, function: str, options: dict[str, object]) -> None:
    for classes, name, _, key in functions(combination, "_map"):
        if name == function:
            weight, feature = combination[f"K{classes}_weight"], combination[f"K{classes}_feature"]
            backbone = Backbone("stored", StageSpec([Stored(feature)], (feature.shape[1],), (16,), None))
            localizer = CCAM(backbone, classes, **options).eval()
            with torch.no_grad():
                localizer.classifier.weight.copy_(torch.from_numpy(weight)[:, :, None, None])
            best = int(combination[f"K{classes}_order"][0])
            with torch.inference_mode():
                seen = localizer.localize(torch.zeros(1, 3, 8, 8), torch.tensor([[best]]))
            np.testing.assert_allclose(seen.logits[0], combination[f"K{classes}_logits"], rtol=0, atol=1e-6)
            scale = np.abs(combination[key]).max()
            np.testing.assert_allclose(seen.maps[0, 0], combination[key], rtol=0, atol=1e-5 * scale)
