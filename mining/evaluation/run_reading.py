"""Read the boxes and curves of a run, and match its images with those of a ground truth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Floats, Ints
from mining.config import DETECTOR_KINDS
from mining.errors import RunError
from mining.evaluation.metrics.localization import NOT_ASKED
from mining.ground_truth.matching import MatchedImages, match_listed
from mining.ground_truth.reading import GroundTruth
from mining.storage.integrity import check_file
from mining.storage.parquet import open_parquet
from mining.storage.untrusted_files import read_json

CURVES = "curves.parquet"
RANKINGS = "rankings.parquet"
_BOX_COLUMNS = ["file_name", "category", "x", "y", "w", "h", "score"]
_CORPUS_COLUMNS = ["image_id", "file_name", "width", "height"]


@dataclass(frozen=True)
class RunBoxes:
    """The n boxes of a run, and the N images of its corpus.

    Attributes:
        image_ids: (N,) int64.
        file_names: Names of the N images.
        sizes: (N, 2) float64 width and height in pixels; NaN where not known.
        classes: Class names of the model by their ids; None when the run has no model.json.
        box_files: File names that have a box.
        box_file: (n,) int, position of each box's file name among `box_files`.
        box_classes: Class names that have a box.
        box_class: (n,) int, position of each box's class name among `box_classes`.
        xywh: (n, 4) float64 pixels.
        scores: (n,) float64.
    """

    image_ids: Ints
    file_names: tuple[str, ...]
    sizes: Floats
    classes: dict[int, str] | None
    box_files: tuple[str, ...]
    box_file: Ints
    box_classes: tuple[str, ...]
    box_class: Ints
    xywh: Floats
    scores: Floats


@dataclass(frozen=True)
class CurveBlock:
    """Threshold curves of p (image, class) pairs of a run.

    Attributes:
        image: (p,) int, position in the ground truth's list of images.
        category: (p,) int, position in the ground truth's list of classes.
        xyxy: (p, T, 4) float32 pixels of the image, half-open; zeros where there is no box.
        boxes: (p, T) int, number of boxes that pass the filters.
        otsu: (p,) float, threshold by Otsu's method.
        entropy: (p,) float, threshold by Kapur's entropy.
    """

    image: Ints
    category: Ints
    xyxy: NDArray[np.float32]
    boxes: NDArray[np.uint8]
    otsu: Floats
    entropy: Floats


def read_run_boxes(run_dir: Path) -> RunBoxes:
    """Read corpus.parquet, annotations.parquet and model/model.json of a run directory.

    Raises:
        RunError: A table is missing, cannot be read or lacks a column.
    """
    corpus = _table(run_dir, "corpus.parquet", _CORPUS_COLUMNS)
    boxes = _table(run_dir, "annotations.parquet", _BOX_COLUMNS)
    files, file = _encoded(boxes["file_name"])
    classes, category = _encoded(boxes["category"])
    return RunBoxes(
        image_ids=corpus["image_id"].to_numpy(),
        file_names=tuple(corpus["file_name"].to_pylist()),
        sizes=np.stack([_floats(corpus["width"]), _floats(corpus["height"])], axis=1),
        classes=_model_classes(run_dir / "model" / "model.json"),
        box_files=files,
        box_file=file,
        box_classes=classes,
        box_class=category,
        xywh=np.stack([_floats(boxes[side]) for side in "xywh"], axis=1),
        scores=_floats(boxes["score"]),
    )


def read_mined_threshold(run_dir: Path) -> float | None:
    """Return the threshold of the run's boxes, as run.json records it; None where they have no common one."""
    try:
        used = read_json(run_dir / "run.json")["used"]
        return None if used.get("class_thresholds") else float(used["threshold"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_warnings(run_dir: Path) -> list[str]:
    """Return the warnings that run.json records; none where it has none."""
    try:
        return [str(sentence) for sentence in read_json(run_dir / "run.json")["warnings"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def read_ranked_classes(
    run_dir: Path, image_of: Mapping[int, int], category_of: Mapping[int, int], images: int
) -> Ints | None:
    """Read the classes that the run's classifier ranks first for each image.

    Args:
        run_dir: Run directory.
        image_of: Position in the ground truth's list of images, by image id.
        category_of: Position in its list of classes, by category id.
        images: Number of images of the ground truth.

    Returns:
        (images, K) int, best class first; -1 for none and for classes unknown to the ground truth, and NOT_ASKED in the
        first place of images whose labels were given to a detector, which looked for nothing else. None where the run
        ranked no class of any image.

    Raises:
        RunError: The rankings cannot be read.
    """
    path = run_dir / RANKINGS
    if not path.is_file():
        return None
    with open_parquet(path) as file:
        table = file.read(columns=["image_id", "category_ids"])
    rows = [image_of.get(image_id, -1) for image_id in table["image_id"].to_pylist()]
    ranked_ids = table["category_ids"].to_pylist()
    if not any(ranked_ids):
        return None
    ranked = np.full((images, max(map(len, ranked_ids), default=1)), -1, np.int64)
    for row, ids in zip(rows, ranked_ids, strict=True):
        if row >= 0:
            ranked[row, : len(ids)] = [category_of.get(category_id, -1) for category_id in ids]
    for image_id in _labels_given_to_detector(run_dir):
        if image_id in image_of:
            ranked[image_of[image_id], 0] = NOT_ASKED
    return ranked


def _labels_given_to_detector(run_dir: Path) -> list[int]:
    """Return the ids of the images that a detector looked for given labels in; none where the model is a localizer."""
    try:
        kind = read_json(run_dir / "model" / "model.json")["localizer"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if kind not in DETECTOR_KINDS:
        return []
    corpus = _table(run_dir, "corpus.parquet", ["image_id", "labels"])
    return corpus["image_id"].filter(corpus["labels"].is_valid()).to_pylist()


def read_curve_thresholds(run_dir: Path) -> Floats | None:
    """Read the thresholds of the run's curves.

    Returns:
        (T,) ascending; None where the run has no curves.

    Raises:
        RunError: The curves are damaged.
    """
    path = run_dir / CURVES
    if not path.is_file():
        return None
    try:
        with open_parquet(path) as file:
            return np.array(file.schema_arrow.metadata[b"thresholds"].decode().split(","), np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise _no_curves(path, error) from error


def iter_curve_blocks(
    run_dir: Path, image_of: Mapping[int, int], category_of: Mapping[int, int]
) -> Iterator[CurveBlock]:
    """Yield the run's curves in blocks, without those of images and classes that the ground truth lacks.

    Args:
        run_dir: Run directory.
        image_of: Position in the ground truth's list of images, by image id.
        category_of: Position in its list of classes, by category id.

    Yields:
        Curves of some pairs.

    Raises:
        RunError: curves.parquet cannot be read.
    """
    path = run_dir / CURVES
    try:
        with open_parquet(path) as file:
            for group in range(file.num_row_groups):
                yield _curve_block(file.read_row_group(group), image_of, category_of)
    except (KeyError, ValueError) as error:
        raise _no_curves(path, error) from error


def _no_curves(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} cannot be read as curves ({error}). Delete it to score the run without them.")


def _curve_block(table: Any, image_of: Mapping[int, int], category_of: Mapping[int, int]) -> CurveBlock:
    image, category = (
        np.array([places.get(identity, -1) for identity in table[name].to_pylist()], np.int64)
        for name, places in (("image_id", image_of), ("category_id", category_of))
    )
    is_known = (image >= 0) & (category >= 0)
    xyxy = _lists(table["xyxy"]).reshape(len(table), -1, 4)[is_known]
    stretch = [_floats(table[side]) / _floats(table[f"map_{side}"]) for side in ("width", "height")]
    return CurveBlock(
        image[is_known],
        category[is_known],
        (xyxy * np.stack([*stretch, *stretch], axis=1)[is_known, None]).astype(np.float32),
        _lists(table["boxes"])[is_known],
        _floats(table["otsu"])[is_known],
        _floats(table["entropy"])[is_known],
    )


def _lists(column: Any) -> Any:
    """(n, length) array of a column of n lists of equal length."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def match_images(truth: GroundTruth, known: Sequence[str], run_dir: Path) -> MatchedImages:
    """Match the images of a ground truth with the file names of a run.

    Args:
        truth: Ground truth; images whose objects are not known are left out.
        known: File names of the run's corpus.
        run_dir: Run directory.

    Returns:
        The position of each image among `known`.
    """
    matched = match_listed(truth.file_names, truth.own_names, known, truth.file, image_root(run_dir))
    return MatchedImages(np.where(truth.is_known, matched.position, -1), matched.notes)


def image_root(run_dir: Path) -> PurePath | None:
    """Return the folder of a run's images, as run.json records it; None where it is not known."""
    try:
        return PurePath(read_json(run_dir / "run.json")["config"]["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _table(run_dir: Path, name: str, columns: list[str]) -> Any:
    path = run_dir / name
    if not path.is_file():
        raise RunError(f"{run_dir} has no {name}, so there is nothing to score. Pass the directory of a finished run.")
    with open_parquet(path) as file:
        missing = [c for c in columns if c not in file.schema_arrow.names]
        if not missing:
            return file.read(columns=columns)
    raise RunError(f"{path} has no column {', '.join(missing)}. Mine the run again with this version of boxmine.")


def _encoded(column: Any) -> tuple[tuple[str, ...], Ints]:
    """The distinct names, and for each row the position of its name."""
    encoded = column.combine_chunks().dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _floats(column: Any) -> Floats:
    return np.asarray(column.cast("float64").to_numpy(), np.float64)


def _model_classes(path: Path) -> dict[int, str] | None:
    if not path.is_file():
        return None
    check_file(path)
    try:
        listed = read_json(path)["classes"]
        return {int(row["id"]): str(row["name"]) for row in listed}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} lists no classes with their names ({error!r}). Copy the model into the run again."
        ) from error
