"""Pictures of a training every few epochs: maps of the same images, and what the localizer computes on the way to them.

The picture of an epoch is written before its checkpoint. A training that is resumed repeats the epochs behind its last
checkpoint and writes their pictures again under the same names, so that each epoch has one picture and none is missing.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor

from mining.arrays import FloatMap
from mining.config import TrainSettings
from mining.localizers.base import Explanation, Localizer, pad_classes
from mining.localizers.map_colours import blend, heat_colours, mask_colours, multiply
from mining.models.card import PICTURES
from mining.regions.extraction import normalise_map
from mining.storage.files import atomic_write
from mining.training.data import image_dataset
from mining.training.labelled_images import LabelledImages
from mining.training.module import LocalizerModule

IMAGES = 8
_INCHES, _DPI = 1.6, 100  # of one picture


class PictureWriter(Callback):
    """Writes the pictures of a training.

    Args:
        settings: `pictures`, the folder and the seed.
        images: The training images; the first ones of each class are drawn.
        input_size: Side of the network's input in px.
    """

    def __init__(self, settings: TrainSettings, images: LabelledImages, input_size: int) -> None:
        self._every = settings.pictures
        self._folder = settings.out / PICTURES
        self._rows = rows_to_draw(images)
        self._images = images
        self._dataset = image_dataset(settings, images, input_size, augment=False)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the picture of the epoch, if it is due."""
        epoch = trainer.current_epoch + 1
        is_due = epoch % self._every == 0 or epoch == trainer.max_epochs
        if not (is_due and trainer.is_global_zero and isinstance(module, LocalizerModule)):
            return
        items = [item for row in self._rows if "pixels" in (item := self._dataset[row])]
        if not items:
            return
        pixels = torch.stack([item["pixels"] for item in items])
        labels = pad_classes([torch.as_tensor(item["target"]).nonzero()[:, 0].tolist() for item in items])
        was_training = module.localizer.training
        module.localizer.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            shown = explained(module.localizer, pixels.to(module.device), labels.to(module.device))
        module.localizer.train(was_training)
        names = [self._images.files[item["index"]] for item in items]
        classes = [", ".join(self._images.classes[i] for i in own if i >= 0) for own in labels.tolist()]
        legend = (
            "; masks: orange is object, blue is background" if "mask" in {one.kind for one in shown.values()} else ""
        )
        title = f"epoch {epoch}{legend}"
        with atomic_write(self._folder / f"epoch-{epoch:05d}.jpg") as temporary:
            draw_sheet(temporary, title, list(zip(names, classes, strict=True)), pixels, shown, module.localizer)


def rows_to_draw(images: LabelledImages) -> list[int]:
    """Choose IMAGES rows: the first image of each class, then the second ones."""
    by_class = [np.flatnonzero(column).tolist() for column in images.targets.T]
    longest = max(map(len, by_class), default=0)
    in_turn = (rows[place] for place in range(longest) for rows in by_class if place < len(rows))
    chosen: dict[int, None] = {}
    for row in in_turn:
        chosen[row] = None
        if len(chosen) == IMAGES:
            break
    return list(chosen)


def explained(localizer: Localizer, images: Tensor, labels: Tensor) -> dict[str, Explanation]:
    """Compute the map of each image's first label, and what the localizer has to show besides.

    Args:
        localizer: In evaluation mode.
        images: (B, 3, H, W) uint8.
        labels: (B, K) int64, NO_CLASS as padding.
    """
    own = localizer.localize(images, labels[:, :1]).maps
    return {"map": Explanation(own), **localizer.explain(images, labels)}


def draw_sheet(
    path: Path,
    title: str,
    captions: list[tuple[str, str]],
    images: Tensor,
    shown: dict[str, Explanation],
    localizer: Localizer,
) -> None:
    """Draw one row per image: the image, then its pictures.

    Args:
        path: The JPEG to write.
        title: Text above.
        captions: File name and classes of each image.
        images: (B, 3, H, W) uint8.
        shown: See `explained`.
        localizer: How its maps are normalised.
    """
    from matplotlib.figure import Figure

    count, columns = len(images), 1 + len(shown)
    figure = Figure(figsize=(_INCHES * columns, 0.4 + (_INCHES + 0.15) * count), layout="constrained")
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(count, columns, squeeze=False)
    for row, axes in enumerate(grid):
        pixels = images[row].permute(1, 2, 0).numpy()
        name, classes = captions[row]
        axes[0].set_ylabel(f"{name[-24:]}\n{classes[:28]}", fontsize=6)
        pictures = [("image", pixels), *_pictures(row, pixels, shown, localizer)]
        for one, (heading, picture) in zip(axes, pictures, strict=True):
            one.imshow(picture)
            one.set_xticks([])
            one.set_yticks([])
            if row == 0:
                one.set_title(heading, fontsize=7)
    with path.open("wb") as file:
        figure.savefig(file, format="jpg", dpi=_DPI, pil_kwargs={"quality": 85})


def _pictures(
    row: int, pixels: NDArray[np.uint8], shown: dict[str, Explanation], localizer: Localizer
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for name, one in shown.items():
        level = one.maps[row, 0].float().cpu().numpy()
        yield name, _picture(level, one.kind, pixels, localizer)


def _picture(level: FloatMap, kind: str, pixels: NDArray[np.uint8], localizer: Localizer) -> NDArray[np.uint8]:
    """Draw a map over (H, W, 3) pixels; black if it holds NaN, because a training that diverges says so later."""
    if not np.isfinite(level).all():
        return np.zeros_like(pixels)
    if kind in ("activation", "relative"):
        normalised = normalise_map(level, "minmax" if kind == "relative" else localizer.normalise)
        level = np.zeros_like(level) if normalised is None else normalised
    how = cv2.INTER_NEAREST if kind == "mask" else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(level, (pixels.shape[1], pixels.shape[0]), interpolation=how), np.float32)
    if kind == "product":
        return multiply(pixels, resized)
    return blend(pixels, mask_colours(resized) if kind == "mask" else heat_colours(resized))
