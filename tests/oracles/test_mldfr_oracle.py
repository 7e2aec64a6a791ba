"""mLDFR's boxes and figures against those of the released code, and where ours are the same or are not."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from mining.boxes.boxes import Boxes, merge_nms
from mining.evaluation import Detections, TruthBoxes
from mining.evaluation.protocols.wsoleval import iou_plus_one
from mining.localizers.mldfr import MLDFR
from mining.localizers.pyramid import fuse_scales
from mining.localizers.registry import LOCALIZERS
from mining.regions.extraction import boxes_from_map, normalise_map
from tests.oracles.protocols.mldfr import (
    boxes_of_map,
    cut_at_its_mean,
    labelled_once,
    macro_corloc,
    mask_of,
    mldfr_scores,
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
        activation = localized[f"map_{name}"]
        for threshold, expected in zip(localized["thresholds"], localized[f"single_{name}"], strict=True):
            found = boxes_of_map(activation, float(threshold))
            raised = expected[0] < 0
            assert len(found) == (0 if raised else 1), (name, threshold)
            if not raised:
                assert found[0, :4].tolist() == expected[:4].tolist(), (name, threshold)
                assert found[0, 4] == pytest.approx(expected[4], rel=1e-5, abs=1e-6)


def test_the_boxes_of_all_regions_are_the_peers_in_its_order(localized: Peer) -> None:
    for name in localized["names"]:
        activation = localized[f"map_{name}"]
        found = [boxes_of_map(activation, float(one), several=True) for one in localized["thresholds"]]
        counts = np.maximum(localized[f"multicount_{name}"], 0)
        assert [len(one) for one in found] == counts.tolist(), name
        np.testing.assert_allclose(np.concatenate(found), localized[f"multi_{name}"], rtol=1e-5, atol=1e-6)


def half_open(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) boxes that end with their last pixel, to boxes that end behind it; so the peer's + 1 is ours."""
    return np.add(boxes, (0.0, 0.0, 1.0, 1.0))


def our_mask(activation: np.ndarray, threshold: float) -> np.ndarray:
    level = normalise_map(activation, "minmax")
    return np.zeros(activation.shape, bool) if level is None else level >= threshold


def test_our_boxes_are_the_peers_where_its_second_threshold_cuts_nothing(localized: Peer) -> None:
    """Then the mask is equation 9's; where 4- and 8-connected regions are the same, so are the boxes."""
    alike = 0
    for name in localized["names"]:
        activation = localized[f"map_{name}"]
        for threshold in (float(one) for one in localized["thresholds"]):
            mask = mask_of(activation, threshold)
            if not (mask == our_mask(activation, threshold)).all() or regions(mask, 4) != regions(mask, 8):
                continue
            peers = half_open(boxes_of_map(activation, threshold, several=True)[:, :4])
            ours = boxes_from_map(activation, threshold=threshold, normalise="minmax", min_area_px=1).xyxy
            assert sorted(ours.tolist()) == sorted(peers.tolist()), (name, threshold)
            alike += len(ours) > 0
    assert alike > 10


def regions(mask: np.ndarray, connectivity: int) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[0]


def test_the_peers_second_threshold_only_ever_cuts_more_than_the_papers(localized: Peer) -> None:
    cut = 0
    for name in localized["names"]:
        activation = localized[f"map_{name}"]
        for threshold in (float(one) for one in localized["thresholds"]):
            peers, ours = mask_of(activation, threshold), our_mask(activation, threshold)
            assert not (peers & ~ours).any(), (name, threshold)
            cut += (ours & ~peers).any()
    assert cut > 10


# --- overlaps and figures --------------------------------------------------------------------------------------------


def test_overlaps_are_the_peers_once_boxes_end_behind_their_last_pixel(overlaps: Peer) -> None:
    found = iou_plus_one(overlaps["box_a"], overlaps["box_b"])
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


def truth_of(rows: np.ndarray) -> TruthBoxes:
    """Rows of image, class, corners."""
    return TruthBoxes(rows[:, 0].astype(int), rows[:, 1].astype(int), xywh_of(rows[:, 2:6]))


