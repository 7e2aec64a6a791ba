"""The true boxes beside a run's boxes: which file holds them, and which belong to an image and class."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mining.arrays import Bools, Floats
from mining.corpus import iter_shards
from mining.evaluation.run_reading import match_images
from mining.evaluation.scores import read_scores
from mining.ground_truth.reading import GroundTruth, read_ground_truth
from mining.ground_truth.sources import digest_of
from mining.reporting.statistics import Cells, count_cells
from mining.runs.run import Run


class TrueBoxes(NamedTuple):
    """True boxes of one class in one image.

    Attributes:
        xyxy: (m, 4) corners in pixels.
        is_ignored: (m,) bool, whether the box is neither to be found nor wrong to find.
    """

    xyxy: Floats
    is_ignored: Bools


class FoundTruth(NamedTuple):
    """The ground truth of a run.

    Attributes:
        path: The file or folder; None where it is not found.
        note: What to do where it is not found, else empty.
    """

    path: Path | None
    note: str = ""


def find_ground_truth(run: Run, truth: Path | None = None) -> FoundTruth:
    """Find the ground truth to draw: the given one, or the one that the run was scored against.

    The latter is looked for where it was (scores.json records its path), and by its name in the current folder and
    beside the run's labels and images; its SHA-256 must be the recorded one.

    Args:
        run: A run with a record.
        truth: The ground truth that the user passed.

    Returns:
        The ground truth, or a note on what to pass.

    Raises:
        RunError: scores.json is damaged.
    """
    if truth is not None:
        return FoundTruth(truth)
    scores, config = read_scores(run), run.record["config"]
    if scores is None:
        return FoundTruth(
            None, "The run has not been scored, so no true boxes are drawn; pass the ground truth with --truth FILE."
        )
    recorded = scores["truth"]
    name = Path(recorded["file"])
    near = [Path(config[key]) for key in ("labels", "images") if config.get(key)]
    places = [Path(recorded.get("path", name)), name, *(place / name for path in near for place in (path, path.parent))]
    path = next((path for path in places if _has_digest(path, recorded["sha256"])), None)
    if path is not None:
        return FoundTruth(path)
    return FoundTruth(
        None,
        f"The ground truth that the run was scored against is not at {places[0]} any more, or has changed, so no true "
        "boxes are drawn; pass it with --truth FILE.",
    )


def _has_digest(path: Path, sha256: str) -> bool:
    try:
        return path.exists() and digest_of(path) == sha256
    except OSError:
        return False


class GroundTruthIndex:
    """The true boxes of a run's images, by file name and class; remembers which pairs were queried."""

    def __init__(self, truth: GroundTruth, corpus: Path) -> None:
        """Index the true boxes of the images in `corpus`, the run's corpus.parquet."""
        names = [name for shard in iter_shards(corpus) for name in shard["file_name"].to_pylist()]
        position = match_images(truth, names, corpus.parent).position.tolist()
        self.file = truth.file
        self.sha256 = truth.sha256
        self._truth = truth
        self._names = {image: names[place] for image, place in enumerate(position) if place >= 0}
        self._images = {name: image for image, name in self._names.items()}
        self._classes = {name: index for index, name in enumerate(truth.classes)}
        codes = truth.boxes.image * len(truth.classes) + truth.boxes.category
        self._order = np.argsort(codes, kind="stable")
        self._codes = codes[self._order]
        self._is_queried = np.zeros(len(codes), bool)

    def __len__(self) -> int:
        return len(self._images)

    def boxes(self, file_name: str, category: str) -> TrueBoxes | None:
        """Return the true boxes, possibly none; None where the ground truth lacks the image or the class."""
        image, index = self._images.get(file_name), self._classes.get(category)
        if image is None or index is None:
            return None
        code = image * len(self._classes) + index
        first, end = (int(np.searchsorted(self._codes, code, side)) for side in ("left", "right"))
        self._is_queried[first:end] = True
        rows = self._order[first:end]
        return TrueBoxes(self._truth.boxes.xyxy[rows], self._truth.boxes.is_ignored[rows])

    def unqueried_images(self, category: str, limit: int) -> list[str]:
        """Return up to `limit` images with countable boxes of the class that were never queried, largest box first."""
        rows = self._order[~self._is_queried]
        boxes = self._truth.boxes
        rows = rows[(boxes.category[rows] == self._classes.get(category, -1)) & boxes.is_countable[rows]]
        rows = rows[np.argsort(-boxes.area[rows], kind="stable")]
        images = dict.fromkeys(boxes.image[rows].tolist())
        return [self._names[image] for image in images if image in self._names][:limit]

    def classes(self) -> list[str]:
        """Return the names of the classes that the ground truth has a box of."""
        return [self._truth.classes[index] for index in np.unique(self._truth.boxes.category)]

    def sizes(self) -> Cells:
        """Return countable true boxes of the run's images by size, as in RunStatistics; unknown sizes are left out."""
        boxes = self._truth.boxes
        width, height = self._truth.sizes[boxes.image].T
        known = boxes.is_countable & np.isin(boxes.image, list(self._names)) & np.isfinite(width * height)
        share = boxes.xywh[known, 2] * boxes.xywh[known, 3] / (width[known] * height[known])
        return count_cells(np.sqrt(share))


def open_ground_truth(path: Path | None, run: Run) -> GroundTruthIndex | None:
    """Read and index a ground truth; None without a path.

    Raises:
        ScoringError: The ground truth cannot be used.
    """
    return None if path is None else GroundTruthIndex(read_ground_truth(path), run.corpus)
