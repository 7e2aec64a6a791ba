"""The boxes of a run directory, and how its names meet those of a truth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Floats, Ints
from mining.errors import RunError
from mining.evaluation.ground_truth.reading import Truth
from mining.storage.integrity import check_file
from mining.storage.parquet import open_parquet
from mining.storage.untrusted_files import read_json

CURVES = "curves.parquet"
RANKINGS = "rankings.parquet"
_BOX_COLUMNS = ["file_name", "category", "x", "y", "w", "h", "score"]
_CORPUS_COLUMNS = ["image_id", "file_name", "width", "height"]


@dataclass(frozen=True)
class RunBoxes:
    """What a run predicted, n boxes, and the N images it was asked for.

    image_ids: (N,) int64, of the N images. file_names: of the same.
    sizes: (N, 2) float64 width and height in pixels; NaN where not known.
    classes: names the model knows, by their ids; None when the run has no model.json.
    box_files, box_file: the file names in use, and for each box its position among them, (n,).
    box_classes, box_class: the same for class names.
    xywh: (n, 4) float64 pixels; scores: (n,) float64.
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
    """Curves of p pairs of image and class, some of a run's.

    image, category: (p,) int, positions in the truth's lists; -1 where the truth has no such image or class.
    xyxy: (p, T, 4) float32 px of the image, half-open; zeros where there is no box. boxes: (p, T) int, how many pass.
    otsu, entropy: (p,) float, thresholds.
    """

    image: Ints
    category: Ints
    xyxy: NDArray[np.float32]
    boxes: NDArray[np.uint8]
    otsu: Floats
    entropy: Floats


def read_run(run_dir: Path) -> RunBoxes:
    """Read corpus.parquet, annotations.parquet and model/model.json of a run directory.

    Raises RunError when one of the tables is missing, cannot be read or lacks a column.
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


def mined_threshold(run_dir: Path) -> float | None:
    """The threshold that the run's boxes were cut at, as run.json has it; None where they have no common one."""
    try:
        used = read_json(run_dir / "run.json")["used"]
        return None if used.get("class_thresholds") else float(used["threshold"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def ranked_classes_of(
    run_dir: Path, image_of: Mapping[int, int], category_of: Mapping[int, int], images: int
) -> Ints | None:
    """(images, K) the classes that the run's classifier ranks first, best first; -1 for none and for unknown ones.

    image_of, category_of: positions in the truth's lists by image id and category id. None where the run has no
    rankings. Raises RunError when they cannot be read.
    """
    path = run_dir / RANKINGS
    if not path.is_file():
        return None
    with open_parquet(path) as file:
        table = file.read(columns=["image_id", "category_ids"])
    rows = [image_of.get(one, -1) for one in table["image_id"].to_pylist()]
    listed = table["category_ids"].to_pylist()
    found = np.full((images, max(map(len, listed), default=1)), -1, np.int64)
    for row, ids in zip(rows, listed, strict=True):
        if row >= 0:
            found[row, : len(ids)] = [category_of.get(one, -1) for one in ids]
    return found


def curve_thresholds(run_dir: Path) -> Floats | None:
    """(T,) at which the run's curves tell boxes; None where it has no curves. Raises RunError when they are damaged."""
    path = run_dir / CURVES
    if not path.is_file():
        return None
    try:
        with open_parquet(path) as file:
            return np.array(file.schema_arrow.metadata[b"thresholds"].decode().split(","), np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise _no_curves(path, error) from error


def curve_blocks(run_dir: Path, image_of: Mapping[int, int], category_of: Mapping[int, int]) -> Iterator[CurveBlock]:
    """The run's curves, some at a time.

    image_of, category_of: positions in the truth's lists by image id and category id; of others the curves are left
    out. Raises RunError when curves.parquet cannot be read.
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
        np.array([places.get(one, -1) for one in table[name].to_pylist()], np.int64)
        for name, places in (("image_id", image_of), ("category_id", category_of))
    )
    wanted = (image >= 0) & (category >= 0)
    xyxy = _lists(table["xyxy"]).reshape(len(table), -1, 4)[wanted]
    stretch = [_floats(table[side]) / _floats(table[f"map_{side}"]) for side in ("width", "height")]
    return CurveBlock(
        image[wanted],
        category[wanted],
        (xyxy * np.stack([*stretch, *stretch], axis=1)[wanted, None]).astype(np.float32),
        _lists(table["boxes"])[wanted],
        _floats(table["otsu"])[wanted],
        _floats(table["entropy"])[wanted],
    )


def _lists(column: Any) -> Any:
    """(n, length) of a column of n lists of one length."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


@dataclass(frozen=True)
class MatchedImages:
    """(N,) for each image of a truth its position among the known file names, -1 where there is none; and notes."""

    position: Ints
    notes: tuple[str, ...]


def matched_images(truth: Truth, known: Sequence[str], run_dir: Path) -> MatchedImages:
    """Match the images of a truth with the file names of a run; those whose objects are not known are left out."""
    found = _matched(truth.file_names, truth.own_names, known, truth.file, image_root(run_dir))
    return MatchedImages(np.where(truth.is_known, found.position, -1), found.notes)


def matched_files(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """(len(wanted),) for each wanted file name its position in `known`, -1 where there is none."""
    return _matched(wanted, (None,) * len(wanted), known, "", None).position


def image_root(run_dir: Path) -> PurePath | None:
    """The folder of a run's images, as its run.json has it; None where that cannot be told."""
    try:
        return PurePath(read_json(run_dir / "run.json")["config"]["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _matched(
    wanted: Sequence[str], own_names: Sequence[str | None], known: Sequence[str], file: str, root: PurePath | None
) -> MatchedImages:
    from mining.corpus.listing import ListedImage
    from mining.corpus.name_matching import NameMatcher  # with the tables' library, which takes its time
    from mining.corpus.sqlite_index import open_index_in_memory

    position = {name: place for place, name in enumerate(known)}
    with open_index_in_memory() as table:
        table.add_listed(
            ListedImage(name, None, own_name=own_name) for name, own_name in zip(wanted, own_names, strict=True)
        )
        table.add_disk(known)
        notes = NameMatcher(table, file, file, root).run()
        found = [position[name] if is_present else -1 for _, name, is_present in table.names_by_row()]
    return MatchedImages(np.array(found, np.int64), tuple(notes))


def matched_classes(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """(len(wanted),) for each wanted class name its position in `known`, -1 where there is none."""
    from mining.corpus.names import normalise_class_name  # with the tables' library, which takes its time

    position = {normalise_class_name(name): place for place, name in enumerate(known)}
    return np.array([position.get(normalise_class_name(name), -1) for name in wanted], np.int64)


def matched_names(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """(len(wanted),) for each wanted name its position in `known`, -1 where there is none; names of one source."""
    position = {name: i for i, name in enumerate(known)}
    return np.array([position.get(name, -1) for name in wanted], np.int64)


def _table(run_dir: Path, name: str, columns: list[str]) -> Any:
    path = run_dir / name
    if not path.is_file():
        raise RunError(f"{run_dir} has no {name}, so there is nothing to score. Give the directory of a finished run.")
    with open_parquet(path) as file:
        missing = [c for c in columns if c not in file.schema_arrow.names]
        if not missing:
            return file.read(columns=columns)
    raise RunError(f"{path} has no column {', '.join(missing)}. Mine the run again with this version of boxmine.")


def _encoded(column: Any) -> tuple[tuple[str, ...], Ints]:
    """The names in use, and for each row the position of its name."""
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
