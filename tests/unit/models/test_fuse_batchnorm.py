"""Folding batch norms does not change the results."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.backbones.registry import BACKBONES
from mining.localizers.cam import CAM
from mining.models.fuse_batchnorm import prepare_for_inference

CPU = torch.device("cpu")


def settled(model: CAM) -> CAM:
    """Batch norms as after training: statistics and scales away from 0 and 1."""
    torch.manual_seed(1)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.2)
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.uniform_(part.bias, -0.1, 0.1)
    return model.eval()


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def seen(model: CAM) -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = model.localize(images, torch.tensor([[0, 2], [1, 3]]))
    return found.logits, found.maps


@pytest.mark.parametrize("name", BACKBONES)
def test_folding_does_not_change_the_maps_of_any_backbone(name: str) -> None:
    model = settled(CAM(build(name)[0], 4))
    before = seen(model)
    quick = prepare_for_inference(copy.deepcopy(model), CPU)
    for old, new in zip(before, seen(quick), strict=True):
        assert torch.allclose(old, new, atol=1e-4 * float(old.abs().max()))
    # DenseNet's norms stand in front of convolutions, except one a layer
    assert batch_norms(quick) == 0 or (name == "densenet161" and batch_norms(quick) < batch_norms(model))


class Crossed(nn.Module):
    """Two convolutions and their norms, defined in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3)
        self.norm_of_the_second = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3)
        self.norm_of_the_first = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        images = self.norm_of_the_first(self.first(images)).relu()
        return self.norm_of_the_second(self.second(images))


def test_a_network_that_runs_in_another_order_is_not_folded() -> None:
    model = settled(CAM(Backbone("crossed", StageSpec([Crossed()], (3,), (1,), None)), 4))
    before = seen(model)
    quick = prepare_for_inference(copy.deepcopy(model), CPU)
    assert batch_norms(quick) == 2
    for old, new in zip(before, seen(quick), strict=True):
        assert torch.allclose(old, new, atol=1e-4)
