"""Simulate audits by whole images: how often the intervals of the number of objects and of the recall are right.

    python tests/benchmarks/object_simulation.py [--repeats 400] [--boxes 20000]

Uses the runs of audit_simulation.py, which are mined where they are missing. A reviewer who answers from the ground truth
lists every object without a correct box. Writes the figures to build/audit_objects.json and a table to stdout.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from audit_simulation import BUILD, generated, voc
from cyclopts import App
from experiments import DATA, ROOT

from mining.arrays import Floats, Ints
from mining.boxes.iou import iou_matrix
from mining.ground_truth.reading import read_ground_truth
from mining.quality.image_outcomes import RunImages
from mining.quality.image_sampling import draw_images, draws_per_stratum, stratify_images
from mining.quality.object_estimates import estimate_objects
from mining.quality.outcomes import CORRECT_IOU
from mining.runs.run import Run

LOOKED_AT = (20, 50, 100, 200)
SIMPLE_DRAWS = 400

app = App(help="Simulate audits by whole images.")


@dataclass(frozen=True)
class Images:
    """The N images of a run: (N,) number of mined boxes, of objects, and of objects with a correct box."""

    boxes: Ints
    objects: Floats
    found: Floats


@dataclass(frozen=True)
class Row:
    """Figures of one run and number of images: shares of the draws in 0-1, spreads relative to the number of objects."""

    run: str
    images: int
    objects: int
    recall: float
    looked_at: int
    covered: float
    covered_recall: float
    width: float
    width_recall: float
    spread: float
    simple_spread: float


@app.default
def main(*, repeats: int = 400, boxes: int = 20_000) -> None:
    """Mine what is missing, simulate, and print the table."""
    voc()
    generated(boxes)
    runs = {
        "voc-mini test": (BUILD / "voc" / "run", DATA / "voc-mini" / "instances_test.json"),
        "generated": (BUILD / "generated" / "run", BUILD / "generated" / "test" / "truth.json"),
    }
    rows = []
    for name, (run, truth) in runs.items():
        images = read_images(Run.open(run, finished=True), truth)
        rows += [simulate(name, images, count, repeats) for count in LOOKED_AT if count < len(images.boxes)]
    (ROOT / "build" / "audit_objects.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print_table(rows)


def read_images(run: Run, truth: Path) -> Images:
    """Count boxes, objects and found objects of a run's images; objects that are difficult or crowds are left out."""
    whole, images = read_ground_truth(truth), RunImages.read(run)
    place = {name: number for number, name in enumerate(images.names)}
    mined: dict[tuple[str, str], list[list[float]]] = {}
    for row in run.read_annotations(["file_name", "category", "x", "y", "w", "h"]).to_pylist():
        edges = [row["x"], row["y"], row["x"] + row["w"], row["y"] + row["h"]]
        mined.setdefault((row["file_name"], row["category"]), []).append(edges)
    objects, found = Counter[int](), Counter[int]()
    counted = whole.boxes.where(~whole.boxes.is_ignored)
    for image, category, box in zip(counted.image, counted.category, counted.xywh, strict=True):
        if (number := place.get(whole.file_names[image])) is None:
            continue
        boxes = mined.get((whole.file_names[image], whole.classes[category]), [])
        edges = np.concatenate([box[:2], box[:2] + box[2:]])
        objects[number] += 1
        found[number] += bool(boxes) and bool((iou_matrix([edges], boxes) >= CORRECT_IOU).any())
    counts = [np.array([one[number] for number in range(len(images.names))], np.float64) for one in (objects, found)]
    return Images(images.boxes, counts[0], counts[1])


def simulate(name: str, images: Images, looked_at: int, repeats: int) -> Row:
    """Draw and estimate many times."""
    total, recall = float(images.objects.sum()), float(images.found.sum() / images.objects.sum())
    strata = stratify_images(images.boxes)
    wanted = draws_per_stratum(images.boxes, strata, looked_at)
    found = []
    for seed in range(repeats):
        drawn = draw_images(strata, wanted, np.zeros(0, np.int64), np.random.default_rng(seed))
        one = estimate_objects(images.boxes, drawn, images.objects[drawn], images.found[drawn])
        assert one is not None
        assert one.recall_ci95 is not None
        found.append((one.value, *one.ci95, *one.recall_ci95))
    values, low, high, low_recall, high_recall = np.array(found).T
    random = np.random.default_rng(0)
    simple = [
        images.objects[random.choice(len(images.objects), looked_at, replace=False)].mean() * len(images.objects)
        for _ in range(SIMPLE_DRAWS)
    ]
    return Row(
        name, len(images.boxes), round(total), recall, looked_at,
        covered=float(np.mean((low <= total) & (total <= high))),
        covered_recall=float(np.mean((low_recall <= recall) & (recall <= high_recall))),
        width=float(np.mean(high - low) / total), width_recall=float(np.mean(high_recall - low_recall)),
        spread=float(values.std() / total), simple_spread=float(np.std(simple) / total),
    )  # fmt: skip


def print_table(rows: list[Row]) -> None:
    """Print the table of docs/guides/audit.md."""
    print(
        "| images of | images | objects | recall | looked at | covered, objects | width | spread | simple draw | covered, "
        "recall | width |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.run} | {row.images} | {row.objects} | {100 * row.recall:.1f} % | {row.looked_at} | "
            f"{100 * row.covered:.1f} % | {100 * row.width:.0f} % | {100 * row.spread:.1f} % | "
            f"{100 * row.simple_spread:.1f} % | {100 * row.covered_recall:.1f} % | {100 * row.width_recall:.1f} |"
        )


if __name__ == "__main__":
    app()
