"""Checks of training options; they import no network library."""

from mining.config import TrainOptions
from mining.errors import ModelError


def refuse_blind_backbone(options: TrainOptions) -> None:
    """Refuse to freeze a backbone of random weights.

    Raises:
        ModelError: `freeze` with weights none.
    """
    if options.freeze and options.weights == "none":
        raise ModelError(
            "A frozen backbone without pretrained weights learns nothing; give --no-freeze, or leave --weights alone."
        )


def refuse_small_crops(options: TrainOptions, size: int) -> None:
    """Check that crops of `size` px fit into the square they are cut from.

    Raises:
        ModelError: `crop_from` is smaller.
    """
    if options.crop_from is not None and options.crop_from < size:
        raise ModelError(
            f"--crop-from {options.crop_from} is less than the {size} px of the network's input: give {size} or "
            "more, or a smaller --input-size."
        )
