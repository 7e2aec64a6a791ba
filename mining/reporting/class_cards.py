"""One card per class: how many boxes, on how many of its images, and how good they are."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from mining.evaluation.scores import Scores
from mining.models.card import read_card
from mining.quality.audit import AuditEstimate
from mining.quality.estimates import share_interval
from mining.quality.table import read_quality
from mining.reporting.corpus_counts import CorpusCounts
from mining.reporting.statistics import ClassStatistics, RunStatistics, quantile
from mining.runs.run import Run

MAX_CARDS = 24  # further classes are rows of a table
_BARS, _HEIGHT = 20, 30  # of the histogram


@dataclass(frozen=True)
class Estimated:
    """A share with its 95 % interval, None where it has none, and the number of judgements or pairs behind it."""

    value: float
    ci95: tuple[float, float] | None
    number: int


@dataclass(frozen=True)
class ClassCard:
    """What is known of one class.

    Attributes:
        name: Class name.
        boxes: Number of boxes.
        images: Images with such a box.
        listed: Images whose listing has the class; 0 where no listing has it.
        found: Those of them with a box of the class.
        precision: Share of correct boxes by verdicts, None without any.
        true_precision: The same by ground truth, None without one.
        corloc: Share of the images of the class whose best box is correct, None without ground truth.
        p_correct: Mean of the calibrated probabilities, None without calibration.
        median: Median score; None without a box.
        histogram: SVG path of the boxes by score, 200 wide and 30 high; empty without a box.
        pictures: Number of pictures in the gallery.
    """

    name: str
    boxes: int
    images: int
    listed: int
    found: int
    precision: Estimated | None
    true_precision: Estimated | None
    corloc: Estimated | None
    p_correct: float | None
    median: float | None
    histogram: str
    pictures: int

    @property
    def coverage(self) -> float | None:
        """Share of the images that list the class with a box of it; None where no listing has it."""
        return self.found / self.listed if self.listed else None


def build_cards(
    run: Run,
    statistics: RunStatistics,
    counts: CorpusCounts,
    scores: Scores | None,
    audit: AuditEstimate | None,
    pictures: Mapping[str, int],
) -> list[ClassCard]:
    """Return one card per class that has a box, is listed for an image, or is in the ground truth; most boxes first."""
    of_class = {name: statistics.of_class[name] for name, _ in statistics.classes()}
    corloc = {} if scores is None else scores["corloc"]["per_class"]
    known = [name for name in read_card(run.model).class_names if counts.listed[name] or name in corloc]
    for name in known:
        of_class.setdefault(name, ClassStatistics())
    p_correct = mean_p_correct(run, of_class)
    return [
        ClassCard(
            name, one.boxes, one.images, counts.listed[name],
            min(counts.listed[name], one.listed_images + counts.listed_by_people[name]),
            _precision(audit, name), _true_precision(scores, name), _corloc(scores, name), p_correct.get(name),
            quantile(one.scores, 0.5) if one.boxes else None, histogram_path(one), pictures.get(name, 0),
        )
        for name, one in of_class.items()
    ]  # fmt: skip


def mean_p_correct(run: Run, classes: Collection[str]) -> dict[str, float]:
    """Return the mean p_correct of the boxes of each class; empty for a run that is not calibrated.

    Raises:
        InputError: calibration.json is damaged.
    """
    if not run.calibration.is_file():
        return {}
    table = run.read_annotations(["category"]).append_column("p", read_quality(run)["p_correct"])
    found = table.filter(pc.is_valid(table["p"])).group_by("category").aggregate([("p", "mean")]).to_pylist()
    return {row["category"]: float(row["p_mean"]) for row in found if row["category"] in classes}


def histogram_path(counts: ClassStatistics) -> str:
    """Draw the boxes of a class by score, the highest bar as high as the picture."""
    if not counts.boxes:
        return ""
    bars = counts.scores.reshape(_BARS, -1).sum(axis=1)
    width = 200 / _BARS
    heights = np.maximum(_HEIGHT * bars / bars.max(), 1)  # a bar of few boxes can be seen
    return "".join(
        f"M{place * width + 0.5:g} {_HEIGHT}v-{heights[place]:.1f}h{width - 1:g}v{heights[place]:.1f}z"
        for place in np.flatnonzero(bars).tolist()
    )


def _precision(audit: AuditEstimate | None, name: str) -> Estimated | None:
    found = None if audit is None else audit.per_class.get(name)
    return None if found is None or not found.verdicts else Estimated(found.value, found.ci95, found.verdicts)


def _true_precision(scores: Scores | None, name: str) -> Estimated | None:
    found = scores["precision"]["per_class"].get(name) if scores is not None and "precision" in scores else None
    return None if found is None or found["value"] is None else Estimated(found["value"], None, found["boxes"])


def _corloc(scores: Scores | None, name: str) -> Estimated | None:
    """An image has one pair of a class at most, so that the pairs are independent outcomes."""
    found = None if scores is None else scores["corloc"]["per_class"].get(name)
    if found is None or not found["pairs"]:
        return None
    return Estimated(found["value"], share_interval(found["value"], found["pairs"]), found["pairs"])
