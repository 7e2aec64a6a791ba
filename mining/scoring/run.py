"""The boxes of a run directory, and how its names meet those of a truth."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mining.errors import RunError
from mining.scoring.boxes import Floats, Ints
from mining.scoring.truth import normal_name

_BOX_COLUMNS = ["file_name", "category", "x", "y", "w", "h", "score"]
_CORPUS_COLUMNS = ["file_name", "width", "height"]


@dataclass(frozen=True)
class RunBoxes:
    """What a run predicted, n boxes, and the N images it was asked for.

    file_names: of the N images.
    sizes: (N, 2) float64 width and height in pixels; NaN where not known.
    classes: names the model knows; None when the run has no model.json.
    box_files, box_file: the file names in use, and for each box its position among them, (n,).
    box_classes, box_class: the same for class names.
    xywh: (n, 4) float64 pixels; scores: (n,) float64.
    """

    file_names: tuple[str, ...]
    sizes: Floats
    classes: tuple[str, ...] | None
    box_files: tuple[str, ...]
    box_file: Ints
    box_classes: tuple[str, ...]
    box_class: Ints
    xywh: Floats
    scores: Floats


def read_run(run_dir: Path) -> RunBoxes:
    """Read corpus.parquet, annotations.parquet and model/model.json of a run directory.

    Raises RunError when one of the tables is missing, cannot be read or lacks a column.
    """
    corpus = _table(run_dir, "corpus.parquet", _CORPUS_COLUMNS)
    boxes = _table(run_dir, "annotations.parquet", _BOX_COLUMNS)
    files, file = _encoded(boxes["file_name"])
    classes, category = _encoded(boxes["category"])
    return RunBoxes(
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


def matched_files(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """(len(wanted),) for each wanted file name its position in `known`, -1 where there is none.

    The whole name decides; else the last part, where it is the only such one on both sides. Where the names wanted
    have no endings (as in ILSVRC's XML) those of the known ones do not count.
    """
    from mining.corpus.names import IMAGE_SUFFIXES, suffix_of  # with the tables' library, which takes its time

    wanted, known = ([normal_name(name) for name in names] for names in (wanted, known))
    if not any(suffix_of(name) in IMAGE_SUFFIXES for name in wanted):
        known = [name.removesuffix(name[-len(suffix_of(name)) :]) if suffix_of(name) else name for name in known]
    whole = {name: i for i, name in enumerate(known)}
    last = [name.rpartition("/")[2] for name in wanted]
    known_last = [name.rpartition("/")[2] for name in known]
    times, known_times = Counter(last), Counter(known_last)
    by_last = {name: i for i, name in enumerate(known_last) if known_times[name] == 1 and times[name] == 1}
    found = [whole.get(name, by_last.get(part, -1)) for name, part in zip(wanted, last, strict=True)]
    return np.array(found, np.int64)


def matched_names(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """(len(wanted),) for each wanted name its position in `known`, -1 where there is none."""
    position = {name: i for i, name in enumerate(known)}
    return np.array([position.get(name, -1) for name in wanted], np.int64)


def _table(run_dir: Path, name: str, columns: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run_dir / name
    if not path.is_file():
        raise RunError(f"{run_dir} has no {name}, so there is nothing to score. Give the directory of a finished run.")
    try:
        missing = [c for c in columns if c not in pq.read_schema(path).names]
        if not missing:
            return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{path} cannot be read as Parquet ({error}). Mine the run again.") from error
    raise RunError(f"{path} has no column {', '.join(missing)}. Mine the run again with this version of boxmine.")


def _encoded(column: Any) -> tuple[tuple[str, ...], Ints]:
    """The names in use, and for each row the position of its name."""
    encoded = column.combine_chunks().dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _floats(column: Any) -> Floats:
    return np.asarray(column.cast("float64").to_numpy(), np.float64)


def _model_classes(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        return tuple(str(row["name"]) for row in json.loads(path.read_text(encoding="utf-8"))["classes"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} lists no classes with their names ({error!r}). Copy the model into the run again."
        ) from error
