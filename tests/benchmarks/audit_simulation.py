"""Simulate audits of mined runs: reviewers who answer from the ground truth, many draws each.

    python tests/benchmarks/audit_simulation.py [--repeats 400] [--boxes 20000]

Mines the test images of voc-mini and a generated corpus with default settings, below build/audit/ (finished runs are
used again), and writes the figures to build/audit.json and a table to stdout.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from cyclopts import App
from experiments import DATA, ROOT

import boxmine
from mining.arrays import Bools, Floats, Ints
from mining.quality.correctness import judge_by_truth
from mining.quality.delivery import largest_subset
from mining.quality.estimates import FEWEST_FOR_SEQUENCE, Precision, Z, estimate_precision
from mining.quality.sampling import draw_boxes, stratify
from mining.runs.run import Run
from mining.synthetic import generate

BUILD = ROOT / "build" / "audit"
TRAINING_IMAGES = 160
BOXES_PER_IMAGE = 1.4  # of the generated corpus, a little less than are found
VERDICTS = (50, 100, 200)
PRECISIONS = (0.7, 0.8, 0.9)
LOOK_EVERY = 5

app = App(help="Simulate audits of mined runs.")


@dataclass(frozen=True)
class Population:
    """The boxes of a run: (N,) class, score, and whether each is correct."""

    category: Ints
    score: Floats
    is_correct: Bools


@dataclass(frozen=True)
class Row:
    """Figures of one run and number of verdicts: shares of the draws in 0-1, widths of the intervals in 0-1."""

    run: str
    boxes: int
    precision: float
    verdicts: int
    covered: float
    width: float
    simple_width: float
    worth: float
    covered_of_class: float
    boxes_of_class: int
    covered_throughout: float


@dataclass(frozen=True)
class Promise:
    """Figures of `export --min-precision` from 200 verdicts: shares of the draws, and of the boxes, in 0-1."""

    run: str
    asked: float
    kept: float
    delivered: float
    possible: float
    refused: float


@app.default
def main(*, repeats: int = 400, boxes: int = 20_000) -> None:
    """Mine what is missing, simulate, and print the table."""
    populations = {"voc-mini test": voc(), "generated": generated(boxes)}
    rows = [
        simulate(name, population, verdicts, repeats)
        for name, population in populations.items()
        for verdicts in VERDICTS
    ]
    promises = [promise(name, one, asked, repeats) for name, one in populations.items() for asked in PRECISIONS]
    figures = {"estimates": [asdict(row) for row in rows], "promises": [asdict(row) for row in promises]}
    (ROOT / "build" / "audit.json").write_text(json.dumps(figures, indent=1))
    print(
        "| boxes of | boxes | precision | verdicts | covered | width | simple draw | worth | covered, commonest class | stop |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.run} | {row.boxes} | {100 * row.precision:.1f} % | {row.verdicts} | {100 * row.covered:.1f} % | "
            f"{100 * row.width:.1f} | {100 * row.simple_width:.1f} | {row.worth:.0f} | "
            f"{100 * row.covered_of_class:.1f} % of {row.boxes_of_class} boxes | {100 * row.covered_throughout:.1f} % |"
        )

    print()
    print("| boxes of | precision asked for | kept | boxes delivered | at most possible | refused |")
    print("|---|---|---|---|---|---|")
    for one in promises:
        print(
            f"| {one.run} | {one.asked} | {100 * one.kept:.1f} % | {100 * one.delivered:.1f} % | "
            f"{100 * one.possible:.1f} % | {100 * one.refused:.1f} % |"
        )


def voc() -> Population:
    """The boxes of voc-mini's test images."""
    photos = DATA / "voc-mini"
    return mined(BUILD / "voc", photos / "images", photos / "train.csv", photos / "images", photos / "test.csv",
                 photos / "instances_test.json")  # fmt: skip


def generated(boxes: int) -> Population:
    """The boxes of a generated corpus."""
    train, test = BUILD / "generated" / "train", BUILD / "generated" / "test"
    generate(train, images=TRAINING_IMAGES)
    generate(test, images=int(boxes / BOXES_PER_IMAGE), start=TRAINING_IMAGES)
    return mined(BUILD / "generated", train / "images", train / "labels.csv", test / "images", test / "labels.csv",
                 test / "truth.json")  # fmt: skip


