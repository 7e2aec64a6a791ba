"""Simulate audits of mined runs: reviewers who answer from the ground truth, many draws each.

    python tests/benchmarks/audit_simulation.py [--repeats 400] [--boxes 20000]

Mines the test images of voc-mini and a generated corpus with default settings, below build/audit/ (finished runs are
used again), and writes the figures to build/audit.json, tables to stdout, and a picture to docs/images/.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from cyclopts import App
from experiments import DATA, ROOT

import boxmine
from mining.arrays import Bools, Ints
from mining.quality.correctness import judge_by_truth
from mining.quality.delivery import largest_subset
from mining.quality.estimates import FEWEST_FOR_SEQUENCE, Precision, Sample, Z, estimate_precision
from mining.quality.expectations import expected_outcomes
from mining.quality.sampling import draw_boxes, stratify
from mining.quality.table import read_boxes_with_quality
from mining.runs.run import Run
from mining.synthetic import generate

BUILD = ROOT / "build" / "audit"
PICTURE = ROOT / "docs" / "images" / "audit.svg"
TRAINING_IMAGES = 160
BOXES_PER_IMAGE = 1.4  # of the generated corpus, a little less than are found
VERDICTS = (50, 100, 200)
MANY = (400, 800)  # of a run with enough boxes
PRECISIONS = (0.6, 0.7, 0.8, 0.85, 0.9)
IN_THE_TABLE = (0.7, 0.8, 0.9)
VERDICTS_OF_A_CLASS = 10  # expected, for the figures over classes
SIMPLE_DRAWS = 4000
LOOK_EVERY, LOOKED_AT = 25, 0.25  # verdicts; share of the draws

app = App(help="Simulate audits of mined runs.")


@dataclass(frozen=True)
class Population:
    """The boxes of a run with their signals, and (N,) whether each is correct."""

    boxes: pa.Table
    is_correct: Bools

    def column(self, name: str) -> Any:
        """(N,) values of a column."""
        return self.boxes[name].to_numpy()

    def sample(self, drawn: Ints) -> Sample:
        """Return what a reviewer of these boxes says."""
        verdicts = self.is_correct[drawn]
        return Sample(expected_outcomes(self.boxes, self.images, drawn, verdicts), drawn, verdicts)

    @cached_property
    def images(self) -> list[str]:
        """File name of each box's image."""
        return list(self.boxes["file_name"].to_pylist())


@dataclass(frozen=True)
class Row:
    """Figures of one run and number of verdicts: shares of the draws in 0-1, widths of the intervals in 0-1."""

    run: str
    boxes: int
    precision: float
    verdicts: int
    covered: float
    bias: float
    width: float
    simple_width: float
    worth: float
    boxes_of_class: int
    covered_of_class: float
    classes: int
    covered_of_classes: float | None
    covered_of_worst: float | None
    covered_throughout: float


@dataclass(frozen=True)
class Promise:
    """Figures of `export --min-precision`: shares of the draws, and of the boxes, in 0-1."""

    run: str
    verdicts: int
    asked: float
    kept: float
    delivered: float
    possible: float
    refused: float


@app.default
def main(*, repeats: int = 400, boxes: int = 20_000) -> None:
    """Mine what is missing, simulate, print the tables and draw the picture."""
    found = generated(boxes)
    populations = {"voc-mini test": voc(), "generated": found}
    for name, change in (("signals without meaning", shuffled), ("signals reversed", turned)):
        populations[f"generated, {name}"] = replace(found, is_correct=change(found))
    rows, promises = [], []
    for name, population in populations.items():
        for verdicts in verdicts_of(name):
            row, kept = simulate(name, population, verdicts, repeats)
            rows.append(row)
            promises += kept
            print(row, flush=True)
    figures = {"estimates": [asdict(row) for row in rows], "promises": [asdict(one) for one in promises]}
    (ROOT / "build" / "audit.json").write_text(json.dumps(figures, indent=1))
    print_tables(rows, promises)
    draw(rows, promises)


def verdicts_of(name: str) -> tuple[int, ...]:
    """Numbers of verdicts that are simulated for a run."""
    return {"voc-mini test": VERDICTS, "generated": (*VERDICTS, *MANY)}.get(name, (VERDICTS[0], VERDICTS[-1]))


def voc() -> Population:
    """The boxes of voc-mini's test images."""
    photos = DATA / "voc-mini"
    return mined(BUILD / "voc", photos / "images", photos / "train.csv", photos / "images", photos / "test.csv",
                 photos / "instances_test.json")  # fmt: skip


def generated(boxes: int) -> Population:
    """The boxes of a generated corpus."""
    train, test = BUILD / "generated" / "train", BUILD / "generated" / "test"
    for folder, images, start in ((train, TRAINING_IMAGES, 0), (test, int(boxes / BOXES_PER_IMAGE), TRAINING_IMAGES)):
        if not (folder / "truth.json").is_file():
            generate(folder, images=images, start=start)
    return mined(BUILD / "generated", train / "images", train / "labels.csv", test / "images", test / "labels.csv",
                 test / "truth.json")  # fmt: skip


