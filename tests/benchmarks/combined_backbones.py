"""Combined boxes of localizers with different backbones, against each of them; Markdown tables on the terminal.

    python tests/benchmarks/combined_backbones.py [--packs voc-mini] [--seed 0]

For each pack a localizer per backbone is trained on the train labels and mines both parts. Finished models and runs in
build/combined are used again.
"""

from itertools import pairwise
from pathlib import Path

from cyclopts import App
from experiments import ROOT, dataset_part

import boxmine

BUILD = ROOT / "build" / "combined"
BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")

app = App(help="Combine localizers with different backbones, and compare the boxes with those of each.")


@app.default
def main(*, packs: str = "voc-mini,objects7-mini,groceries-mini,fruits-mini", seed: int = 0) -> None:
    """Train, mine and combine what is missing, and print both tables."""
    gains, levels = [], []
    for pack in packs.split(","):
        for part in ("train", "test"):
            truth = dataset_part(pack, part)[2]
            runs = [mined(pack, part, backbone, seed) for backbone in BACKBONES]
            folder = BUILD / pack
            combined = [
                boxmine.fuse(runs, folder / f"{part}-{seed}-of-{number}", min_runs=number)
                for number in range(1, len(runs) + 1)
            ]
            gains.append([f"{pack} {part}", *gain_of(runs, combined[0], truth)])
            levels.append([f"{pack} {part}", *precision_by_runs(combined, truth)])
    print_table(["images", *BACKBONES, "combined", *(f"over {name}" for name in BACKBONES), "recall"], gains)
    print_table(["images", "found by one", "two", "three"], levels)


def mined(pack: str, part: str, backbone: str, seed: int) -> boxmine.Run:
    """Return the run of a part of a pack, with a localizer that learned from its train part."""
    images, labels, _ = dataset_part(pack, "train")
    model = BUILD / pack / f"{backbone}-{seed}"
    boxmine.train(images, labels=labels, out=model, backbone=backbone, seed=seed)
    return boxmine.mine(images, labels=dataset_part(pack, part)[1], model=model, out=Path(f"{model}-{part}"))


def gain_of(runs: list[boxmine.Run], combined: boxmine.Run, truth: str) -> list[str]:
    """CorLoc of each run and of the combined one, the paired differences, and the recall at one false box per image."""
    scores = [run.score(truth) for run in (*runs, combined)]
    cells = [f"{100 * one['corloc']['value']:.1f}" for one in scores]
    for run in runs:
        found = run.compare(combined, truth)["truth"]["corloc_0.5"]
        low, high = found["ci95"]
        star = "*" if found["is_clear"] else ""
        cells.append(f"{100 * found['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}){star}")
    return [*cells, ", ".join(f"{100 * one['corloc']['instance_recall_at_1_fp']:.1f}" for one in scores)]


def precision_by_runs(combined: list[boxmine.Run], truth: str) -> list[str]:
    """Precision of the boxes that exactly one run found, that exactly two found, and so on, in per cent.

    Args:
        combined: The combined runs of boxes that at least one run found, at least two, and so on.
        truth: Ground truth.
    """
    scored = [run.score(truth)["precision"] for run in combined]
    counts = [(one["correct"], one["boxes"]) for one in scored] + [(0, 0)]
    return [
        f"{100 * (right - right_of_more) / max(1, boxes - boxes_of_more):.0f}"
        for (right, boxes), (right_of_more, boxes_of_more) in pairwise(counts)
    ]


def print_table(headings: list[str], rows: list[list[str]]) -> None:
    """Print rows as a Markdown table."""
    print("", f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}", sep="\n")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    app()
