"""What the figures of all cells say: means, spreads, and differences pair by pair."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.evaluation.bootstrap import PairedDifference, paired_difference
from mining.evaluation.metrics.hits import IOU_THRESHOLD
from mining.experiments.cells import Cell

Key = tuple[str, str, tuple[float, ...]]  # corpus, variant, scales
Verdicts = dict[tuple[str, str], float]  # of a pair: the share of the seeds whose best-scored box is right
STRICT_IOU = 0.7
FIGURES = (
    "corloc", "corloc_0.3", "corloc_0.7", "max_box_acc_v2", "ap50", "instance_recall", "boxes_per_pair",
    "false_positives_per_image",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A variant at a pyramid on a corpus, over its seeds.

    means, spreads: of FIGURES; a spread is the standard deviation over seeds, None of one seed.
    over_baseline, over_first_pyramid: difference in CorLoc to the baseline at the same pyramid, and to the variant's
    own first pyramid; None for these themselves. `_strictly`: at IoU 0.7.
    train_seconds: a training. mine_seconds: an image.
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


def compared(measured: Sequence[tuple[Cell, dict[str, Any]]], baseline: str | None) -> list[Row]:
    """One row for each corpus, variant and pyramid, in the order of the cells."""
    groups: dict[Key, list[dict[str, Any]]] = {}
    for cell, figures in measured:
        groups.setdefault((cell.corpus, cell.variant, cell.scales), []).append(figures)
    verdicts = {
        iou: {key: _verdicts(group, iou) for key, group in groups.items()} for iou in (IOU_THRESHOLD, STRICT_IOU)
    }
    first = {(corpus, variant): scales for corpus, variant, scales in reversed(groups)}
    rows = []
    for key, group in groups.items():
        corpus, variant, scales = key
        values = {name: [float(figures[name]) for figures in group] for name in FIGURES}
        base, own_first = (corpus, baseline or "", scales), (corpus, variant, first[corpus, variant])
        rows.append(
            Row(
                *key,
                seeds=len(group),
                means={name: statistics.mean(found) for name, found in values.items()},
                spreads={name: statistics.stdev(found) if len(found) > 1 else None for name, found in values.items()},
                over_baseline=_difference(verdicts[IOU_THRESHOLD], base, key),
                over_baseline_strictly=_difference(verdicts[STRICT_IOU], base, key),
                over_first_pyramid=_difference(verdicts[IOU_THRESHOLD], own_first, key),
                over_first_pyramid_strictly=_difference(verdicts[STRICT_IOU], own_first, key),
                train_seconds=statistics.mean(figures["train_seconds"] for figures in group),
                mine_seconds=statistics.mean(figures["mine_seconds"] / figures["images"] for figures in group),
            )
        )
    return rows


def _verdicts(group: list[dict[str, Any]], threshold: float) -> Verdicts:
    hits: dict[tuple[str, str], list[bool]] = {}
    for figures in group:
        for file_name, category, iou in figures["pairs"]:
            hits.setdefault((file_name, category), []).append(iou >= threshold)
    return {pair: statistics.mean(found) for pair, found in hits.items()}


def _difference(verdicts: dict[Key, Verdicts], of: Key, to: Key) -> PairedDifference | None:
    """What the one has over the other, on the pairs of both; None where there is nothing to compare."""
    if of == to or of not in verdicts:
        return None
    pairs = sorted(verdicts[of].keys() & verdicts[to].keys())
    if not pairs:
        return None
    image = np.unique([file_name for file_name, _ in pairs], return_inverse=True)[1]
    first, second = (np.array([verdicts[key][pair] for pair in pairs]) for key in (of, to))
    return paired_difference(image, first, second)
