"""mLDFR's boxes and figures against those of the released code, and where ours are the same or are not."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from mining.boxes import Boxes, merge_nms
from mining.localizers.mldfr import MLDFR
from mining.pyramid import fused
from mining.regions import boxes_from_map, normalised
from mining.scoring import Detections
from mining.scoring.boxes import TruthBoxes
from mining.scoring.corloc import Pairs, pairs_of
from tests.oracles.mldfr_protocol import (
    errors,
    fused_and_cut_at_its_mean,
    half_open,
    inclusive_boxes,
    iou_with_one_added,
    mask_of,
    top_classes,
)

Peer = dict[str, np.ndarray]


def arrays(folder: Path, name: str) -> Peer:
    with np.load(folder / f"mldfr_{name}.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def localized(oracle: Callable[[str], Path]) -> Peer:
    return arrays(oracle("mldfr"), "localize")


@pytest.fixture(scope="module")
def overlaps(oracle: Callable[[str], Path]) -> Peer:
    return arrays(oracle("mldfr"), "iou")


@pytest.fixture(scope="module")
def pyramids(oracle: Callable[[str], Path]) -> Peer:
    return arrays(oracle("mldfr"), "msc")


# --- boxes of a map --------------------------------------------------------------------------------------------------


def test_the_box_of_each_map_at_each_threshold_is_the_peers(localized: Peer) -> None:
    for name in localized["names"]:
        activation = torch.from_numpy(localized[f"map_{name}"])
        for threshold, expected in zip(localized["thresholds"], localized[f"single_{name}"], strict=True):
            found = inclusive_boxes(activation, float(threshold), several=False)
            raised = expected[0] < 0
            assert len(found) == (0 if raised else 1), (name, threshold)
            if not raised:
                assert found[0, :4].tolist() == expected[:4].tolist(), (name, threshold)
                assert found[0, 4] == pytest.approx(expected[4], rel=1e-5, abs=1e-6)


def test_the_boxes_of_all_regions_are_the_peers_in_its_order(localized: Peer) -> None:
    for name in localized["names"]:
        activation = torch.from_numpy(localized[f"map_{name}"])
        found = [inclusive_boxes(activation, float(one), several=True) for one in localized["thresholds"]]
        counts = np.maximum(localized[f"multicount_{name}"], 0)
        assert [len(one) for one in found] == counts.tolist(), name
        np.testing.assert_allclose(np.concatenate(found), localized[f"multi_{name}"], rtol=1e-5, atol=1e-6)


def our_mask(activation: Tensor, threshold: float) -> np.ndarray:
    level = normalised(activation.numpy(), "minmax")
    return np.zeros(activation.shape, bool) if level is None else level >= threshold


def test_our_boxes_are_the_peers_where_its_second_threshold_cuts_nothing(localized: Peer) -> None:
    """Then the mask is equation 9's; where 4- and 8-connected regions are the same, so are the boxes."""
    alike = 0
    for name in localized["names"]:
        activation = torch.from_numpy(localized[f"map_{name}"])
        for threshold in (float(one) for one in localized["thresholds"]):
            mask = mask_of(activation, threshold)
            if not (mask == our_mask(activation, threshold)).all() or regions(mask, 4) != regions(mask, 8):
                continue
            peers = half_open(inclusive_boxes(activation, threshold, several=True)[:, :4])
            ours = boxes_from_map(activation.numpy(), threshold=threshold, normalise="minmax", min_area_px=1).xyxy
            assert sorted(ours.tolist()) == sorted(peers.tolist()), (name, threshold)
            alike += len(ours) > 0
    assert alike > 10


def regions(mask: np.ndarray, connectivity: int) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[0]


def test_the_peers_second_threshold_only_ever_cuts_more_than_the_papers(localized: Peer) -> None:
    cut = 0
    for name in localized["names"]:
        activation = torch.from_numpy(localized[f"map_{name}"])
        for threshold in (float(one) for one in localized["thresholds"]):
            peers, ours = mask_of(activation, threshold), our_mask(activation, threshold)
            assert not (peers & ~ours).any(), (name, threshold)
            cut += (ours & ~peers).any()
    assert cut > 10


# --- overlaps and figures --------------------------------------------------------------------------------------------


def test_overlaps_are_the_peers_once_boxes_end_behind_their_last_pixel(overlaps: Peer) -> None:
    found = iou_with_one_added(overlaps["box_a"], overlaps["box_b"])
    for name in ("iou_calc_iou", "iou_cross"):
        np.testing.assert_allclose(found, overlaps[name].reshape(found.shape), atol=1e-12)
    np.testing.assert_allclose(found.diagonal(), overlaps["iou_paired"], atol=1e-12)


def test_nms_keeps_the_peers_boxes(overlaps: Peer) -> None:
    rows = overlaps["nms_dets"]
    none = np.zeros(len(rows), np.float32)
    boxes = Boxes(
        half_open(rows[:, :4]).astype(np.float32), rows[:, 4].astype(np.float32), none, none, none.astype(int)
    )
    thresholds = [name.removeprefix("nms_keep_") for name in overlaps if name.startswith("nms_keep_")]
    assert thresholds
    for threshold in thresholds:
        kept = merge_nms(boxes, float(threshold))
        expected = overlaps[f"nms_keep_{threshold}"]
        np.testing.assert_array_equal(kept.xyxy, boxes.xyxy[expected])
        np.testing.assert_array_equal(kept.score, boxes.score[expected])


