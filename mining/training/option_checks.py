"""Checks of training options that need no network library."""

from mining.config import TrainOptions
from mining.errors import ModelError


def refuse_blind_backbone(options: TrainOptions) -> None:
    """Raises ModelError where random features are to be kept as they are."""
    if options.freeze and options.weights == "none":
        raise ModelError(
            "A frozen backbone without pretrained weights learns nothing; give --no-freeze, or leave --weights alone."
        )


def refuse_small_crops(options: TrainOptions, size: int) -> None:
    """Raises ModelError where crops of `size` px do not fit into what they are cut from."""
    if options.crop_from is not None and options.crop_from < size:
        raise ModelError(
            f"--crop-from {options.crop_from} is less than the {size} px that the network is shown: give {size} or "
            "more, or a smaller --input-size."
        )