def mined(out: Path, images: Path, labels: Path, test_images: Path, test_labels: Path, truth: Path) -> Population:
    """Train and mine with default settings, and compare the boxes with the ground truth."""
    boxmine.train(images, labels=labels, out=out / "model")
    boxmine.mine(test_images, labels=test_labels, model=out / "model", out=out / "run")
    run = Run.open(out / "run", finished=True)
    table = run.read_annotations(["category_id", "score"])
    judged = judge_by_truth(run, truth)
    some = judged.is_judged
    category, score = table["category_id"].to_numpy().astype(np.int64), table["score"].to_numpy().astype(np.float64)
    return Population(category[some], score[some], judged.is_correct[some] > 0)


def simulate(name: str, population: Population, verdicts: int, repeats: int) -> Row:
    """Draw and estimate many times; see the columns in docs/guides/audit.md."""
    random = np.random.default_rng(0)
    strata, truth = stratify(population.category, population.score, verdicts), float(population.is_correct.mean())
    common = int(np.bincount(population.category).argmax())
    of_class = restricted(population, population.category == common)
    intervals, class_intervals, throughout, simple = [], [], [], []
    for _ in range(repeats):
        drawn = draw_boxes(strata, verdicts, random)
        intervals.append(estimated(population, drawn).ci95)
        throughout.append(is_covered_throughout(population, drawn, truth))
        inside = drawn[population.category[drawn] == common]
        members = np.flatnonzero(population.category == common)
        found = estimate_precision(
            of_class.category, of_class.score, np.searchsorted(members, inside), population.is_correct[inside]
        )
        if found is not None:
            class_intervals.append(found.ci95)
        simple.append(simple_width(population.is_correct, verdicts, random))
    width, width_of_simple = (float(np.mean(values)) for values in (np.ptp(intervals, axis=1), simple))
    return Row(
        name, len(population.score), truth, verdicts, coverage(intervals, truth), width, width_of_simple,
        verdicts * (width_of_simple / width) ** 2, coverage(class_intervals, float(of_class.is_correct.mean())),
        len(of_class.score), float(np.mean(throughout)),
    )  # fmt: skip


def promise(name: str, population: Population, asked: float, repeats: int) -> Promise:
    """Deliver the largest subset of a promised precision, many times; `possible` is what knowing the truth allows."""
    random, verdicts = np.random.default_rng(1), VERDICTS[-1]
    strata = stratify(population.category, population.score, verdicts)
    kept, delivered = [], []
    for _ in range(repeats):
        drawn = draw_boxes(strata, verdicts, random)
        subset, _tested = largest_subset(
            population.category, population.score, drawn, population.is_correct[drawn], asked
        )
        inside = population.score >= (np.inf if subset is None else subset.min_score)
        kept.append(subset is None or population.is_correct[inside].mean() >= asked)
        delivered.append(inside.mean())
    ranked = population.is_correct[np.argsort(-population.score, kind="stable")]
    precise = np.flatnonzero(np.cumsum(ranked) >= asked * np.arange(1, len(ranked) + 1))
    possible = (precise[-1] + 1) / len(ranked) if len(precise) else 0.0
    refused = float(np.mean([share == 0 for share in delivered]))
    return Promise(name, asked, float(np.mean(kept)), float(np.mean(delivered)), float(possible), refused)


def restricted(population: Population, some: Bools) -> Population:
    """Return the population of some boxes."""
    return Population(population.category[some], population.score[some], population.is_correct[some])


def estimated(population: Population, drawn: Ints) -> Precision:
    """Return the estimate from the drawn boxes."""
    found = estimate_precision(population.category, population.score, drawn, population.is_correct[drawn])
    assert found is not None
    return found


def is_covered_throughout(population: Population, drawn: Ints, truth: float) -> bool:
    """Whether the interval that is valid at any time has the truth at every look."""
    looks = (estimated(population, drawn[:n]) for n in range(FEWEST_FOR_SEQUENCE, len(drawn) + 1, LOOK_EVERY))
    return all(one.ci95_any_time is not None and one.ci95_any_time[0] <= truth <= one.ci95_any_time[1] for one in looks)


def simple_width(is_correct: Bools, verdicts: int, random: np.random.Generator) -> float:
    """Width of Wilson's interval from a simple random draw, with the correction for a finite population."""
    share = float(is_correct[random.choice(len(is_correct), verdicts, replace=False)].mean())
    effective = verdicts / (1 - verdicts / len(is_correct))
    root = np.sqrt(share * (1 - share) / effective + Z**2 / (4 * effective**2))
    return float(2 * Z / (1 + Z**2 / effective) * root)


def coverage(intervals: list[tuple[float, float]], truth: float) -> float:
    """Share of the intervals that have the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


if __name__ == "__main__":
    app()
