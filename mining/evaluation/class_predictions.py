"""The classes that another classifier ranks first for each image, from a run or from a CSV.

Localization errors ask for the right class as well as for the right box. Papers combine their boxes with the classes of
a better classifier (SPG, table 3).
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from mining.arrays import Ints
from mining.errors import RunError, ScoringError
from mining.evaluation.metrics.localization import NOT_ASKED
from mining.evaluation.run_reading import RANKINGS, read_ranked_classes, read_run_boxes
from mining.ground_truth.matching import match_classes, match_files
from mining.ground_truth.reading import GroundTruth
from mining.storage.untrusted_files import iter_lines

_COLUMNS = ("file_name", "labels")
_FORM = (
    "expected a run directory, or a CSV with the columns file_name,labels whose labels, joined by '|', are the classes "
    "of an image with the most probable one first"
)


def read_class_predictions(path: Path, truth: GroundTruth) -> tuple[Ints, list[str]]:
    """Read ranked classes, matched with a ground truth: images by file name, classes by name.

    Args:
        path: Run directory whose model ranked the classes, or a CSV of file_name,labels with the most probable label
            first.
        truth: Images and classes that are scored.

    Returns:
        (N, K) int, positions of the classes in the ground truth, best first, -1 for none and for unknown classes; and
        notes on images without a prediction.

    Raises:
        ScoringError: The file cannot be used, or shares no image or no class with the ground truth.
        RunError: The run directory cannot be used.
    """
    ranked = _of_run(path, truth) if path.is_dir() else _of_csv(path, truth)
    if not (ranked >= 0).any():
        raise ScoringError(f"{path} predicts no class of {truth.file} for any of its images; names must agree.")
    missing = int(((ranked < 0).all(axis=1) & (ranked[:, 0] != NOT_ASKED)).sum())
    images = len(ranked)
    notes = [f"Localization and classification errors use the classes of {path}."]
    if missing:
        notes.append(f"{missing} of {images} scored images have no class there and count as wrongly classified.")
    return ranked, [*notes, *note_on_unranked(ranked)]


def note_on_unranked(ranked: Ints | None) -> list[str]:
    """Return a note on images that do not count in Top-1 and Top-5 figures, if there are other ones too."""
    if ranked is None:
        return []
    left_out = int((ranked[:, 0] == NOT_ASKED).sum())
    return [
        f"{left_out} of {len(ranked)} scored images are left out of Top-1 and Top-5 figures: the detector was given "
        "their labels, and ranked no classes."
    ] * bool(left_out)


def _of_run(run_dir: Path, truth: GroundTruth) -> Ints:
    if not (run_dir / "corpus.parquet").is_file():
        raise RunError(f"{run_dir} cannot be read as class predictions (it is not a finished run); {_FORM}.")
    run = read_run_boxes(run_dir)
    if run.classes is None or not (run_dir / RANKINGS).is_file():
        raise RunError(f"{run_dir} has no {RANKINGS} with the classes that its model ranked; mine it again.")
    places = match_files(run.file_names, truth.file_names)
    image_of = {int(number): int(place) for number, place in zip(run.image_ids, places, strict=True) if place >= 0}
    known = match_classes(tuple(run.classes.values()), truth.classes)
    category_of = {number: int(place) for number, place in zip(run.classes, known, strict=True) if place >= 0}
    ranked = read_ranked_classes(run_dir, image_of, category_of, len(truth.file_names))
    if ranked is None:
        raise RunError(f"The model of {run_dir} ranked no classes; give a run of a classifier, or a CSV.")
    return ranked


def _of_csv(path: Path, truth: GroundTruth) -> Ints:
    try:
        rows = list(_rows(path))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScoringError(f"{path} cannot be read as class predictions ({reason}); {_FORM}.") from None
    places = match_files([name for name, _ in rows], truth.file_names)
    names = sorted({label for _, labels in rows for label in labels})
    position = dict(zip(names, match_classes(names, truth.classes).tolist(), strict=True))
    ranked = np.full((len(truth.file_names), max((len(labels) for _, labels in rows), default=1) or 1), -1, np.int64)
    for place, (_, labels) in zip(places, rows, strict=True):
        if place >= 0:
            ranked[place, : len(labels)] = [position[label] for label in labels]
    return ranked


def _rows(path: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield file name and labels of each row; raises ValueError for another header or a repeated image."""
    with closing(iter_lines(path)) as lines:
        reader = csv.DictReader(lines, skipinitialspace=True)
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        if not set(_COLUMNS) <= set(columns):
            # another kind of file may have everything on one line
            raise ValueError(f"its columns are {', '.join(columns) or 'none':.80}")
        reader.fieldnames = columns
        seen: set[str] = set()
        for row in reader:
            name = row["file_name"] or ""
            if name in seen:  # as in a file with one row per class, of which one row alone would count
                raise ValueError(f"it has {name} twice")
            seen.add(name)
            labels = [label.strip() for label in (row["labels"] or "").split("|")]
            yield name, [label for label in labels if label]
