"""How a detector should learn from mined boxes: its AP50 without one part of the rules at a time; a Markdown table.

    python tests/benchmarks/detector_variants.py [--pack generated] [--seeds 0,1,2] [--variants "as it is,equal weights"]

For each seed a localizer is trained on image labels alone and mines the training images (those of `make proof` are used
again). Then a detector learns from the boxes in each variant, and is tested on the test images. Finished trainings in
build/variants are used again; interrupted ones are resumed. A training takes about 3 minutes of one core on the
generated images, 12 on voc-mini.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import App
from experiments import ROOT, dataset_part, generated_part
from proof import BUILD as PROOF
from proof import SIDE, mined

import boxmine
from flows.cli.application import run_command
from mining.bootstrap.training_boxes import TrainingBoxes, boxes_of_run
from mining.config import DetectorSettings
from mining.corpus.listing import write_unlabelled_listing
from mining.detection.boxed_images import BoxedImage
from mining.detection.training import train_detector
from mining.ground_truth.reading import read_ground_truth
from mining.proof.figures import Precision, Resamples, difference, estimate, read_test_boxes
from mining.proof.simulated_review import review
from mining.runs.run import CALIBRATION_FILE, Run

BUILD = ROOT / "build" / "variants"
BASE = "as it is"
VERDICTS = 200

app = App(help="Say how a detector should learn from mined boxes.")


def with_equal_weights(image: BoxedImage) -> BoxedImage:
    """All boxes count alike."""
    return replace(image, weights=np.ones_like(image.weights))


def with_nothing_ignored(image: BoxedImage) -> BoxedImage:
    """What is not in a box is background."""
    return replace(image, ignored=image.ignored[:0])


def with_best_boxes(image: BoxedImage) -> BoxedImage:
    """Of each class only the box of the highest weight; the others are ignored."""
    order = np.lexsort((-image.weights, image.classes))
    kept = np.zeros(len(order), bool)
    kept[order[np.unique(image.classes[order], return_index=True)[1]]] = True
    return replace(
        image, boxes=image.boxes[kept], classes=image.classes[kept], weights=image.weights[kept],
        ignored=np.concatenate([image.ignored, image.boxes[~kept]]),
    )  # fmt: skip


# name: how the images are changed, and the settings of the detector
VARIANTS: dict[str, tuple[Callable[[BoxedImage], BoxedImage], dict[str, Any]]] = {
    BASE: (lambda image: image, {}),
    "equal weights": (with_equal_weights, {}),
    f"weights from {VERDICTS} verdicts": (lambda image: image, {}),
    "nothing ignored": (with_nothing_ignored, {}),
    "best boxes only": (with_best_boxes, {}),
    "drop_share 0.3": (lambda image: image, {"drop_share": 0.3}),
    "ema_decay 0.99": (lambda image: image, {"ema_decay": 0.99}),
}


@app.default
def main(
    *,
    pack: str = "generated",
    seeds: str = "0,1,2",
    variants: str = "",
    side: int = SIDE,
    epochs: int = 20,
    precision: str = "auto",
) -> None:
    """Train and test what is missing, and print the table."""
    part_of = generated_part if pack == "generated" else dataset_part
    images, labels, truth = part_of(pack, "train")
    test_images, _, test_truth = part_of(pack, "test")
    detector = {"side": side, "epochs": epochs, "precision": precision}
    whole = read_ground_truth(Path(test_truth))
    measured: dict[str, dict[int, Precision]] = {}
    for seed in map(int, seeds.split(",")):
        run = mined(PROOF / pack, seed, images, labels)
        for name in variants.split(",") if variants else VARIANTS:
            change, changes = VARIANTS[name]
            boxes = boxes_of_run(judged(run, truth, pack, seed) if "verdicts" in name else Run(run))
            folder = BUILD / pack / f"{name.replace(' ', '-')}-{seed}"
            changed = replace(boxes, images=[change(image) for image in boxes.images])
            test = tested(
                changed, DetectorSettings(seed=seed, **detector, **changes), test_images, whole.file_names, folder
            )
            found, predicted, _ = read_test_boxes(test, whole)
            resamples = Resamples(len(found.file_names), 1000)
            measured.setdefault(name, {})[seed] = resamples.measure(found.boxes, predicted)
            print(f"{name}, seed {seed}: AP50 {100 * measured[name][seed].ap50:.1f}", flush=True)
    print_table(measured)


def judged(run: Path, truth: str, pack: str, seed: int) -> Run:
    """Return a copy of a run with verdicts on boxes drawn at random, and probabilities of being correct from them."""
    folder = BUILD / pack / f"review-{seed}"
    review(run, Path(truth), VERDICTS, seed, folder)
    copy = Run(folder / "run")
    if not (copy.path / CALIBRATION_FILE).is_file():
        assert run_command(["audit", "calibrate", str(copy.path)]) == 0
    return copy


def tested(found: TrainingBoxes, settings: DetectorSettings, images: str, names: Iterable[str], folder: Path) -> Path:
    """Train a detector unless it is trained, and return its run of the test images, whose labels it does not see."""
    train_detector(settings, found.images, found.classes, folder / "detector")
    listing = folder / "names.csv"
    write_unlabelled_listing(names, listing)
    run = boxmine.mine(
        images, labels=listing, model=folder / "detector", out=folder / "test", min_score=0.01, min_area=0.0,
        max_aspect=1e6,
    )  # fmt: skip
    return run.path


def print_table(measured: dict[str, dict[int, Precision]]) -> None:
    """Print mean AP50 and AP of each variant, and what it changes against the first one, with 95 % intervals."""
    print("", "| the detector learns | AP50 | AP | change of AP50 |", "|---|---|---|---|", sep="\n")
    base = measured.get(BASE)
    for name, of in measured.items():
        half, whole = (estimate(list(of.values()), figure) for figure in ("ap50", "ap"))
        change = ""
        if base is not None and name != BASE:
            one = difference(base, of)
            low, high = one.ci95
            change = f"{100 * one.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        print(f"| {name} | {100 * half.value:.1f} | {100 * whole.value:.1f} | {change} |")


if __name__ == "__main__":
    app()
