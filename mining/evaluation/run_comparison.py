"""Compare two runs on the same images: which boxes changed, and with ground truth whether they got better.

A pair is an image and a class of which either run has a box; its agreement is the IoU of the two best-scored boxes, 0
where only one run has any. With ground truth the pairs are those of CorLoc, scored in both runs, and the difference has
a paired bootstrap interval over images: every resample draws the same images for both runs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mining.arrays import Floats, Ints
from mining.boxes.iou import paired_iou
from mining.errors import RunError
from mining.evaluation.boxes import xyxy_from_xywh
from mining.evaluation.paired_scores import hit_difference, match_shared, recall_difference
from mining.evaluation.run_reading import RunBoxes, read_run_boxes
from mining.evaluation.run_scoring import best_iou_of_match
from mining.ground_truth.matching import match_classes
from mining.ground_truth.reading import read_ground_truth

SAME = 0.95
IOU_THRESHOLDS = (0.5, 0.7)
DEFINITION = (
    "A pair: an image of both runs and a class of which either has a box. same: the best-scored boxes of both have an "
    "IoU of at least 0.95; moved: less. corloc: share of the truth's pairs, known to both runs, whose best-scored box "
    "has IoU >= 0.5; instance_recall_at_1_fp: share of the true boxes of these images and classes that the boxes of "
    "highest score find with IoU >= 0.5, as many of them as give one false positive per image; difference: second "
    "minus first, ci95: paired percentile bootstrap over images; better, worse: pairs that are correct in the second "
    "run only, in the first only."
)


@dataclass(frozen=True)
class PairChange:
    """One pair of an image and a class.

    Attributes:
        file_name: Name of the image.
        category: Class name.
        agreement: IoU of the two runs' best-scored boxes.
        first_iou: IoU of the first run's best-scored box with a true box; None without ground truth.
        second_iou: The same of the second run.
    """

    file_name: str
    category: str
    agreement: float
    first_iou: float | None = None
    second_iou: float | None = None

    @property
    def verdict(self) -> str:
        """One of better, worse, right, wrong; without ground truth same or moved."""
        if self.first_iou is None or self.second_iou is None:
            return "same" if self.agreement >= SAME else "moved"
        before, after = (iou >= IOU_THRESHOLDS[0] for iou in (self.first_iou, self.second_iou))
        return ("right" if after else "worse") if before else ("better" if after else "wrong")

    @property
    def gain(self) -> float:
        """Gain in IoU from the first run to the second; without ground truth 1 - agreement."""
        if self.first_iou is None or self.second_iou is None:
            return 1 - self.agreement
        return self.second_iou - self.first_iou


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        summary: Counts and figures, as printed with --json.
        changes: Every pair by image and class: of both runs, or with ground truth those scored in both.
    """

    summary: dict[str, Any]
    changes: list[PairChange]


