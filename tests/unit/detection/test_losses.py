"""The losses of one-stage detectors: weights, ignored regions, and torchvision's own as the reference."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from mining.config import DetectorNetworkOptions
from mining.detection.boxes import DetectionTarget
from mining.detection.dense_head import DenseHead, Outputs
from mining.detection.fcos import FCOS
from mining.detection.network import HEADS
from mining.detection.retinanet import RetinaNet

DENSE_KINDS = ("fcos", "retinanet")
STRIDES = (8, 16, 32, 64)
SIDE = 128
SIZES = [(SIDE // stride, SIDE // stride) for stride in STRIDES]
CLASSES = 3


def make_head(kind: str) -> DenseHead:
    torch.manual_seed(0)
    head = HEADS[kind](CLASSES, STRIDES, DetectorNetworkOptions(kind=kind, channels=64, convolutions=1))
    assert isinstance(head, DenseHead)
    return head


def random_features(images: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 64, *size, generator=generator) for size in SIZES]


def random_target(seed: int, count: int) -> DetectionTarget:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 80
    sides = 8 + torch.rand(count, 2, generator=generator) * 60
    classes = torch.randint(CLASSES, (count,), generator=generator)
    return DetectionTarget(torch.cat([corners, (corners + sides).clamp(max=SIDE)], 1), classes, torch.ones(count))


def outputs_of(head: DenseHead, images: int) -> tuple[Outputs, list[Tensor]]:
    return head(random_features(images)), head.places(SIZES, torch.device("cpu"))


def gradient(head: DenseHead, target: DetectionTarget, **options: float) -> Tensor:
    """The gradient of the summed losses of one image by the head's weights, in one vector."""
    outputs, places = outputs_of(head, 1)
    total = torch.stack(list(head.losses_of(outputs, places, [target], **options).values())).sum()
    parts = torch.autograd.grad(total, list(head.parameters()))
    return torch.cat([part.flatten() for part in parts])


class TorchvisionBody(nn.Module):
    out_channels = 64


def as_torchvision(target: DetectionTarget) -> dict[str, Tensor]:
    return {"boxes": target.boxes, "labels": target.classes}


def test_losses_of_fcos_equal_torchvisions_where_all_boxes_are_certain():
    head = make_head("fcos")
    assert isinstance(head, FCOS)
    outputs, places = outputs_of(head, 3)
    targets = [random_target(1, 4), random_target(2, 1), random_target(3, 0)]
    anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * 4)
    model = torchvision.models.detection.FCOS(TorchvisionBody(), CLASSES, anchor_generator=anchors, head=head.layers)
    images = ImageList(torch.zeros(3, 3, SIDE, SIDE), [(SIDE, SIDE)] * 3)
    theirs = anchors(images, random_features(3))
    assert torch.equal(torch.cat(places), theirs[0])
    expected = model.compute_loss([as_torchvision(t) for t in targets], outputs, theirs, [len(p) for p in places])
    found = head.losses_of(outputs, places, targets)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6)


