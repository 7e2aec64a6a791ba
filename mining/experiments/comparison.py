"""Compare the figures of all cells: means and spreads over seeds, and paired differences."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.evaluation.bootstrap import PairedDifference, paired_difference
from mining.evaluation.metrics.hits import IOU_THRESHOLD
from mining.experiments.cells import Cell

Key = tuple[str, str, tuple[float, ...]]  # corpus, variant, scales
PairScores = dict[tuple[str, str], float]  # by image and class: share of the seeds whose top box is a hit
STRICT_IOU = 0.7
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
        over_first_pyramid: Difference in CorLoc to the variant's first pyramid; None for that pyramid itself.
        over_first_pyramid_strictly: The same at IoU 0.7.
        train_seconds: Mean time of a training.
        mine_seconds: Mean time per image.
    """

    corpus: str
    variant: str
    scales: tuple[float, ...]
    seeds: int
    means: dict[str, float]
    spreads: dict[str, float | None]
    over_baseline: PairedDifference | None
    over_baseline_strictly: PairedDifference | None
    over_first_pyramid: PairedDifference | None
    over_first_pyramid_strictly: PairedDifference | None
    train_seconds: float
    mine_seconds: float


def compare(measured: Sequence[tuple[Cell, dict[str, Any]]], baseline: str | None) -> list[Row]:
    """Return one row per corpus, variant and pyramid, in the order of the cells.

    Args:
        measured: Cells and their figures.
        baseline: Name of the variant that the others are compared with, if any.
    """
    groups: dict[Key, list[dict[str, Any]]] = {}
    for cell, figures in measured:
        groups.setdefault((cell.corpus, cell.variant, cell.scales), []).append(figures)
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
                over_first_pyramid=_difference(scores[IOU_THRESHOLD], own_first, key),
                over_first_pyramid_strictly=_difference(scores[STRICT_IOU], own_first, key),
                train_seconds=statistics.mean(figures["train_seconds"] for figures in group),
                mine_seconds=statistics.mean(figures["mine_seconds"] / figures["images"] for figures in group),
            )
        )
    return rows


def _pair_scores(group: list[dict[str, Any]], threshold: float) -> PairScores:
    hits: dict[tuple[str, str], list[bool]] = {}
    for figures in group:
        for file_name, category, iou in figures["pairs"]:
            hits.setdefault((file_name, category), []).append(iou >= threshold)
    return {pair: statistics.mean(values) for pair, values in hits.items()}


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
