"""Signals and calibration on mined runs with ground truth.

    python tests/benchmarks/trust.py calibration --runs RUNS [--json-file build/trust.json]
    python tests/benchmarks/trust.py signals --runs RUNS     # how well each signal ranks right before wrong boxes
    python tests/benchmarks/trust.py verdicts --runs RUNS    # calibrated with 50, 100 and 200 verdicts
    python tests/benchmarks/trust.py carry --runs RUNS       # calibrated on train images, carried to test images

RUNS holds the run directories PACK-SPLIT-SEED, e.g. voc-test-0, mined with the defaults and models of that seed; the ground
truth is in BOXMINE_DATA. Every figure is cross-fitted over images, and a mean over seeds; intervals (95 %) are a paired
bootstrap over images, the boxes of all seeds of an image drawn together.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from cyclopts import App
from sklearn.metrics import log_loss, roc_auc_score

from mining.evaluation.bootstrap import percentile_interval, resample_image_counts
from mining.quality.calibration import calibrate
from mining.quality.correctness import Correctness, judge_by_truth
from mining.quality.reliability import calibration_error, error_by_chance, localization_error
from mining.quality.schema import SIGNALS
from mining.quality.table import read_boxes_with_quality
from mining.runs.run import Run

RESAMPLES = 1000
SEEDS = 3
DATA = Path(os.environ.get("BOXMINE_DATA", "../shared/data"))

app = App(help="Signals and calibration on mined runs with ground truth.")


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


def read_judged(
    runs: Path, pack: str, split: str, seed: int, agree_with: Path | None = None
) -> tuple[pa.Table, Correctness]:
    """The boxes of a run with their signals, and which are correct; agree_with: folder of runs of the same names."""
    run = Run(runs / f"{pack}-{split}-{seed}")
    other = None if agree_with is None else Run(agree_with / run.path.name)
    return read_boxes_with_quality(run, agree_with=other), judge_by_truth(
        run, DATA / f"{pack}-mini" / f"instances_{split}.json"
    )


def cross_fit(parts: list[tuple[pa.Table, Correctness]], seed: int) -> Judged:
    """Calibrate the boxes of one or several runs of different images together."""
    table = pa.concat_tables([part[0] for part in parts], promote_options="permissive")
    correct, iou = (np.concatenate([getattr(known, name) for _, known in parts]) for name in ("is_correct", "iou"))
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


@app.command
def calibration(
    *,
    runs: Path,
    packs: str = "voc,objects7,groceries,fruits",
    splits: str = "test,train,both",
    agree_with: Path | None = None,
    json_file: Path | None = None,
) -> None:
    """Error and ranking of cross-fitted predictions."""
    print("| images | split | boxes | correct | ECE | by chance | LaECE | AUROC of p_correct | of score | gain |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    results = {}
    for pack in packs.split(","):
        for split in splits.split(","):
            parts = ("train", "test") if split == "both" else (split,)
            judged = [
                cross_fit([read_judged(runs, pack, part, seed, agree_with) for part in parts], seed)
                for seed in range(SEEDS)
            ]
            found = results[f"{pack}-mini {split}"] = figures(judged)
            low, high = found["gain_ci95"]
            print(
                f"| {pack}-mini | {split} | {found['boxes']:.0f} | {found['correct']:.1%} | {found['ece']:.3f} ± "
                f"{found['ece_sd']:.3f} | {found['ece_by_chance']:.3f} | {found['laece']:.3f} | {found['auroc']:.3f} ± "
                f"{found['auroc_sd']:.3f} | {found['auroc_of_score']:.3f} | {found['gain']:+.3f} ({low:+.3f} to "
                f"{high:+.3f}){'*' if low > 0 or high < 0 else ''} |",
                flush=True,
            )
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n")


@app.command
def signals(*, runs: Path, packs: str = "voc,objects7,groceries,fruits", split: str = "train") -> None:
    """AUROC of right against wrong boxes of each signal, of the boxes that have it."""
    names = ("score", "class_score", "mean_probability", "cut_agreement", "map_agreement", *SIGNALS)
    print(f"| signal | {' | '.join(packs.split(','))} |")
    cells: dict[str, list[str]] = {name: [] for name in names}
    for pack in packs.split(","):
        judged = [read_judged(runs, pack, split, seed) for seed in range(SEEDS)]
        for name in names:
            values = [_signal_auroc(table, known, name) for table, known in judged]
            cells[name].append("" if np.isnan(values).any() else f"{np.mean(values):.2f}")
    for name, row in cells.items():
        print(f"| `{name}` | {' | '.join(row)} |")


def _signal_auroc(table: pa.Table, known: Correctness, name: str) -> float:
    values = np.array(table[name].to_numpy(zero_copy_only=False), np.float64)
    use = known.is_judged & np.isfinite(values)
    if len(np.unique(values[use])) < 2:
        return float("nan")
    return float(roc_auc_score(known.is_correct[use], values[use]))


@app.command
def verdicts(
    *, runs: Path, packs: str = "voc,objects7,groceries,fruits", split: str = "test", repeats: int = 10
) -> None:
    """Calibrate with few random verdicts and predict the other boxes; compared with the share of correct verdicts alone."""
    print(
        "| images | verdicts | log loss | of the share alone | AUROC of p_correct | of score |\n|---|---|---|---|---|---|"
    )
    for pack in packs.split(","):
        judged = [read_judged(runs, pack, split, seed) for seed in range(SEEDS)]
        for number in (50, 100, 200):
            rows = [_with_few(*judged[repeat % SEEDS], number, repeat) for repeat in range(repeats)]
            if all(row is not None for row in rows):
                print(f"| {pack}-mini | {number} | {' | '.join(f'{value:.3f}' for value in np.mean(rows, axis=0))} |")


def _with_few(table: pa.Table, known: Correctness, number: int, seed: int) -> list[float] | None:
    images, correct = table["file_name"].to_pylist(), known.is_correct
    order = np.random.default_rng(seed).permutation(np.flatnonzero(known.is_judged))
    shown, others = order[:number], order[number:]
    if len(others) < number / 4:
        return None
    given = np.full(len(correct), np.nan)
    given[shown] = correct[shown]
    p = calibrate(table, given, None, images, seed=seed).predict(table, images).p_correct[others]
    share = (correct[shown].sum() + 1) / (number + 2)
    score = table["score"].to_numpy()[others]
    return [
        log_loss(correct[others], p),
        log_loss(correct[others], np.full(len(others), share)),
        roc_auc_score(correct[others], p),
        roc_auc_score(correct[others], score),
    ]


@app.command
def carry(*, runs: Path, packs: str = "voc,objects7,groceries,fruits") -> None:
    """Calibrate on train images and predict test images, seed 0: which signals have moved, and the error then."""
    print("| calibrated on | predicted | signals that moved | ECE | by chance | AUROC of p_correct | of score |")
    print("|---|---|---|---|---|---|---|")
    for pack in packs.split(","):
        table, known = read_judged(runs, pack, "train", 0)
        fitted = calibrate(table, known.is_correct, known.iou, table["file_name"].to_pylist())
        targets = [(other, "test", 0) for other in packs.split(",")]
        for target in ((pack, "train", 1), *targets):
            table, known = read_judged(runs, *target)
            # by image, because seed 1 has the images that were calibrated on
            p, rows = fitted.predict(table, table["file_name"].to_pylist()).p_correct, known.is_judged
            correct, score = known.is_correct[rows], table["score"].to_numpy()[rows]
            moved = len(fitted.find_drift(table).moved)
            print(
                f"| {pack}-mini train | {target[0]}-mini {target[1]}, seed {target[2]} | {moved} | "
                f"{calibration_error(p[rows], correct):.3f} | {error_by_chance(p[rows]):.3f} | "
                f"{roc_auc_score(correct, p[rows]):.3f} | {roc_auc_score(correct, score):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    app()