def compare_runs(
    first: Path,
    second: Path,
    truth: Path | None = None,
    *,
    unscored: Collection[str] = (),
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """Compare the boxes of two run directories.

    Args:
        first: Run directory to compare with.
        second: Run directory that is compared with it.
        truth: COCO JSON, VOC XML or CUB folder; None compares the runs with each other only.
        unscored: Images, by their file names in the second run, that are not compared with the ground truth.
        seed: Seed of the bootstrap.
        resamples: Number of resamples.

    Returns:
        The summary and every pair.

    Raises:
        RunError: The runs share no image or no class, or lack their tables.
        ScoringError: The ground truth cannot be used.
    """
    runs = read_run_boxes(first), read_run_boxes(second)
    names = sorted(set(runs[0].file_names) & set(runs[1].file_names))
    if not names:
        raise RunError(f"{first} and {second} have no image in common (by file name); there is nothing to compare.")
    _check_shared_class((first, second), runs)
    agreements, boxes = _agreements(runs, names)
    values = np.array(list(agreements.values()))
    pairs = {
        "both": sum(key in boxes[0] and key in boxes[1] for key in agreements),
        "only_first": sum(key not in boxes[1] for key in agreements),
        "only_second": sum(key not in boxes[0] for key in agreements),
        "same": int((values >= SAME).sum()),
    }
    pairs["moved"] = pairs["both"] - pairs["same"]
    changes = [PairChange(name, category, iou) for (name, category), iou in agreements.items()]
    scored = None
    if truth is not None:
        scored, changes = _against(
            truth, (first, second), runs, agreements, unscored=unscored, seed=seed, resamples=resamples
        )
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


def _check_shared_class(folders: tuple[Path, Path], runs: tuple[RunBoxes, RunBoxes]) -> None:
    """Raise RunError where both runs know classes, and none of them is the same."""
    names = [run.box_classes if run.classes is None else tuple(run.classes.values()) for run in runs]
    if not all(names) or (match_classes(names[0], names[1]) >= 0).any():
        return
    raise RunError(
        f"{folders[0]} and {folders[1]} have no class in common: the first has {_format_names(names[0])}, the second "
        f"{_format_names(names[1])}. Compare runs of models that know the same classes by the same names."
    )


def _format_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _agreements(runs: tuple[RunBoxes, RunBoxes], names: list[str]) -> tuple[dict[Key, float], list[dict[Key, Floats]]]:
    """The agreement of every pair, by name and class, and the best-scored box (4,) of each pair in each run."""
    shared = set(names)
    best = [{key: box for key, box in best_boxes(run).items() if key[0] in shared} for run in runs]
    keys = sorted({*best[0], *best[1]})
    if not keys:
        return {}, best
    no_box = np.zeros(4)
    sides = [np.array([boxes.get(key, no_box) for key in keys]) for boxes in best]
    return dict(zip(keys, paired_iou(*sides).tolist(), strict=True)), best


def best_boxes(run: RunBoxes) -> dict[Key, Floats]:
    """Return xyxy of the best-scored box of each file and class; of equal scores the first."""
    code = run.box_file * max(1, len(run.box_classes)) + run.box_class
    order = np.lexsort((-run.scores, code))
    first: Ints = order[np.unique(code[order], return_index=True)[1]]
    xyxy = xyxy_from_xywh(run.xywh[first])
    files, classes = run.box_file[first].tolist(), run.box_class[first].tolist()
    return {
        (run.box_files[file], run.box_classes[number]): box
        for file, number, box in zip(files, classes, xyxy, strict=True)
    }


def _against(
    truth: Path,
    folders: tuple[Path, Path],
    runs: tuple[RunBoxes, RunBoxes],
    agreements: dict[Key, float],
    *,
    unscored: Collection[str],
    seed: int,
    resamples: int,
) -> tuple[dict[str, Any], list[PairChange]]:
    matches, run_name = match_shared(read_ground_truth(truth), folders, runs, unscored)
    scored = [{(name, category): iou for name, category, iou in best_iou_of_match(match)} for match in matches]
    keys = [key for key in scored[0] if key in scored[1]] if scored else []
    if not keys:
        return {"file": truth.name, "pairs": 0}, []
    iou = [np.array([best_iou[key] for key in keys]) for best_iou in scored]
    _, image = np.unique([name for name, _ in keys], return_inverse=True)
    figures = {
        f"corloc_{threshold}": hit_difference(image, iou[0] >= threshold, iou[1] >= threshold, seed, resamples)
        for threshold in IOU_THRESHOLDS
    }
    figures["instance_recall_at_1_fp"] = recall_difference(matches, len(run_name), seed, resamples)
    changes = [
        PairChange(run_name[name], category, agreements.get((run_name[name], category), 0.0), before, after)
        for (name, category), before, after in zip(keys, iou[0].tolist(), iou[1].tolist(), strict=True)
    ]
    return {"file": truth.name, "pairs": len(keys), **figures}, changes
