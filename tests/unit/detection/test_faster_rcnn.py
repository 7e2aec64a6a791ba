"""The two stages of Faster R-CNN: torchvision's losses as the reference, weights, ignored regions, sampling."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from mining.config import DetectorNetworkOptions
from mining.detection.boxes import DetectionTarget
from mining.detection.dense_head import least_credible
from mining.detection.faster_rcnn import FasterRCNN, _region_pooling

STRIDES = (8, 16, 32, 64)
SIDE = 128
SIZES = [(SIDE // stride, SIDE // stride) for stride in STRIDES]
CLASSES = 3


@pytest.fixture
def head() -> FasterRCNN:
    torch.manual_seed(0)
    made = FasterRCNN(CLASSES, STRIDES, DetectorNetworkOptions(kind="faster-rcnn", channels=64, convolutions=1))
    with torch.no_grad():  # of torchvision's small weights, all anchors would be alike
        made.proposals.layers.head.cls_logits.weight.normal_(std=0.3)
        made.proposals.layers.head.bbox_pred.weight.normal_(std=0.05)
    return made


def random_features(images: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 64, *size, generator=generator).requires_grad_() for size in SIZES]


def random_target(seed: int, count: int) -> DetectionTarget:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    sides = 20 + torch.rand(count, 2, generator=generator) * 40
    classes = torch.randint(CLASSES, (count,), generator=generator)
    return DetectionTarget(torch.cat([corners, corners + sides], 1), classes, torch.ones(count))


def nothing(ignored: list[list[float]] | None = None) -> DetectionTarget:
    regions = torch.tensor(ignored) if ignored else torch.zeros(0, 4)
    return DetectionTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), regions)


def losses_of(
    head: FasterRCNN, targets: list[DetectionTarget], *, seed: int = 5, drop_share: float = 0.0
) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return head.losses(random_features(len(targets)), [(SIDE, SIDE)] * len(targets), targets, drop_share)


class Spy:
    """What the stages drew and classified."""

    def __init__(self, head: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: dict[str, list[tuple[Tensor, Tensor]]] = {"anchors": [], "regions": []}
        self.regions: list[list[Tensor]] = []
        self.outputs: list[tuple[Tensor, Tensor]] = []
        for name, layers in (("anchors", head.proposals.layers), ("regions", head.regions)):
            monkeypatch.setattr(layers, "fg_bg_sampler", self._recording(name, layers.fg_bg_sampler))
        classify = head.classify

        def record(features: Any, regions: list[Tensor], sizes: Any) -> tuple[Tensor, Tensor]:
            self.regions.append(regions)
            self.outputs.append(classify(features, regions, sizes))
            return self.outputs[-1]

        monkeypatch.setattr(head, "classify", record)

    def _recording(self, name: str, sampler: Any) -> Any:
        def draw(labels: list[Tensor]) -> Any:
            with_box, without = sampler(labels)
            self.drawn[name].append((with_box[0].bool(), without[0].bool()))
            return with_box, without

        return draw


def centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def test_losses_equal_torchvisions_where_all_boxes_are_certain(head: FasterRCNN):
    targets = [random_target(1, 4), random_target(2, 1), nothing()]
    found = losses_of(head, targets)
    features = {str(number): level for number, level in enumerate(random_features(3))}
    anchors = torch.cat(head.proposals.anchors(list(features.values())))

    class Anchors(nn.Module):
        def forward(self, *_: object) -> list[Tensor]:
            return [anchors] * 3

    network = head.proposals.layers
    network.anchor_generator = Anchors()  # torchvision rounds its own to whole px
    images = ImageList(torch.zeros(3, 3, SIDE, SIDE), [(SIDE, SIDE)] * 3)
    given = [{"boxes": one.boxes, "labels": one.classes + 1} for one in targets]
    torch.manual_seed(5)
    proposals, first = network(images, features, given)
    _, second = head.regions(features, proposals, images.image_sizes, given)
    expected = {
        "objectness": first["loss_objectness"], "proposal_regression": first["loss_rpn_box_reg"],
        "classification": second["loss_classifier"], "bbox_regression": second["loss_box_reg"],
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_detections_are_those_of_torchvision(head: FasterRCNN):
    head.eval()
    with torch.no_grad():
        head.regions.box_predictor.cls_score.weight.normal_(std=0.5)
    features = {str(number): level for number, level in enumerate(random_features(1))}
    logits, regression = head.proposals(list(features.values()))
    proposals = head.proposals.propose(
        logits, regression, head.proposals.anchors(list(features.values())), [(SIDE, 100)]
    )
    head.regions.score_thresh, head.regions.nms_thresh, head.regions.detections_per_img = 0.4, 1.0, 10_000
    (expected,), _ = head.regions(features, proposals, [(SIDE, 100)])
    (found,) = head.candidates(list(features.values()), [(SIDE, 100)], [None], 0.4)
    limits = torch.tensor([100.0, SIDE, 100, SIDE])
    assert 5 < len(found.boxes) == len(expected["boxes"])
    assert torch.equal(found.scores, expected["scores"])
    assert torch.equal(found.classes + 1, expected["labels"])
    assert torch.allclose(torch.minimum(found.boxes.clamp(min=0), limits), expected["boxes"], atol=1e-4)


def test_the_places_of_a_box_of_weight_0_are_drawn_by_neither_stage(head: FasterRCNN, monkeypatch: pytest.MonkeyPatch):
    target = random_target(1, 2)
    unsure = DetectionTarget(target.boxes, target.classes, torch.tensor([1.0, 0.0]))
    spy = Spy(head, monkeypatch)
    losses_of(head, [unsure])
    losses_of(head, [target])
    anchors = torch.cat(head.proposals.anchors(random_features(1)))
    matched = head.proposals.layers.proposal_matcher(box_iou(target.boxes, anchors))
    for (with_box, without), is_drawn in zip(spy.drawn["anchors"], (False, True), strict=True):
        assert (with_box & (matched == 1)).any() == is_drawn
        assert not (without & (matched == 1)).any()
        assert (with_box & (matched == 0)).any()
    for (regions,), is_drawn in zip(spy.regions, (False, True), strict=True):
        iou, box = box_iou(target.boxes, regions).max(dim=0)
        assert ((box == 1) & (iou >= 0.5)).any() == is_drawn
        assert ((box == 0) & (iou >= 0.5)).any()


def test_weight_scales_the_losses_of_a_box_and_what_they_are_divided_by(
    head: FasterRCNN, monkeypatch: pytest.MonkeyPatch
):
    target = random_target(1, 1)
    half = DetectionTarget(target.boxes, target.classes, torch.tensor([0.5]))
    spy = Spy(head, monkeypatch)
    whole, weighted = losses_of(head, [target]), losses_of(head, [half])
    for stage, name in (("anchors", "proposal_regression"), ("regions", "bbox_regression")):
        (with_box, without), again = spy.drawn[stage]
        assert torch.equal(with_box, again[0])
        objects, others = int(with_box.sum()), int(without.sum())
        assert objects > 0
        expected = 0.5 * whole[name].item() * (objects + others) / (0.5 * objects + others)
        assert weighted[name].item() == pytest.approx(expected, rel=1e-5)


def test_what_lies_in_an_ignored_region_without_a_box_is_drawn_by_neither_stage(
    head: FasterRCNN, monkeypatch: pytest.MonkeyPatch
):
    box = torch.tensor([[70.0, 10, 110, 50]])
    region = torch.tensor([[64.0, 0, 128, 128]])
    target = DetectionTarget(box, torch.tensor([2]), torch.ones(1), region)
    spy = Spy(head, monkeypatch)
    losses_of(head, [target])
    anchors = torch.cat(head.proposals.anchors(random_features(1)))
    ((with_box, without),) = spy.drawn["anchors"]
    assert (centres(anchors)[with_box][:, 0] >= 64).any(), "the box is learned"
    assert without.any()
    assert (centres(anchors)[without][:, 0] < 64).all()
    (((regions),),) = spy.regions
    is_background = box_iou(box, regions)[0] < 0.5
    assert not is_background.all()
    assert is_background.any()
    assert (centres(regions)[is_background][:, 0] < 64).all()


def test_the_box_of_highest_loss_is_left_out_of_the_second_stage_alone(
    head: FasterRCNN, monkeypatch: pytest.MonkeyPatch
):
    target = random_target(3, 3)
    spy = Spy(head, monkeypatch)
    whole, found = losses_of(head, [target]), losses_of(head, [target], drop_share=0.34)
    for name in ("objectness", "proposal_regression"):
        assert torch.equal(whole[name], found[name])
    (regions,), (logits, _) = spy.regions[0], spy.outputs[0]
    iou, box = box_iou(target.boxes, regions).max(dim=0)
    labels = torch.where(iou >= 0.5, target.classes[box] + 1, 0)
    each = functional.cross_entropy(logits, labels, reduction="none")
    matched = torch.where(iou >= 0.5, box, -1)
    losses = head._losses_of_image(regions, matched, logits, spy.outputs[0][1], target)
    dropped = least_credible(losses, matched, target, 0.34)
    assert dropped.sum() == 1
    kept = (matched < 0) | ~dropped[matched.clamp(min=0)]
    assert not kept.all()
    assert found["classification"].item() == pytest.approx(each[kept].mean().item(), rel=1e-5)
    assert found["classification"].item() != pytest.approx(whole["classification"].item(), rel=1e-3)


def test_the_last_box_of_an_image_is_never_left_out(head: FasterRCNN):
    targets = [random_target(2, 1)]
    whole, found = losses_of(head, targets), losses_of(head, targets, drop_share=0.9)
    assert all(torch.equal(whole[name], found[name]) for name in whole)


def test_images_without_boxes_teach_background_and_those_ignored_as_a_whole_nothing(head: FasterRCNN):
    background, ignored = losses_of(head, [nothing()]), losses_of(head, [nothing([[-500.0, -500, 500, 500]])])
    assert background["objectness"] > 0
    assert background["classification"] > 0
    assert background["proposal_regression"] == background["bbox_regression"] == 0
    assert all(value == 0 for value in ignored.values())
    torch.stack(list(ignored.values())).sum().backward()
    assert all(one.grad is None or not one.grad.any() for one in head.parameters())


def test_no_gradient_passes_the_proposals(head: FasterRCNN):
    losses = losses_of(head, [random_target(1, 3)])
    (losses["classification"] + losses["bbox_regression"]).backward()
    assert all(one.grad is None for one in head.proposals.parameters())
    assert all(one.grad is not None for one in head.regions.parameters())


def test_what_is_drawn_follows_from_torchs_seed(head: FasterRCNN, monkeypatch: pytest.MonkeyPatch):
    spy = Spy(head, monkeypatch)
    targets = [random_target(1, 3)]
    for seed in (5, 5, 6):
        losses_of(head, targets, seed=seed)
    first, again, other = spy.drawn["anchors"]
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(spy.regions[0][0], spy.regions[1][0])
    assert not torch.equal(spy.regions[0][0], spy.regions[2][0])


def test_losses_in_bfloat16_are_near_those_in_float32(head: FasterRCNN):
    exact = losses_of(head, [random_target(1, 3)])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = losses_of(head, [random_target(1, 3)])
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32
        assert rounded[name].item() == pytest.approx(value.item(), rel=0.1)


@pytest.mark.parametrize("strides", [(8, 16, 32, 64), (14, 28, 56)])
def test_regions_are_pooled_at_their_place_whatever_the_stride(strides: tuple[int, ...]):
    """Maps whose values are the x of what each cell looks at: the mean over a region is the x of its centre."""
    pooling = _region_pooling(strides)
    side = 28 * 8 * 8
    maps = {}
    for number, stride in enumerate(strides):
        across = torch.arange(side // stride, dtype=torch.float32) * stride
        maps[str(number)] = across.expand(1, 1, side // stride, -1)
    regions = torch.tensor([[40.0, 40, 90, 70], [100, 20, 300, 250], [50, 50, 500, 560], [20, 10, 1600, 1580]])
    pooled = pooling(maps, [regions], [(side, side)])
    assert torch.allclose(pooled.mean(dim=(1, 2, 3)), centres(regions)[:, 0], atol=0.01)
    levels = pooling.map_levels([regions])
    cells = (regions[:, 2:] - regions[:, :2]).prod(dim=1).sqrt() / torch.tensor(strides)[levels]
    assert levels.max() == len(strides) - 1
    assert ((cells >= 14) | (levels == 0)).all()
