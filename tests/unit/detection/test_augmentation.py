"""Views of training images: boxes stay on their objects."""

import numpy as np
import torch

from mining.config import DetectorOptions
from mining.detection.augmentation import BoxAugmentation


def test_boxes_follow_their_objects_through_crop_flip_and_resize():
    pixels = torch.zeros(3, 90, 120, dtype=torch.uint8)
    pixels[:, 30:60, 40:80] = 255
    box = np.array([[40.0, 30, 80, 60]])
    augment = BoxAugmentation(DetectorOptions(side=96, colour=False))
    shapes = set()
    for seed in range(40):
        view = augment(pixels, box, np.array([2]), np.array([0.5]), np.zeros((0, 4)), seed)
        assert max(view.pixels.shape[1:]) == 96
        shapes.add(tuple(view.pixels.shape[1:]))
        assert (view.target.classes.tolist(), view.target.weights.tolist()) == ([2], [0.5])
        ys, xs = torch.nonzero(view.pixels[0] > 127, as_tuple=True)
        seen = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], dtype=torch.float32)
        assert (view.target.boxes[0] - seen).abs().max() <= 2
    assert len(shapes) > 5


def test_an_object_whose_centre_is_cut_off_is_ignored():
    pixels = torch.zeros(3, 100, 100, dtype=torch.uint8)
    boxes = np.array([[5.0, 5, 35, 35], [60, 60, 95, 95]])
    region = np.array([[40.0, 0, 60, 20]])
    augment = BoxAugmentation(DetectorOptions(side=64, flip=False, colour=False))
    numbers = set()
    for seed in range(60):
        target = augment(pixels, boxes, np.array([0, 1]), np.ones(2), region, seed).target
        assert len(target.boxes) in (1, 2)
        numbers.add((len(target.boxes), len(target.ignored)))
    assert {(2, 1), (1, 2)} <= numbers


def test_a_view_follows_from_its_seed():
    pixels = torch.randint(256, (3, 80, 60), dtype=torch.uint8)
    box = np.array([[10.0, 10, 50, 60]])
    views = [
        BoxAugmentation(DetectorOptions(side=64))(pixels, box, np.array([0]), np.ones(1), np.zeros((0, 4)), seed)
        for seed in (7, 7, 8)
    ]
    assert torch.equal(views[0].pixels, views[1].pixels)
    assert views[0].pixels.shape != views[2].pixels.shape or not torch.equal(views[0].pixels, views[2].pixels)
