"""Calibration on mined runs with ground truth: error, and how well p_correct ranks boxes beside the score.

    python tests/benchmarks/trust.py --runs RUNS --data $BOXMINE_DATA [--splits test,train] [--json build/trust.json]

RUNS holds the run directories PACK-SPLIT-SEED of `--runs-named`, e.g. voc-test-0. Every figure is cross-fitted over images.
Figures are means over seeds; intervals (95 %) are a paired bootstrap over images, the boxes of all seeds of an image drawn
together.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import App
from sklearn.metrics import roc_auc_score

from mining.evaluation.bootstrap import percentile_interval, resample_image_counts
from mining.quality.calibration import calibrate
from mining.quality.correctness import judge_by_truth
from mining.quality.reliability import calibration_error, error_by_chance, localization_error
from mining.quality.table import read_boxes_with_quality
from mining.runs.run import Run

RESAMPLES = 1000

app = App(help="Calibration on mined runs with ground truth.")


@dataclass(frozen=True)
class Judged:
    """The judged boxes of one run: image, class, score, cross-fitted predictions, and what is true; each (n,)."""

    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    p_correct: np.ndarray
    expected_iou: np.ndarray
    is_correct: np.ndarray
    iou: np.ndarray


def cross_fit(runs: list[Path], truths: list[Path], seed: int) -> Judged:
    """Calibrate the boxes of one or several runs of different images together."""
    import pyarrow as pa

    tables = [read_boxes_with_quality(Run(run)) for run in runs]
    known = [judge_by_truth(Run(run), truth) for run, truth in zip(runs, truths, strict=True)]
    table = pa.concat_tables(tables, promote_options="permissive")
    correct, iou = (np.concatenate([getattr(one, name) for one in known]) for name in ("is_correct", "iou"))
    images = table["file_name"].to_pylist()
    predicted = calibrate(table, correct, iou, images, seed=seed).predict(table, images)
    columns = (np.array(images), np.array(table["category"].to_pylist()), table["score"].to_numpy())
    rows = np.isfinite(correct)
    return Judged(*(one[rows] for one in (*columns, predicted.p_correct, predicted.expected_iou, correct, iou)))


def figures(seeds: list[Judged]) -> dict[str, Any]:
    """Means over seeds, and the interval of the difference in AUROC."""
    rows: dict[str, list[float]] = {}
    for one in seeds:
        classes = np.unique(one.category, return_inverse=True)[1]
        for name, value in {
            "boxes": len(one.image),
            "correct": one.is_correct.mean(),
            "ece": calibration_error(one.p_correct, one.is_correct),
            "ece_by_chance": error_by_chance(one.p_correct),
            "laece": localization_error(one.expected_iou, one.iou, classes),
            "auroc": roc_auc_score(one.is_correct, one.p_correct),
            "auroc_of_score": roc_auc_score(one.is_correct, one.score),
        }.items():
            rows.setdefault(name, []).append(float(value))
    means = {name: float(np.mean(values)) for name, values in rows.items()}
    spread = {f"{name}_sd": float(np.std(rows[name], ddof=1)) for name in ("ece", "auroc") if len(seeds) > 1}
    return {**means, **spread, "gain": means["auroc"] - means["auroc_of_score"], "gain_ci95": gain_interval(seeds)}


def gain_interval(seeds: list[Judged]) -> list[float]:
    """Bootstrap the difference in AUROC, p_correct minus score, as a mean over seeds."""
    images = np.unique(np.concatenate([one.image for one in seeds]))
    rows = [np.searchsorted(images, one.image) for one in seeds]
    gains = []
    for counts in resample_image_counts(len(images), seed=0, resamples=RESAMPLES):
        for count in counts:
            gains.append(np.mean([_gain(one, count[row]) for one, row in zip(seeds, rows, strict=True)]))
    return percentile_interval(np.array(gains)[np.isfinite(gains)])


def _gain(one: Judged, weight: np.ndarray) -> float:
    use = weight > 0
    if len(np.unique(one.is_correct[use])) < 2:
        return float("nan")
    new, old = (
        roc_auc_score(one.is_correct[use], values[use], sample_weight=weight[use])
        for values in (one.p_correct, one.score)
    )
    return float(new - old)


@app.default
def main(
    *,
    runs: Path,
    data: Path,
    packs: str = "voc,objects7,groceries,fruits",
    splits: str = "test,train,both",
    seeds: int = 3,
    runs_named: str = "{pack}-{split}-{seed}",
    json_file: Path | None = None,
) -> None:
    """Print one row per set of images."""
    print("| images | boxes | correct | ECE | by chance | LaECE | AUROC of p_correct | of score | gain |")
    print("|---|---|---|---|---|---|---|---|---|")
    results = {}
    for pack in packs.split(","):
        for split in splits.split(","):
            parts = ("train", "test") if split == "both" else (split,)
            truths = [data / f"{pack}-mini" / f"instances_{part}.json" for part in parts]
            judged = [
                cross_fit([runs / runs_named.format(pack=pack, split=part, seed=seed) for part in parts], truths, seed)
                for seed in range(seeds)
            ]
            found = results[f"{pack}-mini {split}"] = figures(judged)
            low, high = found["gain_ci95"]
            print(
                f"| {pack}-mini {split} | {found['boxes']:.0f} | {found['correct']:.1%} | {found['ece']:.3f} ± "
                f"{found['ece_sd']:.3f} | {found['ece_by_chance']:.3f} | {found['laece']:.3f} | {found['auroc']:.3f} ± "
                f"{found['auroc_sd']:.3f} | {found['auroc_of_score']:.3f} | {found['gain']:+.3f} ({low:+.3f} to "
                f"{high:+.3f}){'*' if low > 0 or high < 0 else ''} |",
                flush=True,
            )
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    app()