def pairs(truth: np.ndarray, predicted: np.ndarray) -> Pairs:
    """truth: rows of image, class, box. predicted: rows of image, class, box, score; boxes end with a pixel."""
    sides = half_open(truth[:, 2:6])
    none = np.zeros(len(truth), bool)
    boxes = TruthBoxes(
        image=truth[:, 0].astype(int),
        category=truth[:, 1].astype(int),
        xywh=_xywh(sides),
        is_crowd=none,
        is_ignored=none,
    )
    return pairs_of(
        boxes,
        Detections(
            image=predicted[:, 0].astype(int),
            category=predicted[:, 1].astype(int),
            xywh=_xywh(half_open(predicted[:, 2:6])),
            scores=predicted[:, 6],
        ),
    )


def _xywh(xyxy: np.ndarray) -> np.ndarray:
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def macro(found: Pairs, threshold: float, labelled: np.ndarray) -> float:
    """Mean over classes of the share of its labelled images where it is found; labelled: (B, classes) bool."""
    hit = (found.best_iou >= threshold) & labelled[found.image, found.category]
    hits = np.bincount(found.category[hit], minlength=labelled.shape[1])
    return float((hits / labelled.sum(axis=0)).mean())


def one_label_an_image(labels: np.ndarray) -> np.ndarray:
    return labels[:, None] == np.arange(labels.max() + 1)


@pytest.mark.parametrize("kind", ["s", "m"])
def test_our_macro_corloc_is_the_peers_where_its_boxes_are_read_as_it_reads_them(kind: str, overlaps: Peer) -> None:
    """Of one class an image (s), or of each class that the image has (m).

    The peer counts a labelled class without a true box as missed; of ours such pairs are no part.
    """
    single = one_label_an_image(overlaps["corloc_labels"])
    labelled = single if kind == "s" else overlaps["corloc_multilabels"] == 1
    found = pairs(overlaps["corloc_gt"], overlaps["corloc_pred"])
    thresholds = [name.split("_")[-1] for name in overlaps if name.startswith(f"corloc_{kind}_")]
    assert thresholds
    for threshold in thresholds:
        expected = float(overlaps[f"corloc_{kind}_{threshold}"])
        assert macro(found, float(threshold), labelled) == pytest.approx(expected, abs=1e-9)


# --- the pyramid -----------------------------------------------------------------------------------------------------


def levels_of(pyramids: Peer, image: int, category: int) -> tuple[list[Tensor], tuple[int, int]]:
    maps = [pyramids[f"cams_{scale}_img{image:02}"][category].astype(np.float32) for scale in pyramids["scales"]]
    height, width = pyramids["image_sizes_hw"][image]
    return [torch.from_numpy(one)[None] for one in maps], (int(height), int(width))


def test_fused_maps_are_the_peers_before_and_after_its_cut(pyramids: Peer) -> None:
    images = [int(match[1]) for match in (re.fullmatch(r"fused_img(\d+)", name) for name in pyramids) if match]
    assert len(images) > 5
    for image in images:
        levels, size = levels_of(pyramids, image, pyramids["labels"][image])
        expected = pyramids[f"fused_img{image:02}"]
        np.testing.assert_allclose(fused_and_cut_at_its_mean(levels, size).numpy(), expected, atol=1e-5)
        kept = expected != 0
        np.testing.assert_allclose(fused(levels, size)[0].numpy()[kept], expected[kept], atol=1e-5)


def peers_boxes(pyramids: Peer, image: int, categories: np.ndarray) -> np.ndarray:
    """(K, 5) of the released code: one box a class, of the whole mask."""
    maps = [fused_and_cut_at_its_mean(*levels_of(pyramids, image, one)) for one in categories]
    return np.concatenate([inclusive_boxes(one, 0.2, several=False) for one in maps])


def test_boxes_and_figures_of_sixty_images_are_the_peers(pyramids: Peer) -> None:
    labels, scores, truth = pyramids["labels"], pyramids["scores"], pyramids["gt"]
    images = range(len(labels))
    known = np.concatenate([peers_boxes(pyramids, image, labels[image : image + 1]) for image in images])
    np.testing.assert_array_equal(known[:, :4], pyramids["corloc_boxes"][:, 2:6])
    np.testing.assert_allclose(known[:, 4], pyramids["corloc_boxes"][:, 6], rtol=1e-4, atol=1e-5)

    five = np.stack([peers_boxes(pyramids, image, top_classes(scores)[image]) for image in images])
    expected = pyramids["clsloc_boxes"].reshape(len(labels), 5, 7)
    np.testing.assert_array_equal(expected[:, :, 1], top_classes(scores))
    np.testing.assert_array_equal(five[:, :, :4], expected[:, :, 2:6])

    predicted = np.concatenate([np.stack([images, labels], axis=1), known], axis=1)
    for name in (name for name in pyramids if name.startswith("perf_")):
        threshold = float(name.removeprefix("perf_"))
        corloc = macro(pairs(truth, predicted), threshold, one_label_an_image(labels))
        found = [*errors(scores, labels, five[:, :, :4], truth[:, 2:], threshold), 1 - corloc, corloc]
        np.testing.assert_allclose(found, pyramids[name], atol=1e-6)


def test_where_the_mean_is_negative_the_peers_cut_turns_the_map_over_and_ours_does_not(pyramids: Peer) -> None:
    turned = 0
    for image, label in enumerate(pyramids["labels"]):
        levels, size = levels_of(pyramids, image, label)
        plain = fused(levels, size)[0]
        cut = fused_and_cut_at_its_mean(levels, size)
        if plain.max() < 0:
            turned += 1
            assert float(plain[cut == 0].max()) < float(plain[cut != 0].min()), "what was low"
            assert float(cut[cut == 0].min()) > float(cut[cut != 0].max()), "is high"
        level = normalised(plain.numpy(), MLDFR.normalise)
        assert level is not None
        assert np.unravel_index(level.argmax(), level.shape) == np.unravel_index(int(plain.argmax()), plain.shape)
    assert turned > 0
