"""A model in memory: boxes and heatmaps of single images."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from boxmine._keywords import AnyPath, ExtractionKeywords
from boxmine._settings import refuse_other_processes
from mining.config import MineSettings, parse
from mining.errors import ImageError, ModelError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from mining.localizers.base import Localizer as LocalizerNetwork
    from mining.models.card import ModelCard

AnyImage = AnyPath | Image.Image | NDArray[np.uint8]


class Localizer:
    """A model in memory. Made by `boxmine.load_model`.

    One image at a time; many images are mined faster by `boxmine.mine`, which shares them out into batches.
    """

    def __init__(self, network: "LocalizerNetwork", card: "ModelCard", settings: "MineSettings") -> None:
        from mining.engine.single_image import SingleImageMiner

        self._card = card
        self._miner = SingleImageMiner(network, card, settings)

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the logits."""
        return self._card.class_names

    @property
    def name(self) -> str:
        """The method that draws the activation maps, e.g. cam."""
        return self._card.localizer

    def predict(self, image: AnyImage, labels: Sequence[str] | None = None) -> "pd.DataFrame":
        """Find the boxes of one image: those that a run with the same settings gives.

        Args:
            image: Path, PIL image, or (H, W, 3) uint8 RGB or (H, W) uint8 grey array. A path is decoded as a run
                decodes it; PIL images are turned upright by their EXIF orientation.
            labels: Classes known to be in the image; by default the classes that the model predicts.

        Returns:
            One row per box, best score first, with the columns of `Run.boxes` but the image's own; x, y, w, h in
            pixels of the image.

        Raises:
            ImageError: The image cannot be read or used.
            ModelError: The model does not know one of the labels.
        """
        import pandas as pd
        import pyarrow as pa

        from mining.runs.schema import ANNOTATION_SCHEMA

        outcome = self._miner.mine_image(_as_source(image), self._checked(labels))
        columns = [name for name in ANNOTATION_SCHEMA.names if name not in ("annotation_id", "image_id", "file_name")]
        boxes = pd.DataFrame([{name: box[name] for name in columns} for box in outcome.boxes], columns=columns)
        numbers = [name for name in columns if pa.types.is_floating(ANNOTATION_SCHEMA.field(name).type)]
        return boxes.astype(dict.fromkeys(numbers, "float64"))  # missing values are NaN, as in a run's table

    def heatmap(self, image: AnyImage, category: str, labels: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Draw the activation map of one class.

        Args:
            image: See `predict`.
            category: Class name; whether the image shows it is not asked.
            labels: All class names of the image, as `predict` takes them: a cell classifier compares the class with
                them. None if the image shows no other class.

        Returns:
            (H, W) float32 in pixels of the upright image: the normalised map, 0 to 1, that a threshold is compared
            with; 0 everywhere where the map is constant.

        Raises:
            ImageError: The image cannot be read or used.
            ModelError: The model does not know the class.
        """
        self._checked([category])
        return self._miner.heatmap(_as_source(image), category, self._checked(labels))

    def _checked(self, labels: Sequence[str] | None) -> list[str] | None:
        if labels is None:
            return None
        names = [labels] if isinstance(labels, str) else list(labels)
        unknown = next((name for name in names if name not in self.classes), None)
        if unknown is not None:
            raise ModelError(f"The model does not know the class {unknown!r}: {did_you_mean(unknown, self.classes)}")
        return names

    def __repr__(self) -> str:
        return f"Localizer({self.name} on {self._card.backbone}, {len(self.classes)} classes)"

    def _repr_html_(self) -> str:
        from boxmine._html import html_table

        shown = ", ".join(self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
        rows = [("localizer", self.name), ("backbone", self._card.backbone), ("classes", shown)]
        return html_table("Localizer", rows)


def _as_source(image: Any) -> "Path | Tensor":
    """A path, or (3, H, W) uint8 RGB."""
    if isinstance(image, Image.Image):
        from mining.engine.single_image import pixels_of_pil

        return pixels_of_pil(image)
    if isinstance(image, np.ndarray):
        import torch

        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ImageError(
                f"The image is a {image.dtype} array of shape {image.shape}; expected (H, W, 3) uint8 RGB or (H, W) "
                "uint8 grey."
            )
        if not image.size:
            raise ImageError(f"The image is an empty array of shape {image.shape}.")
        rgb = np.broadcast_to(image[..., None], (*image.shape, 3)) if image.ndim == 2 else image
        return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    try:
        return Path(image)
    except TypeError:
        raise ImageError(
            f"The image is of type {type(image).__name__}; expected a path, a PIL image or a NumPy array."
        ) from None


def load_model(model: AnyPath, **options: Unpack[ExtractionKeywords]) -> Localizer:
    """Load a model into memory, for boxes and heatmaps of single images without a run.

    Args:
        model: Model folder, what `train` returned, or pretrained:BACKBONE for ImageNet's classes.
        **options: The options of `boxmine mine` that concern boxes: scales, threshold, localizer, min_score, ...

    Raises:
        InputError: An option is unknown or out of range.
        ModelError: The model cannot be used.
    """
    from mining.models.pretrained import load_reference
    from mining.preflight import check_mining, check_model
    from mining.runs.inputs import resolve_thresholds

    here = Path.cwd()
    values: dict[str, Any] = {"images": here, "out": here, "curves": False, "model": os.fspath(model), **options}
    refuse_other_processes(values)
    settings = resolve_thresholds(parse(MineSettings, values))
    check_mining(settings, check_model(settings.model), settings.model)
    return Localizer(*load_reference(settings.model, settings), settings)
