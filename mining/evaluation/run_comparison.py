"""Two runs on the same images: which boxes changed, and where there is a truth, whether they got better.

A pair is an image and a class of which either run has a box; its agreement is the IoU of the two best-scored boxes, 0
where only one run has any. Against a truth the pairs are those of CorLoc, scored in both runs, and the difference has
a paired bootstrap interval over images: both runs meet the same images in every resample.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mining.arrays import Floats, Ints
from mining.boxes.iou import paired_iou
from mining.errors import RunError
from mining.evaluation.bootstrap import paired_difference
from mining.evaluation.boxes import xyxy_from_xywh
from mining.evaluation.metrics.hits import mean_or_none
from mining.evaluation.run_reading import RunBoxes, match_files, read_run_boxes
from mining.evaluation.run_scoring import best_iou_of_pairs

SAME = 0.95
IOU_THRESHOLDS = (0.5, 0.7)
DEFINITION = (
    "A pair: an image of both runs and a class of which either has a box. same: the best-scored boxes of both have an "
    "IoU of 0.95 at least; moved: less. corloc: share of the truth's pairs, known to both runs, whose best-scored box "
    "has IoU >= 0.5; difference: second less first, ci95: paired percentile bootstrap over images; better, worse: "
    "pairs that are right in the second alone, in the first alone."
)


@dataclass(frozen=True)
class PairChange:
    """One pair. agreement: IoU of the best-scored boxes. first_iou, second_iou: with the truth, None without one."""

    file_name: str
    category: str
    agreement: float
    first_iou: float | None = None
    second_iou: float | None = None

    @property
    def verdict(self) -> str:
        """better, worse, right, wrong; without truth same or moved."""
        if self.first_iou is None or self.second_iou is None:
            return "same" if self.agreement >= SAME else "moved"
        before, after = (iou >= IOU_THRESHOLDS[0] for iou in (self.first_iou, self.second_iou))
        return ("right" if after else "worse") if before else ("better" if after else "wrong")

    @property
    def gain(self) -> float:
        """IoU won from the first run to the second; without truth what they do not agree on."""
        if self.first_iou is None or self.second_iou is None:
            return 1 - self.agreement
        return self.second_iou - self.first_iou


@dataclass(frozen=True)
class Comparison:
    """summary: what is printed as JSON. changes: every pair, of both runs or of the truth, by image and class."""

    summary: dict[str, Any]
    changes: list[PairChange]


def compare_runs(
    first: Path, second: Path, truth: Path | None = None, *, seed: int = 0, resamples: int = 2000
) -> Comparison:
    """Compare the boxes of two run directories.

    truth: COCO JSON, VOC XML or CUB folder; None compares the runs with each other alone.
    Raises RunError when the runs share no image or lack their tables, ScoringError when the truth cannot be used.
    """
    runs = read_run_boxes(first), read_run_boxes(second)
    names = sorted(set(runs[0].file_names) & set(runs[1].file_names))
    if not names:
        raise RunError(f"{first} and {second} have no image in common (by file name); there is nothing to compare.")
    agreements, boxes = _agreements(runs, names)
    values = np.array(list(agreements.values()))
    only = [np.array([key in boxes[0], key in boxes[1]]) for key in agreements]
    pairs = {
        "both": sum(bool(one.all()) for one in only),
        "only_first": sum(bool(one[0] and not one[1]) for one in only),
        "only_second": sum(bool(one[1] and not one[0]) for one in only),
        "same": int((values >= SAME).sum()),
    }
    pairs["moved"] = pairs["both"] - pairs["same"]
    changes = [PairChange(name, category, iou) for (name, category), iou in agreements.items()]
    scored = None
    if truth is not None:
        scored, changes = _against(truth, (first, second), runs, agreements, seed=seed, resamples=resamples)
    summary = {
        "definition": DEFINITION,
        "runs": {"first": str(first), "second": str(second)},
        "images": {
            "both": len(names),
            "only_first": len(runs[0].file_names) - len(names),
            "only_second": len(runs[1].file_names) - len(names),
        },
        "boxes": {"first": len(runs[0].scores), "second": len(runs[1].scores)},
        "pairs": pairs,
        "truth": scored,
    }
    return Comparison(summary, changes)


Key = tuple[str, str]


def _agreements(runs: tuple[RunBoxes, RunBoxes], names: list[str]) -> tuple[dict[Key, float], list[dict[Key, Floats]]]:
    """The agreement of every pair, by name and class, and the best-scored box (4,) of each pair in each run."""
    wanted = set(names)
    best = [{key: box for key, box in _best_boxes(run).items() if key[0] in wanted} for run in runs]
    keys = sorted({*best[0], *best[1]})
    if not keys:
        return {}, best
    nothing = np.zeros(4)
    sides = [np.array([one.get(key, nothing) for key in keys]) for one in best]
    return dict(zip(keys, paired_iou(*sides).tolist(), strict=True)), best


def _best_boxes(run: RunBoxes) -> dict[Key, Floats]:
    """xyxy of the best-scored box of each file and class; of equal scores the first."""
    code = run.box_file * max(1, len(run.box_classes)) + run.box_class
    order = np.lexsort((-run.scores, code))
    first: Ints = order[np.unique(code[order], return_index=True)[1]]
    xyxy = xyxy_from_xywh(run.xywh[first])
    files, classes = run.box_file[first].tolist(), run.box_class[first].tolist()
    return {
        (run.box_files[file], run.box_classes[one]): box for file, one, box in zip(files, classes, xyxy, strict=True)
    }


def _against(
    truth: Path,
    folders: tuple[Path, Path],
    runs: tuple[RunBoxes, RunBoxes],
    agreements: dict[Key, float],
    *,
    seed: int,
    resamples: int,
) -> tuple[dict[str, Any], list[PairChange]]:
    scored = [{(name, one): iou for name, one, iou in best_iou_of_pairs(folder, truth)} for folder in folders]
    keys = [key for key in scored[0] if key in scored[1]]
    if not keys:
        return {"file": truth.name, "pairs": 0}, []
    iou = [np.array([one[key] for key in keys]) for one in scored]
    _, image = np.unique([name for name, _ in keys], return_inverse=True)
    figures = {
        f"corloc_{threshold}": _difference(image, iou[0] >= threshold, iou[1] >= threshold, seed, resamples)
        for threshold in IOU_THRESHOLDS
    }
    files = sorted({name for name, _ in keys})
    place = match_files(files, runs[1].file_names).tolist()
    own = {name: runs[1].file_names[at] for name, at in zip(files, place, strict=True)}
    changes = [
        PairChange(own[name], one, agreements.get((own[name], one), 0.0), before, after)
        for (name, one), before, after in zip(keys, iou[0].tolist(), iou[1].tolist(), strict=True)
    ]
    return {"file": truth.name, "pairs": len(keys), **figures}, changes


def _difference(image: Ints, first: Any, second: Any, seed: int, resamples: int) -> dict[str, Any]:
    found = paired_difference(
        image, first.astype(np.float64), second.astype(np.float64), seed=seed, resamples=resamples
    )
    return {
        "first": mean_or_none(first),
        "second": mean_or_none(second),
        "difference": found.value,
        "ci95": list(found.ci95),
        "is_clear": found.is_clear,
        "better": int((second & ~first).sum()),
        "worse": int((first & ~second).sum()),
    }
