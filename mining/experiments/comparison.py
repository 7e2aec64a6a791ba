"""Compare the figures of all cells: means and spreads over seeds, and paired differences."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.boxes.iou import paired_iou
from mining.evaluation.bootstrap import PairedDifference, paired_difference
from mining.evaluation.metrics.hits import IOU_THRESHOLD
from mining.experiments.cells import Cell

Key = tuple[str, str, tuple[float, ...]]  # corpus, variant, scales
PairScores = dict[tuple[str, str], float]  # by image and class: share of the seeds whose top box is a hit
BoxesBySeed = dict[int, dict[tuple[str, str], list[float]]]  # by image and class: xyxy
STRICT_IOU = 0.7
SAME_BOX_IOU = 0.98
FIGURES = (
    "corloc", "corloc_0.3", "corloc_0.7", "max_box_acc_v2", "ap50", "instance_recall",
    "instance_recall_at_1_fp", "boxes_per_pair", "false_positives_per_image",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A variant at one pyramid on one corpus, over its seeds.

    Attributes:
        corpus: Name of the corpus.
        variant: Name of the variant.
        scales: Scales that were mined at.
        seeds: Number of seeds.
        means: Mean of each of FIGURES.
        spreads: Standard deviation of each of FIGURES over seeds; None for a single seed.
        over_baseline: Difference in CorLoc to the baseline at the same pyramid; None for the baseline itself.
        over_baseline_strictly: The same at IoU 0.7.
        same_box_as_baseline: Share of the pairs of image and class whose best-scored box, if either has one, has an IoU
            of at least 0.98 with that of the baseline at the same pyramid and seed; None for the baseline itself.
        over_first_pyramid: Difference in CorLoc to the variant's first pyramid; None for that pyramid itself.
        over_first_pyramid_strictly: The same at IoU 0.7.
        train_seconds: Mean time of a training.
        mine_seconds: Mean time per image.
        warnings: Of the runs of the first seed that has any, see `mining.runs.summaries.MineSummary`.
    """

    corpus: str
    variant: str
    scales: tuple[float, ...]
    seeds: int
    means: dict[str, float]
    spreads: dict[str, float | None]
    over_baseline: PairedDifference | None
    over_baseline_strictly: PairedDifference | None
    same_box_as_baseline: float | None
    over_first_pyramid: PairedDifference | None
    over_first_pyramid_strictly: PairedDifference | None
    train_seconds: float
    mine_seconds: float
    warnings: list[str]


def compare(measured: Sequence[tuple[Cell, dict[str, Any]]], baseline: str | None) -> list[Row]:
    """Return one row per corpus, variant and pyramid, in the order of the cells.

    Args:
        measured: Cells and their figures.
        baseline: Name of the variant that the others are compared with, if any.
    """
    groups: dict[Key, list[dict[str, Any]]] = {}
    boxes: dict[Key, BoxesBySeed] = {}
    for cell, figures in measured:
        key = cell.corpus, cell.variant, cell.scales
        groups.setdefault(key, []).append(figures)
        boxes.setdefault(key, {})[cell.seed] = {(name, category): box for name, category, *box in figures["boxes"]}
    scores = {
        iou: {key: _pair_scores(group, iou) for key, group in groups.items()} for iou in (IOU_THRESHOLD, STRICT_IOU)
    }
    first = {(corpus, variant): scales for corpus, variant, scales in reversed(groups)}
    rows = []
    for key, group in groups.items():
        corpus, variant, scales = key
        by_figure = {name: [float(figures[name]) for figures in group] for name in FIGURES}
        base, own_first = (corpus, baseline or "", scales), (corpus, variant, first[corpus, variant])
        rows.append(
            Row(
                *key,
                seeds=len(group),
                means={name: statistics.mean(values) for name, values in by_figure.items()},
                spreads={
                    name: statistics.stdev(values) if len(values) > 1 else None for name, values in by_figure.items()
                },
                over_baseline=_difference(scores[IOU_THRESHOLD], base, key),
                over_baseline_strictly=_difference(scores[STRICT_IOU], base, key),
                same_box_as_baseline=None if base == key else _share_of_same_boxes(boxes.get(base, {}), boxes[key]),
                over_first_pyramid=_difference(scores[IOU_THRESHOLD], own_first, key),
                over_first_pyramid_strictly=_difference(scores[STRICT_IOU], own_first, key),
                train_seconds=statistics.mean(figures["train_seconds"] for figures in group),
                mine_seconds=statistics.mean(figures["mine_seconds"] / figures["images"] for figures in group),
                # figures of earlier versions have none
                warnings=next((found for figures in group if (found := figures.get("warnings"))), []),
            )
        )
    return rows


def _pair_scores(group: list[dict[str, Any]], threshold: float) -> PairScores:
    hits: dict[tuple[str, str], list[bool]] = {}
    for figures in group:
        for file_name, category, iou in figures["pairs"]:
            hits.setdefault((file_name, category), []).append(iou >= threshold)
    return {pair: statistics.mean(values) for pair, values in hits.items()}


def _share_of_same_boxes(first: BoxesBySeed, second: BoxesBySeed) -> float | None:
    """Share of the pairs of either, of the seeds of both, that have the same box in both; None if there are none."""
    no_box = [0.0] * 4
    found = [
        [boxes[seed].get(pair, no_box) for boxes in (first, second)]
        for seed in sorted(first.keys() & second.keys())
        for pair in sorted({*first[seed], *second[seed]})
    ]
    if not found:
        return None
    sides = np.array(found, dtype=np.float64)
    return float((paired_iou(sides[:, 0], sides[:, 1]) >= SAME_BOX_IOU).mean())


def _difference(scores: dict[Key, PairScores], of: Key, to: Key) -> PairedDifference | None:
    """Difference from `of` to `to` on the pairs of both; None if there is nothing to compare."""
    if of == to or of not in scores:
        return None
    pairs = sorted(scores[of].keys() & scores[to].keys())
    if not pairs:
        return None
    image = np.unique([file_name for file_name, _ in pairs], return_inverse=True)[1]
    first, second = (np.array([scores[key][pair] for pair in pairs]) for key in (of, to))
    return paired_difference(image, first, second)