def test_losses_of_retinanet_equal_torchvisions_where_all_boxes_are_certain():
    head = make_head("retinanet")
    assert isinstance(head, RetinaNet)
    outputs, places = outputs_of(head, 2)
    targets = [random_target(1, 4), random_target(2, 1)]
    sizes = tuple(tuple(4 * stride * 2 ** (step / 3) for step in range(3)) for stride in STRIDES)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 4)
    model = torchvision.models.detection.RetinaNet(
        TorchvisionBody(), CLASSES, anchor_generator=anchors, head=head.layers
    )
    # torchvision rounds its anchors to whole px: the losses are compared on ours
    assert (
        torch.cat(places) - anchors(ImageList(torch.zeros(1, 3, SIDE, SIDE), [(SIDE, SIDE)]), random_features(1))[0]
    ).abs().max() < 1
    expected = model.compute_loss([as_torchvision(t) for t in targets], outputs, [torch.cat(places)] * 2)
    found = head.losses_of(outputs, places, targets)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_a_box_of_weight_0_teaches_what_an_image_does_whose_places_of_that_box_are_ignored(kind: str):
    head = make_head(kind)
    certain = DetectionTarget(torch.tensor([[4.0, 6, 40, 38]]), torch.tensor([1]), torch.ones(1))
    places = head.places(SIZES, torch.device("cpu"))
    unsure = torch.tensor([[70.0, 60, 110, 124]])
    both = DetectionTarget(torch.cat([certain.boxes, unsure]), torch.tensor([1, 2]), torch.tensor([1.0, 0.0]))
    matched = head.match(places, both.boxes)
    of_unsure = torch.cat(places)[matched == 1]
    assert len(of_unsure)
    centres = (of_unsure[:, :2] + of_unsure[:, 2:]) / 2
    # a region of 1 px around the centre of each place; places of other levels and scales may have the same centre
    other = torch.cat(places)[matched == -1]
    shared = (((other[:, :2] + other[:, 2:]) / 2)[:, None] == centres).all(dim=2).any()
    ignored = DetectionTarget(
        certain.boxes, certain.classes, certain.weights, torch.cat([centres - 0.5, centres + 0.5], dim=1)
    )
    outputs, _ = outputs_of(head, 1)
    if shared:  # compare place by place instead: all losses of the box's places are gone
        without = {name: values.detach().clone().requires_grad_() for name, values in outputs.items()}
        torch.stack(list(head.losses_of(without, places, [both]).values())).sum().backward()
        for values in without.values():
            assert values.grad is not None
            assert not values.grad[0, matched == 1].any()
        assert without["cls_logits"].grad[0, matched == 0].any()
    else:
        assert torch.allclose(gradient(head, both), gradient(head, ignored), atol=1e-7)
    assert not torch.allclose(gradient(head, both), gradient(head, certain), atol=1e-7)  # there it is background


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_weight_scales_the_losses_of_a_box(kind: str):
    head = make_head(kind)
    places = head.places(SIZES, torch.device("cpu"))
    boxes = torch.tensor([[4.0, 6, 60, 58]])
    matched = head.match(places, boxes)
    gradients = []
    for weight in (1.0, 0.5):
        outputs, _ = outputs_of(head, 1)
        given = {name: values.detach().clone().requires_grad_() for name, values in outputs.items()}
        target = DetectionTarget(boxes, torch.tensor([2]), torch.tensor([weight]))
        head.losses_of(given, places, [target])["bbox_regression"].backward()
        objects = max(1.0, weight * float((matched >= 0).sum()))
        assert given["bbox_regression"].grad is not None
        gradients.append(given["bbox_regression"].grad * objects)
    assert gradients[0].any()
    assert torch.allclose(gradients[1], gradients[0] / 2, atol=1e-7)


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_places_without_a_box_in_an_ignored_region_are_not_background(kind: str):
    head = make_head(kind)
    outputs, places = outputs_of(head, 1)
    given = {name: values.detach().clone().requires_grad_() for name, values in outputs.items()}
    region = torch.tensor([[64.0, 0, 128, 128]])
    target = DetectionTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), region)
    head.losses_of(given, places, [target])["classification"].backward()
    together = torch.cat(places)
    is_right = (together[:, 0] + together[:, 2]) / 2 >= 64
    grad = given["cls_logits"].grad
    assert grad is not None
    assert not grad[0, is_right].any()
    assert grad[0, ~is_right].all()


def test_a_box_in_an_ignored_region_is_still_learned():
    head = make_head("fcos")
    boxes = torch.tensor([[70.0, 60, 110, 124]])
    plain = DetectionTarget(boxes, torch.tensor([2]), torch.ones(1))
    within = DetectionTarget(boxes, torch.tensor([2]), torch.ones(1), torch.tensor([[0.0, 0, 128, 128]]))
    outputs, places = outputs_of(head, 1)
    names = ("bbox_regression", "bbox_ctrness")
    expected, found = (head.losses_of(outputs, places, [target]) for target in (plain, within))
    assert all(torch.equal(expected[name], found[name]) and found[name] > 0 for name in names)
    assert found["classification"] < expected["classification"]


def test_the_box_of_highest_loss_is_dropped_as_if_its_weight_were_0():
    head = make_head("fcos")
    target = random_target(1, 3)
    outputs, places = outputs_of(head, 1)
    together = torch.cat(places)
    matched = head.match(places, target.boxes)
    of_image = {name: values[0] for name, values in outputs.items()}
    losses = head.place_losses(of_image, together, matched, target)
    of_place = losses.classification[matched >= 0] + sum(losses.of_objects.values())
    means = torch.stack([of_place[matched[matched >= 0] == box].mean() for box in range(3)])
    weights = torch.ones(3)
    weights[means.argmax()] = 0
    expected = gradient(head, DetectionTarget(target.boxes, target.classes, weights))
    assert torch.equal(gradient(head, target, drop_share=0.34), expected)
    assert not torch.equal(gradient(head, target), expected)


def test_the_last_box_of_an_image_is_never_dropped():
    head = make_head("fcos")
    target = random_target(2, 1)
    assert torch.equal(gradient(head, target, drop_share=0.9), gradient(head, target))


def test_targets_of_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="2 boxes need as many classes"):
        DetectionTarget(torch.zeros(2, 4), torch.zeros(1, dtype=torch.int64), torch.ones(2))
    with pytest.raises(ValueError, match=r"\(n, 4\)"):
        DetectionTarget(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64), torch.ones(2))
