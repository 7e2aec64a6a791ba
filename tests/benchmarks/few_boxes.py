"""How well a detector finds a class by the number of its true boxes: the trainings of `make proof`, class by class.

    python tests/benchmarks/few_boxes.py PROOF...      # folders of proofs, such as build/proof/voc-mini/proof

Each detector that learned from some of the true boxes is compared, class by class, with the one that learned from all of
them with the same seed. Of a proof's classes those count that the latter finds well enough to compare with, and of which
the former has fewer than 50 boxes.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cyclopts import App

from mining.config import parse
from mining.config.proof import ProofSettings
from mining.evaluation.metrics.voc import precision_recall_curves, rank_matches
from mining.ground_truth.reading import read_ground_truth
from mining.proof.figures import read_test_boxes
from mining.proof.folder import RECORD_FILE, test_run_of
from mining.proof.trainings import ALONE, Training, plan_trainings, training_set

BINS = ((0, 4), (5, 9), (10, 14), (15, 19), (20, 29), (30, 49))  # numbers of boxes
LEAST_AP = 0.2  # of the detector with all boxes, for a class to count

app = App(help="Say how well detectors find classes of which they have few boxes.")


@app.default
def main(*proofs: Path) -> None:
    """Print AP50 by number of boxes of the class, and as a share of that of all boxes."""
    rows = [row for proof in proofs for row in rows_of(proof)]
    print(
        "| boxes of the class | classes and seeds | AP50 | AP50 of all boxes | share, mean over classes (middle half) |"
    )
    print("|---|---|---|---|---|")
    for low, high in BINS:
        found = np.array([(some, every) for count, some, every in rows if low <= count <= high])
        if not len(found):
            continue
        shares = found[:, 0] / found[:, 1]
        quartiles = np.percentile(100 * shares, (25, 75))
        print(
            f"| {low} to {high} | {len(found)} | {100 * found[:, 0].mean():.1f} | {100 * found[:, 1].mean():.1f} | "
            f"{100 * shares.mean():.0f} % ({quartiles[0]:.0f} to {quartiles[1]:.0f}) |"
        )


def rows_of(proof: Path) -> Iterator[tuple[int, float, float]]:
    """Number of boxes of a class, its AP50, and that with all boxes, of each class of each finished training."""
    settings = parse(ProofSettings, json.loads((proof / RECORD_FILE).read_text())["settings"])
    every = {one.seed: ap_of_classes(settings, one) for one in plan_trainings(settings) if is_of_all(one)}
    for training in plan_trainings(settings):
        if training.boxes != ALONE or is_of_all(training):
            continue
        counts = boxes_of_classes(settings, training)
        for name, found in ap_of_classes(settings, training).items():
            if (whole := every[training.seed][name]) >= LEAST_AP:
                yield counts.get(name, 0), found, whole


def is_of_all(training: Training) -> bool:
    """Whether a training learns from all true boxes."""
    return training.boxes == ALONE and training.true_boxes is None


def boxes_of_classes(settings: ProofSettings, training: Training) -> dict[str, int]:
    """Number of boxes of each class that a training learns from."""
    found = training_set(settings, training).found
    places = np.concatenate([image.classes[image.weights > 0] for image in found.images])
    return {str(entry["name"]): int((places == place).sum()) for place, entry in enumerate(found.classes)}


def ap_of_classes(settings: ProofSettings, training: Training) -> dict[str, float]:
    """AP50 of each class on the test images, by name."""
    truth, predicted, _ = read_test_boxes(test_run_of(settings, training), read_ground_truth(settings.test.truth))
    curves = precision_recall_curves(truth.boxes, predicted, rank_matches(truth.boxes, predicted))
    return {truth.classes[place]: curve.average_precision_all_point() for place, curve in curves.items()}


if __name__ == "__main__":
    app()
