"""Quantize the parts of a localizer to int8, with images of the corpus that it will mine."""

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.stage_recorder import StageRecorder
from mining.runtimes.int8_file import Network, write_networks
from mining.runtimes.openvino_core import import_nncf
from mining.runtimes.openvino_part import ConversionError, quantize_part, stage_outputs
from mining.runtimes.prepare import make_parts

_CHECKED = 3  # of the images


def quantize_localizer(
    localizer: Localizer, recorder: StageRecorder | None, images: Sequence[Tensor], file: Path
) -> None:
    """Quantize all parts that OpenVINO computes of a localizer, and write them to a file.

    Post-training quantization: weights per channel, activations per layer, by the ranges that they have for the images.

    Args:
        localizer: The localizer, prepared for inference and computed by torch.
        recorder: Records stages of its backbone; None if none are recorded.
        images: (1, 3, H, W) uint8 each, as the network will get them.
        file: The file to write, see `Localizer.int8_networks`.

    Raises:
        ModelError: A part cannot be converted, or computes something else in int8.
    """

    def quantized(name: str) -> Network:
        return quantize_part(
            localizer,
            name,
            recorder=recorder,
            images=images[:: max(1, len(images) // _CHECKED)],
            quantize=lambda model: _quantize(model, images),
        )

    try:
        networks = make_parts(localizer, recorder, quantized, lambda network: set(stage_outputs(network[1])))
    except ConversionError as error:
        raise ModelError(f"This model cannot be mined in int8: {error}. Use another --precision.") from None
    write_networks(file, networks)


def _quantize(model: Any, images: Sequence[Tensor]) -> Any:
    nncf = import_nncf()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of compilers that are not needed
    dataset = nncf.Dataset(images, lambda image: [image.numpy()])
    # half of the weights' range: without VNNI instructions, sums of products with the whole range would overflow, which
    # doubles the error; with them, the half costs a tenth
    parameters = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    with contextlib.redirect_stdout(io.StringIO()):  # where it draws progress bars
        return nncf.quantize(model, dataset, subset_size=len(images), advanced_parameters=parameters)