def mined(out: Path, images: Path, labels: Path, test_images: Path, test_labels: Path, truth: Path) -> Population:
    """Train and mine with default settings, and compare the boxes with the ground truth."""
    boxmine.train(images, labels=labels, out=out / "model")
    boxmine.mine(test_images, labels=test_labels, model=out / "model", out=out / "run")
    run = Run.open(out / "run", finished=True)
    judged = judge_by_truth(run, truth)
    some = judged.is_judged
    return Population(read_boxes_with_quality(run).filter(pa.array(some)), judged.is_correct[some] > 0)


def shuffled(population: Population) -> Bools:
    """Outcomes of as many boxes of each class, but of any of them."""
    outcome, random = population.is_correct.copy(), np.random.default_rng(2)
    for members in members_of_classes(population):
        outcome[members] = random.permutation(outcome[members])
    return outcome


def turned(population: Population) -> Bools:
    """Outcomes of as many boxes of each class, the best-scored ones being what the worst-scored ones were."""
    outcome, score = population.is_correct.copy(), population.column("score")
    for members in members_of_classes(population):
        ranked = members[np.argsort(score[members], kind="stable")]
        outcome[ranked] = outcome[ranked[::-1]]
    return outcome


def members_of_classes(population: Population) -> list[Ints]:
    category = population.column("category_id")
    return [np.flatnonzero(category == one) for one in np.unique(category)]


def simulate(name: str, population: Population, verdicts: int, repeats: int) -> tuple[Row, list[Promise]]:
    """Draw and estimate many times; see the columns in docs/guides/audit.md."""
    random = np.random.default_rng(0)
    category, truth = population.column("category_id").astype(np.int64), float(population.is_correct.mean())
    strata = stratify(category, population.column("score").astype(np.float64), verdicts)
    samples = [population.sample(draw_boxes(strata, verdicts, random)) for _ in range(repeats)]
    found = [estimated(sample) for sample in samples]
    looked_at = samples[: int(np.ceil(LOOKED_AT * repeats))]
    throughout = float(np.mean([is_covered_throughout(population, sample, truth) for sample in looked_at]))
    simple = float(np.mean([simple_width(population.is_correct, verdicts, random) for _ in range(SIMPLE_DRAWS)]))
    width = float(np.mean([np.ptp(one.ci95) for one in found]))
    classes = np.bincount(category)
    by_class = {int(one): class_coverage(population, samples, category == one) for one in np.flatnonzero(classes)}
    enough = [by_class[one] for one in by_class if verdicts * classes[one] / len(category) >= VERDICTS_OF_A_CLASS]
    common = int(classes.argmax())
    row = Row(
        run=name, boxes=len(category), precision=truth, verdicts=verdicts,
        covered=coverage([one.ci95 for one in found], truth), bias=float(np.mean([one.value for one in found])) - truth,
        width=width, simple_width=simple, worth=verdicts * (simple / width) ** 2,
        boxes_of_class=int(classes[common]), covered_of_class=by_class[common],
        classes=len(enough), covered_of_classes=float(np.mean(enough)) if enough else None,
        covered_of_worst=min(enough, default=None), covered_throughout=throughout,
    )  # fmt: skip
    precisions = PRECISIONS if verdicts >= VERDICTS[-1] else ()
    return row, [promise(name, population, samples, asked) for asked in precisions]


def class_coverage(population: Population, samples: list[Sample], members: Bools) -> float:
    """Share of the draws whose interval of a class has the truth; draws without an interval do not count."""
    found = (estimate_precision(sample.of(members)) for sample in samples)
    return coverage([one.ci95 for one in found if one is not None], float(population.is_correct[members].mean()))


def promise(name: str, population: Population, samples: list[Sample], asked: float) -> Promise:
    """Deliver the largest subset of a promised precision, many times; `possible` is what knowing the truth allows."""
    score = population.column("score").astype(np.float64)
    kept, delivered = [], []
    for sample in samples:
        subset, _tested = largest_subset(score, sample, asked)
        inside = score >= (np.inf if subset is None else subset.min_score)
        kept.append(subset is None or population.is_correct[inside].mean() >= asked)
        delivered.append(inside.mean())
    ranked = population.is_correct[np.argsort(-score, kind="stable")]
    precise = np.flatnonzero(np.cumsum(ranked) >= asked * np.arange(1, len(ranked) + 1))
    possible = (precise[-1] + 1) / len(ranked) if len(precise) else 0.0
    refused = float(np.mean([share == 0 for share in delivered]))
    verdicts = len(samples[0].judged)
    return Promise(name, verdicts, asked, float(np.mean(kept)), float(np.mean(delivered)), float(possible), refused)