def predicted_of(rows: np.ndarray) -> Detections:
    """Rows of image, class, corners, score."""
    return Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), xywh_of(rows[:, 2:6]), rows[:, 6])


def xywh_of(xyxy: np.ndarray) -> np.ndarray:
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)


@pytest.mark.parametrize("kind", ["s", "m"])
def test_corloc_is_the_peers(kind: str, overlaps: Peer) -> None:
    """Of one class an image (s), or of each class that the image has (m)."""
    several = overlaps["corloc_multilabels"]
    labelled = labelled_once(overlaps["corloc_labels"], several.shape[1]) if kind == "s" else several
    truth, predicted = truth_of(overlaps["corloc_gt"]), predicted_of(overlaps["corloc_pred"])
    thresholds = [name.split("_")[-1] for name in overlaps if name.startswith(f"corloc_{kind}_")]
    assert thresholds
    for threshold in thresholds:
        expected = float(overlaps[f"corloc_{kind}_{threshold}"])
        found = macro_corloc(truth, predicted, labelled, iou_threshold=float(threshold))
        assert found == pytest.approx(expected, abs=1e-9)


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
        np.testing.assert_allclose(cut_at_its_mean(fuse_scales(levels, size)[0].numpy()), expected, atol=1e-5)
        kept = expected != 0
        np.testing.assert_allclose(fuse_scales(levels, size)[0].numpy()[kept], expected[kept], atol=1e-5)


def boxes_of(pyramids: Peer, image: int, categories: np.ndarray) -> np.ndarray:
    """(K, 7) image, class, corners, score: one box a class, of the whole mask."""
    maps = [fuse_scales(*levels_of(pyramids, image, one))[0].numpy() for one in categories]
    boxes = np.concatenate([boxes_of_map(cut_at_its_mean(one), 0.2) for one in maps])
    return np.column_stack([np.full(len(boxes), image), categories, boxes])


def test_boxes_and_figures_of_sixty_images_are_the_peers(pyramids: Peer) -> None:
    labels, scores = pyramids["labels"], pyramids["scores"]
    known = np.concatenate([boxes_of(pyramids, image, labels[image : image + 1]) for image in range(len(labels))])
    np.testing.assert_array_equal(known[:, :6], pyramids["corloc_boxes"][:, :6])
    np.testing.assert_allclose(known[:, 6], pyramids["corloc_boxes"][:, 6], rtol=1e-4, atol=1e-5)

    top = top_classes(scores)
    five = np.concatenate([boxes_of(pyramids, image, top[image]) for image in range(len(labels))])
    np.testing.assert_array_equal(five[:, :6], pyramids["clsloc_boxes"].reshape(-1, 7)[:, :6])

    truth, predicted = truth_of(pyramids["gt"]), predicted_of(np.concatenate([known, five]))
    names = [name for name in pyramids if name.startswith("perf_")]
    assert names
    for name in names:
        found = mldfr_scores(truth, predicted, scores, iou_threshold=float(name.removeprefix("perf_")))
        errors = [found[one]["error"] for one in ("top1_cls", "top5_cls", "top1_loc", "top5_loc", "gt_known_loc")]
        np.testing.assert_allclose([*errors, found["corloc"]], pyramids[name], atol=1e-6)


def test_where_the_mean_is_negative_the_peers_cut_turns_the_map_over_and_ours_does_not(pyramids: Peer) -> None:
    turned = 0
    for image, label in enumerate(pyramids["labels"]):
        levels, size = levels_of(pyramids, image, label)
        plain = fuse_scales(levels, size)[0].numpy()
        cut = cut_at_its_mean(plain)
        if plain.max() < 0:
            turned += 1
            assert float(plain[cut == 0].max()) < float(plain[cut != 0].min()), "what was low"
            assert float(cut[cut == 0].min()) > float(cut[cut != 0].max()), "is high"
        level = normalise_map(plain, LOCALIZERS[MLDFR.name].map_cut({"preset": "paper"})[1])
        assert level is not None
        assert np.unravel_index(level.argmax(), level.shape) == np.unravel_index(int(plain.argmax()), plain.shape)
    assert turned > 0
