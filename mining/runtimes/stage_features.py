"""Compute the features of some stages of a backbone, in a runtime and without a localizer."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone
from mining.config import Precision, Runtime
from mining.localizers.stage_recorder import StageRecorder
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.runtimes.choice import Compute, choose_compute
from mining.runtimes.cuda_graphs import GraphedPart
from mining.runtimes.openvino_part import ConversionError, compile_part
from mining.runtimes.prepare import refuse_or_warn

RunStages = Callable[[Tensor], list[Tensor]]


class BackboneAlone(nn.Module):
    """A backbone with the one part that a localizer has of it, so that a runtime can convert it.

    Args:
        backbone: The backbone; not copied.

    Attributes:
        int8_networks: None, because a training is not quantized.
    """

    int8_networks: ClassVar[None] = None

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def backbone_features(self, images: Tensor) -> Tensor:
        """Compute the last features from (B, 3, H, W) RGB values 0-255."""
        return self.backbone(images)[-1]


def prepare_stages(
    backbone: Backbone,
    stages: Sequence[int],
    compute: Compute,
    *,
    threads: int,
    asked: tuple[Runtime, Precision] = ("auto", "auto"),
) -> tuple[RunStages, Compute]:
    """Prepare the computation of the features of some stages.

    Args:
        backbone: The backbone; not changed.
        stages: Indices of the stages.
        compute: The device, the runtime and the precision.
        threads: Number of threads that will compute at once.
        asked: The settings; with `auto`, torch computes what the runtime cannot convert.

    Returns:
        A function from (B, 3, H, W) uint8 images on the device to the (B, D, h, w) output of each stage, which any
        number of threads may call; and how it computes.

    Raises:
        ModelError: The runtime was asked for by name and cannot convert the backbone.
    """
    alone = prepare_for_inference(BackboneAlone(copy.deepcopy(backbone)), compute.device)
    recorder = StageRecorder(alone.backbone, stages, whole=True)
    if compute.runtime == "openvino":
        try:
            part = compile_part(
                alone, "backbone_features", recorder=recorder, precision=compute.precision, threads=threads,
                timer=nullcontext,
            )  # fmt: skip
        except ConversionError as error:
            refuse_or_warn(error, asked)
            compute = choose_compute(compute.device, "torch", asked[1])
        else:
            return part.stage_features, compute
    if compute.device.type == "cuda":
        # not inference mode, whose tensors cannot be trained on
        graphed = GraphedPart(alone.backbone_features, compute, recorder, nullcontext)
        return torch.no_grad()(graphed.stage_features), compute

    @torch.no_grad()
    def run(images: Tensor) -> list[Tensor]:
        with compute.autocast():
            return list(recorder.run_stages(images))

    return run, compute