def estimated(sample: Sample) -> Precision:
    """Return the estimate from a sample."""
    found = estimate_precision(sample)
    assert found is not None
    return found


def is_covered_throughout(population: Population, sample: Sample, truth: float) -> bool:
    """Whether the interval that is valid at any time has the truth at every look."""
    drawn = sample.judged
    last = min(len(drawn), VERDICTS[-1])
    looks = (population.sample(drawn[:n]) for n in range(FEWEST_FOR_SEQUENCE, last + 1, LOOK_EVERY))
    intervals = (estimated(look).ci95_any_time for look in looks)
    return all(one is not None and one[0] <= truth <= one[1] for one in intervals)


def simple_width(is_correct: Bools, verdicts: int, random: np.random.Generator) -> float:
    """Width of Wilson's interval from a simple random draw, with the correction for a finite population."""
    share = float(is_correct[random.choice(len(is_correct), verdicts, replace=False)].mean())
    effective = verdicts / (1 - verdicts / len(is_correct))
    root = np.sqrt(share * (1 - share) / effective + Z**2 / (4 * effective**2))
    return float(2 * Z / (1 + Z**2 / effective) * root)


def coverage(intervals: list[tuple[float, float]], truth: float) -> float:
    """Share of the intervals that have the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def print_tables(rows: list[Row], promises: list[Promise]) -> None:
    """Print both tables of docs/guides/audit.md."""
    print(
        "| boxes of | boxes | precision | verdicts | covered | width | simple draw | worth | covered, commonest class | "
        "covered, classes | worst | stop |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        classes = "- | -"
        if row.covered_of_classes is not None and row.covered_of_worst is not None:
            classes = f"{100 * row.covered_of_classes:.1f} % of {row.classes} | {100 * row.covered_of_worst:.1f} %"
        print(
            f"| {row.run} | {row.boxes} | {100 * row.precision:.1f} % | {row.verdicts} | {100 * row.covered:.1f} % | "
            f"{100 * row.width:.1f} | {100 * row.simple_width:.1f} | {row.worth:.0f} | "
            f"{100 * row.covered_of_class:.1f} % of {row.boxes_of_class} boxes | {classes} | "
            f"{100 * row.covered_throughout:.1f} % |"
        )

    print()
    print("| boxes of | verdicts | precision asked for | kept | boxes delivered | at most possible | refused |")
    print("|---|---|---|---|---|---|---|")
    for one in promises:
        if one.asked in IN_THE_TABLE:
            print(
                f"| {one.run} | {one.verdicts} | {one.asked} | {100 * one.kept:.1f} % | {100 * one.delivered:.1f} % | "
                f"{100 * one.possible:.1f} % | {100 * one.refused:.1f} % |"
            )


def draw(rows: list[Row], promises: list[Promise]) -> None:
    """Plot coverage and width against the number of verdicts, and the delivered share against the promise."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "boxmine"
    figure, (covered, width, share) = plt.subplots(1, 3, figsize=(12, 4.2))
    covered.axhspan(93, 97, color="0.9")
    for number, run in enumerate(("voc-mini test", "generated")):
        of_run, colour = [row for row in rows if row.run == run], f"C{number}"
        verdicts = [row.verdicts for row in of_run]
        for axes, name, style, label in (
            (covered, "covered", "o-", "all boxes"), (covered, "covered_of_class", "s:", "commonest class"),
            (width, "width", "o-", "stratified, with expectations"), (width, "simple_width", "--", "simple draw"),
        ):  # fmt: skip
            values = [100 * getattr(row, name) for row in of_run]
            axes.plot(verdicts, values, style, color=colour, ms=4, label=f"{run}, {label}")
        kept = [one for one in promises if one.run == run]
        share.plot(
            PRECISIONS, [100 * one.possible for one in kept[: len(PRECISIONS)]], "--", color=colour,
            label=f"{run}, at most possible",
        )  # fmt: skip
        for line, shade in zip(sorted({one.verdicts for one in kept}), (1.0, 0.65, 0.35), strict=False):
            delivered = [100 * one.delivered for one in kept if one.verdicts == line]
            share.plot(PRECISIONS, delivered, "o-", color=colour, alpha=shade, ms=4, label=f"{run}, {line} verdicts")
    covered.set(ylim=(88, 100), ylabel="intervals that have the true precision, %", title="How often it is right")
    width.set(ylim=(0, None), ylabel="width of the interval, points", title="How narrow it is")
    for axes in (covered, width):
        axes.set(xscale="log", xlabel="verdicts")
        axes.set_xticks((*VERDICTS, *MANY), [str(number) for number in (*VERDICTS, *MANY)])
        axes.minorticks_off()
    share.set(ylim=(0, 103), xlabel="precision asked for", ylabel="boxes exported, %", title="--min-precision")
    for axes in (covered, width, share):
        axes.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    app()
