"""The backbone of a detector of torchvision as the start of ours."""

import urllib.error
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from mining.backbones.build import build
from mining.backbones.registry import BACKBONES, COCO_BACKBONES
from mining.config import DetectorOptions
from mining.errors import ModelError
from mining.preflight import check_detector

WEIGHTS = torchvision.models.detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> torchvision.models.detection.FasterRCNN:
    """The detector as torchvision would download it, of random weights."""
    torch.manual_seed(0)
    detector = torchvision.models.detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    asked: list[Any] = []

    def get_state_dict(weights: Any, **_: Any) -> dict[str, Tensor]:
        asked.append(weights)
        return detector.state_dict()

    monkeypatch.setattr(WEIGHTS.__class__, "get_state_dict", get_state_dict)
    detector.asked = asked
    return detector


@pytest.mark.parametrize("name", COCO_BACKBONES)
def test_every_layer_of_the_backbone_comes_from_the_detector(
    name: str, published: torchvision.models.detection.FasterRCNN
) -> None:
    torch.manual_seed(1)
    backbone, classifier = build(name, weights="coco")
    assert classifier is None
    assert published.asked == [WEIGHTS]
    body = published.backbone.body.eval()
    own = list(backbone.state_dict().values())
    theirs = list(body.state_dict().values())
    assert len(own) == len(theirs) > 300
    assert all(torch.equal(one, other) for one, other in zip(own, theirs, strict=True))
    # the last stage is dilated here; up to there, the same image has the same features
    image = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.manual_seed(2))
    with torch.inference_mode():
        ours = backbone.eval()(image)
        normalised = torchvision.transforms.functional.normalize(
            image / 255, published.transform.image_mean, published.transform.image_std
        )
        expected = body(normalised)
    for stage, level in ((1, "0"), (2, "1"), (3, "2")):
        torch.testing.assert_close(ours[stage], expected[level], rtol=1e-3, atol=1e-4)


def test_a_missing_download_is_one_sentence_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(WEIGHTS.__class__, "get_state_dict", unreachable)
    with pytest.raises(ModelError, match=r"COCO weights of resnet50 could not be downloaded .*no such host") as error:
        build("resnet50", weights="coco")
    assert WEIGHTS.url in str(error.value)
    assert "or give `weights` imagenet" in str(error.value)


@pytest.mark.parametrize("name", sorted({*BACKBONES, "resnet18"} - {*COCO_BACKBONES}))
def test_other_backbones_have_none(name: str) -> None:
    sentence = f"no COCO weights of the backbone {name}; give `weights` imagenet, or `backbone` resnet50"
    with pytest.raises(ModelError, match=sentence):
        check_detector(DetectorOptions(backbone=name, weights="coco"))
    if name == "mobilenet_v2":
        with pytest.raises(ModelError, match=sentence):
            build(name, weights="coco")
    check_detector(DetectorOptions(backbone="resnet50", weights="coco"))
