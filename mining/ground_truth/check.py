"""Check true boxes that are to be learned from.

A score leaves out what cannot be used, and states it. Here nothing may be left out: each image counts as completely
annotated, so that an object without its box would be learned as background.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mining.arrays import Bools, Floats
from mining.corpus.images.image_file import open_image_file
from mining.corpus.images.image_formats import open_image
from mining.corpus.images.orientation import upright_size
from mining.errors import ImageError, ScoringError, did_you_mean
from mining.ground_truth.box_formats import WrittenBoxes, check_box_format
from mining.ground_truth.matching import match_classes, match_listed
from mining.ground_truth.reading import GroundTruth, is_outside, read_ground_truth


def read_checked_boxes(path: Path, root: Path, file_names: Sequence[str], classes: Sequence[str]) -> GroundTruth:
    """Read true boxes of images of a corpus, and check that all of them can be learned from.

    Args:
        path: COCO JSON, VOC XML or CUB folder, or a run directory with truth.json, see `read_ground_truth`.
        root: Folder of the images.
        file_names: Images of the corpus.
        classes: Names of the classes to learn; empty if they are not known yet.

    Returns:
        The true boxes, with the corpus' names of the images, and the sizes of the image files.

    Raises:
        ScoringError: The file cannot be read, has no box, an annotation that cannot be used, a box outside its image,
            or an image or class that the corpus does not have.
    """
    truth = read_ground_truth(path)
    if not truth.boxes.is_countable.any():
        raise ScoringError(f"{path} has no box to learn from; give true boxes of some images, or omit `boxes`.")
    if truth.unusable:
        raise ScoringError(f"{path}: {truth.unusable}. Correct these annotations: all boxes of an image are needed.")
    if classes:
        _refuse_unknown_classes(truth, path, classes)
    names = _matched_names(truth, path, root, file_names)
    sizes = _sizes(truth, root, names)
    _refuse_outside(truth, path, sizes)
    return replace(truth, file_names=tuple(names), sizes=sizes)


def _refuse_unknown_classes(truth: GroundTruth, path: Path, classes: Sequence[str]) -> None:
    """Raise ScoringError for boxes of a class that is not to be learned: these objects would become background."""
    has_box = np.isin(np.arange(len(truth.classes)), truth.boxes.category)
    unknown = np.flatnonzero(has_box & (match_classes(truth.classes, classes) < 0))
    if not len(unknown):
        return
    name = truth.classes[unknown[0]]
    boxes = int((truth.boxes.category == unknown[0]).sum())
    lead = "No class of the boxes" if len(unknown) == has_box.sum() else f"The class {name!r} ({boxes} boxes)"
    example = f" It has {name!r}:" if len(unknown) == has_box.sum() else ""
    raise ScoringError(
        f"{lead} of {path} is a class of the corpus.{example or ' Rename it or leave its boxes out:'} "
        f"{did_you_mean(name, classes)}"
    )


def _matched_names(truth: GroundTruth, path: Path, root: Path, file_names: Sequence[str]) -> list[str]:
    """The file names in the corpus of the images that have boxes or are known to have none."""
    position = match_listed(truth.file_names, truth.own_names, file_names, truth.file, root).position
    missing = np.flatnonzero(position < 0)
    if len(missing):
        more = "" if len(missing) == 1 else f" and {len(missing) - 1} other images"
        raise ScoringError(
            f"{path} lists {truth.file_names[missing[0]]!r}{more}, which the corpus of {root} does not have. "
            "File names must agree, or one path must end in the other; list images of this corpus alone."
        )
    return [file_names[place] for place in position]


def _sizes(truth: GroundTruth, root: Path, names: Sequence[str]) -> Floats:
    """(N, 2) width and height of the image files; of one that cannot be read as the file of boxes states it."""
    sizes = truth.sizes.copy()
    for place, name in enumerate(names):
        try:
            with open_image_file(root / name) as file, open_image(file) as image:
                sizes[place] = upright_size(image)
        except (ImageError, OSError, ValueError, SyntaxError):  # mining quarantines it, and says why
            continue
    return sizes


def _refuse_outside(truth: GroundTruth, path: Path, sizes: Floats) -> None:
    xywh, of_boxes = truth.boxes.xywh, sizes[truth.boxes.image]
    check_box_format(truth.file, WrittenBoxes(xywh, of_boxes))
    outside: Bools = is_outside(xywh, of_boxes)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        width, height = of_boxes[first].astype(int)
        raise ScoringError(
            f"{path}: {int(outside.sum())} of {len(xywh)} boxes lie outside their image, first {xywh[first].tolist()} "
            f"(x, y, width, height) in {truth.file_names[truth.boxes.image[first]]!r} of {width} x {height} px. "
            "Correct them."
        )
