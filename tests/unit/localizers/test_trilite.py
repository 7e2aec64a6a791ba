import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mining.backbones.build import build
from mining.localizers.base import ClassificationLoss
from mining.localizers.trilite import TriLite, background_loss, region_mean

CLASSES = 3


def built(backbone: str = "test_vit", **options: Any) -> TriLite:
    torch.manual_seed(0)
    return TriLite(build(backbone)[0], CLASSES, **options)


def picture(count: int = 2, side: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, side, side + 32), dtype=torch.uint8, generator=generator)


def test_it_trains_less_than_a_million_parameters_on_the_papers_backbone() -> None:
    with torch.device("meta"):
        model = TriLite(build("vit_small_patch14_dinov2")[0], 1000)
    model.freeze_backbone()
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    # two classifiers of 384 x 1000 with bias, a 3x3 convolution to 3 channels without bias, a batch norm
    assert trained == 2 * (384 * 1000 + 1000) + 3 * 9 * 384 + 2 * 3
    assert trained < 800_000


def test_the_regions_of_each_cell_add_up_to_one() -> None:
    for name, count in (("three", 3), ("two", 2)):
        model = built(regions=name).eval()
        with torch.no_grad():
            regions = model.regions(model.backbone(picture())[-1])
        assert regions.shape == (2, count, 6, 8)
        assert torch.allclose(regions.sum(dim=1), torch.ones(2, 6, 8))


def test_the_map_is_the_foreground() -> None:
    model = built().eval()
    with torch.no_grad():
        seen = model.localize(picture(), torch.tensor([[0], [2]]))
        regions = model.regions(model.backbone(picture())[-1])
    assert torch.allclose(seen.maps[:, 0], regions[:, 0], atol=1e-6)


def test_the_image_is_classified_by_its_class_token() -> None:
    model = built().eval()
    with torch.no_grad():
        token = model.backbone.image_vector(model.last_output(picture()))
        cells = model.backbone(picture())[-1]
        expected = model.image_classifier(token)
        assert torch.allclose(model(picture()), expected, atol=1e-5)
    assert not torch.allclose(token, cells.mean(dim=(2, 3)), atol=1e-2)


def test_the_mean_of_a_region_is_weighted_by_the_region() -> None:
    cells = torch.tensor([[[[1.0, 5.0]], [[2.0, 6.0]]]])
    assert torch.allclose(region_mean(cells, torch.tensor([[[1.0, 0.0]]])), torch.tensor([[1.0, 2.0]]), atol=1e-4)
    assert torch.allclose(region_mean(cells, torch.tensor([[[0.3, 0.1]]])), torch.tensor([[2.0, 3.0]]), atol=1e-4)


def test_the_background_must_not_have_the_class_of_the_image() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    targets = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0]])
    p = math.exp(2) / (math.exp(2) + 2)
    expected = (-math.log(1 - p) - math.log(1 - 1 / 3)) / 2
    assert background_loss(logits, targets, "single").item() == pytest.approx(expected, rel=1e-5)
    labels = torch.tensor([[1.0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
    q = 1 / (1 + math.exp(-2))
    expected = (-math.log(1 - q) - math.log(1 - 0.5)) / 2
    assert background_loss(logits, labels, "multi").item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_a_sure_background_and_images_without_labels_give_finite_gradients(objective: Any) -> None:
    logits = torch.tensor([[80.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    loss = background_loss(logits, targets, objective)
    loss.backward()
    assert loss.item() == pytest.approx(80 - (math.log(2) if objective == "single" else 0), rel=1e-3)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[1] == 0).all()


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit2", "mobilenet_v2"])
def test_training_from_kept_features_equals_training_from_images(backbone: str) -> None:
    model = built(backbone, dropout=0.0)
    model.freeze_backbone()
    loss, targets = ClassificationLoss("single"), torch.eye(CLASSES)[:2]
    images = picture()
    with torch.no_grad():
        kept = model.condense([model.last_output(images)])
    assert kept[0].dtype == torch.float16
    expected = model.training_step(images, targets, loss)
    found = model.training_step_from(kept, (96, 128), targets, loss)
    assert found.keys() == expected.keys() == {"classification", "foreground", "background"}
    for name in found:
        assert found[name].item() == pytest.approx(expected[name].item(), rel=5e-3)


def test_without_its_weight_there_is_no_background_loss() -> None:
    losses = built(background_weight=0).training_step(picture(), torch.eye(CLASSES)[:2], ClassificationLoss("single"))
    assert set(losses) == {"classification", "foreground"}
