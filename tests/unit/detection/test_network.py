"""Detectors as networks: pyramid, frozen stages, detections."""

import pytest
import torch
from torch import Tensor, nn

from mining.backbones.build import build
from mining.config import DETECTOR_KINDS, DetectorNetworkOptions, parse
from mining.detection.boxes import DetectionTarget
from mining.detection.network import Detector
from mining.errors import InputError
from tests.factories import register_staged_backbone, register_tiny_backbone


@pytest.fixture(autouse=True)
def backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    register_staged_backbone(monkeypatch)
    register_tiny_backbone(monkeypatch)
    torch.manual_seed(0)


def make_detector(kind: str = "fcos", *, backbone: str = "staged", classes: int = 3, frozen: int = 1) -> Detector:
    options = DetectorNetworkOptions(kind=kind, side=64, channels=64, convolutions=1, frozen_stages=frozen)
    return Detector(build(backbone)[0], classes, options)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)


def target(boxes: list[list[float]], classes: list[int]) -> DetectionTarget:
    return DetectionTarget(torch.tensor(boxes), torch.tensor(classes), torch.ones(len(boxes)))


def test_the_pyramid_has_the_last_stage_of_each_stride_from_8_on_and_two_coarser_levels():
    detector = make_detector()
    assert detector.pyramid.strides == (8, 16, 32, 64)
    features = detector.pyramid(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape) for level in features] == [
        (1, 64, 8, 12), (1, 64, 4, 6), (1, 64, 2, 3), (1, 64, 1, 2)
    ]  # fmt: skip


def test_a_backbone_without_coarse_stages_has_the_levels_of_its_last():
    assert make_detector(backbone="tiny").pyramid.strides == (4, 8, 16)


@pytest.mark.parametrize("kind", DETECTOR_KINDS)
def test_frozen_stages_have_no_gradient_and_batch_norm_keeps_its_statistics(kind: str):
    detector = make_detector(kind, frozen=2).train()
    before = {name: value.clone() for name, value in detector.backbone.named_buffers()}
    losses = detector.losses([noise(64, 48)], [target([[4, 4, 40, 44]], [1])])
    torch.stack(list(losses.values())).sum().backward()
    for number, stage in enumerate(detector.backbone.stages):
        assert all((parameter.grad is None) == (number < 2) for parameter in stage.parameters())
    assert all(torch.equal(before[name], value) for name, value in detector.backbone.named_buffers())
    assert all(parameter.grad is not None for parameter in detector.head.parameters())


@pytest.mark.parametrize("kind", DETECTOR_KINDS)
def test_losses_do_not_depend_on_the_size_that_an_image_is_given_in(kind: str):
    detector = make_detector(kind)
    small = noise(32, 24)
    large = small.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    (first, second) = (
        detector.losses([image], [target([[4 * f, 2 * f, 20 * f, 30 * f]], [0])])
        for image, f in ((small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2), 2), (large, 4))
    )
    for name in first:
        assert first[name].item() == pytest.approx(second[name].item(), rel=0.05)


@pytest.mark.parametrize("kind", DETECTOR_KINDS)
def test_detections_lie_in_the_image_best_first_and_are_the_same_again(kind: str):
    detector = make_detector(kind).train()
    images = [noise(50, 120, 1), noise(64, 30, 2)]
    found = detector.detect(images, [None, None], min_score=0.0, most=7)
    assert detector.training
    for image, one in zip(images, found, strict=True):
        height, width = image.shape[1:]
        assert (len(one), one.boxes.dtype, one.classes.dtype) == (7, torch.float32, torch.int64)
        assert (one.boxes[:, :2] >= 0).all()
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        assert (one.boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert (one.scores.diff() <= 0).all()
        assert ((one.scores >= 0) & (one.scores <= 1)).all()
    again = detector.detect(images, [None, None], min_score=0.0, most=7)
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)
    assert not any(parameter.grad is not None for parameter in detector.parameters())


@pytest.mark.parametrize("kind", DETECTOR_KINDS)
def test_only_the_classes_asked_for_are_detected(kind: str):
    detector = make_detector(kind)
    image = noise(64, 64)
    all_classes, some, none = detector.detect([image] * 3, [None, [2, 0], []], min_score=0.0)
    assert set(all_classes.classes.tolist()) == {0, 1, 2}
    assert set(some.classes.tolist()) == {0, 2}
    assert len(none) == 0


def test_min_score_and_merge_iou_decide_which_boxes_are_kept():
    detector = make_detector("retinanet")  # untrained, its boxes are anchors, which overlap
    image = noise(64, 64)
    (loose,) = detector.detect([image], [None], min_score=0.0, merge_iou=1.0, most=1000)
    (strict,) = detector.detect([image], [None], min_score=0.0, merge_iou=0.01, most=1000)
    assert len(strict) < len(loose)
    cut = float(loose.scores.median())
    (above,) = detector.detect([image], [None], min_score=cut, merge_iou=1.0, most=1000)
    assert 0 < len(above) < len(loose)
    assert (above.scores >= cut).all()


def test_detect_of_no_image_is_empty():
    assert make_detector().detect([], []) == []


def test_a_detector_that_knows_one_place_returns_its_box_in_px_of_the_given_image():
    """Outputs set by hand: one cell of stride 8 with the distances 1, 1, 2 and 2 strides."""
    detector = make_detector(classes=1)

    class Fixed(nn.Module):
        def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
            cells = sum(level.shape[2] * level.shape[3] for level in features)
            logits = torch.full((1, cells, 1), -9.0)
            logits[0, 8 * 3 + 2] = 9.0  # row 3, column 2 of the first level: looks at x 16, y 24
            regression = torch.tensor([1.0, 1, 2, 2]).expand(1, cells, 4)
            return {"cls_logits": logits, "bbox_regression": regression, "bbox_ctrness": torch.full((1, cells, 1), 9.0)}

    detector.head.layers = Fixed()  # type: ignore[assignment]
    (found,) = detector.detect([noise(128, 128)], [None], min_score=0.5)
    assert found.boxes.tolist() == [[16.0, 32.0, 64.0, 80.0]]
    assert float(found.scores[0]) > 0.99


def test_an_unknown_kind_is_refused_with_the_nearest_one():
    with pytest.raises(InputError, match="did you mean 'fcos'") as error:
        parse(DetectorNetworkOptions, {"kind": "fcoss"})
    assert "Choose from: fcos, retinanet, faster-rcnn" in str(error.value)
