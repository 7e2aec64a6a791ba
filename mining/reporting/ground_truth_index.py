"""The true boxes beside a run's boxes: which file holds them, and which belong to an image and class."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mining.corpus import iter_shards
from mining.errors import RunError
from mining.evaluation import Truth, read_truth
from mining.evaluation.run_reading import matched_images
from mining.reporting.statistics import Cells, cells_of
from mining.runs.run import Run
from mining.storage.files import sha256_of
from mining.storage.integrity import digest_matches
from mining.storage.untrusted_files import read_json


class TrueBoxes(NamedTuple):
    """True boxes of one class in one image: (m, 4) xyxy pixels, and (m,) which are neither to be found nor wrong."""

    xyxy: NDArray[np.float64]
    is_ignored: NDArray[np.bool_]


def read_scores(run: Run) -> dict[str, Any] | None:
    """The content of scores.json, None where there is none. Raises RunError when it is damaged."""
    if not run.scores.is_file():
        return None
    try:
        scores = dict(read_json(run.scores))
        if not isinstance(scores["truth"]["file"], str) or not isinstance(scores["truth"]["sha256"], str):
            raise ValueError("it names no truth")
        if not digest_matches(scores):
            raise ValueError("its content is not what was written")
        return scores
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.scores} is damaged ({error}); give the `boxmine score` command again.") from None


def scored_truth(scores: dict[str, Any] | None, config: dict[str, Any]) -> Path | None:
    """The file the scores came from, where it is still found.

    scores.json keeps its name and SHA-256: it is looked for as named, and beside the labels and images.
    """
    if scores is None:
        return None
    recorded = Path(scores["truth"]["file"])
    near = [Path(config[name]) for name in ("labels", "images") if config.get(name)]
    places = [recorded, *(place / recorded for path in near for place in (path, path.parent))]
    found = (path for path in places if path.is_file() and sha256_of(path) == scores["truth"]["sha256"])
    return next(found, None)


class GroundTruthIndex:
    """The true boxes of a run's images, by file name and class; remembers which pairs were asked for."""

    def __init__(self, truth: Truth, corpus: Path) -> None:
        names = [name for shard in iter_shards(corpus) for name in shard["file_name"].to_pylist()]
        position = matched_images(truth, names, corpus.parent).position.tolist()
        self.file = truth.file
        self.sha256 = truth.sha256
        self._truth = truth
        self._names = {image: names[place] for image, place in enumerate(position) if place >= 0}
        self._images = {name: image for image, name in self._names.items()}
        self._classes = {name: index for index, name in enumerate(truth.classes)}
        codes = truth.boxes.image * len(truth.classes) + truth.boxes.category
        self._order = np.argsort(codes, kind="stable")
        self._codes = codes[self._order]
        self._asked = np.zeros(len(codes), bool)

    def __len__(self) -> int:
        return len(self._images)

    def boxes(self, file_name: str, category: str) -> TrueBoxes | None:
        """The true boxes, possibly none; None where the truth does not have the image or does not know the class."""
        image, index = self._images.get(file_name), self._classes.get(category)
        if image is None or index is None:
            return None
        code = image * len(self._classes) + index
        first, end = (int(np.searchsorted(self._codes, code, side)) for side in ("left", "right"))
        self._asked[first:end] = True
        rows = self._order[first:end]
        return TrueBoxes(self._truth.boxes.xyxy[rows], self._truth.boxes.is_ignored[rows])

    def unqueried_images(self, category: str, limit: int) -> list[str]:
        """Images with countable true boxes of the class that were never asked for, largest object first."""
        rows = self._order[~self._asked]
        boxes = self._truth.boxes
        rows = rows[(boxes.category[rows] == self._classes.get(category, -1)) & boxes.is_countable[rows]]
        rows = rows[np.argsort(-boxes.area[rows], kind="stable")]
        images = dict.fromkeys(boxes.image[rows].tolist())
        return [self._names[image] for image in images if image in self._names][:limit]

    def classes(self) -> list[str]:
        """Names of the classes that the truth has a box of."""
        return [self._truth.classes[index] for index in np.unique(self._truth.boxes.category)]

    def sizes(self) -> Cells:
        """Countable true boxes in the run's images by size, as in Survey; images of unknown size left out."""
        boxes = self._truth.boxes
        width, height = self._truth.sizes[boxes.image].T
        known = boxes.is_countable & np.isin(boxes.image, list(self._names)) & np.isfinite(width * height)
        share = boxes.xywh[known, 2] * boxes.xywh[known, 3] / (width[known] * height[known])
        return cells_of(np.sqrt(share))


def open_ground_truth(path: Path | None, run: Run) -> GroundTruthIndex | None:
    """The truth of a file; None without one. Raises ScoringError when the file cannot be used."""
    return None if path is None else GroundTruthIndex(read_truth(path), run.corpus)
