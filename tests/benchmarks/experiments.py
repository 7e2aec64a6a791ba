"""Run every localizer and every ablation on real images; tables on the terminal and in build/experiments/RECIPE/.

    python tests/benchmarks/experiments.py [--recipes refinement,ablations/msrd] [--datasets voc-mini] [--seeds 0,1,2]
    python tests/benchmarks/experiments.py --recipes precision     # about an hour on two cores, with its trainings

Trains on the training labels only and scores on the test images; `precision`, which changes no model, on both parts of
all datasets. Finished measurements are not repeated.
"""

import json
import os
import sys
from pathlib import Path

from cyclopts import App

from flows.cli.application import run_command
from mining.synthetic import generate

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BOXMINE_DATA", ROOT.parent / "shared" / "data"))
RECIPES = ROOT / "deployments" / "recipes"
RESULTS = ROOT / "build" / "experiments"

DATASETS = "objects7-mini,voc-mini"
EVERY_DATASET = f"{DATASETS},fruits-mini,groceries-mini,generated"

app = App(help="Run every localizer and every ablation on real images.")


def corpora_of(name: str, *, with_train: bool) -> dict[str, object]:
    """Describe a dataset as in an experiment's recipe; `generated` is made where it is missing.

    Args:
        name: Its name.
        with_train: Whether its training images are mined and scored too, with the same models.
    """
    part_of = generated_part if name == "generated" else dataset_part
    images, labels, truth = part_of(name, "train")
    test_images, test_labels, test_truth = part_of(name, "test")
    trained = {"images": images, "labels": labels}
    corpora: dict[str, object] = {
        name: {**trained, "test": {"images": test_images, "labels": test_labels}, "truth": test_truth}
    }
    return {**corpora, f"{name} train": {**trained, "truth": truth}} if with_train else corpora


def dataset_part(name: str, part: str) -> tuple[str, str, str]:
    """Return images, labels and ground truth of a dataset's `train` or `test` part."""
    folder = DATA / name
    return str(folder / "images"), str(folder / f"{part}.csv"), str(folder / f"instances_{part}.json")


def generated_part(name: str, part: str) -> tuple[str, str, str]:
    """Return the same of the generated corpus, after making it."""
    folder = RESULTS / name / part
    generate(folder, images=160, start=0 if part == "train" else 160)
    return str(folder / "images"), str(folder / "labels.csv"), str(folder / "truth.json")


@app.default
def main(*, recipes: str = "", datasets: str = "", seeds: str = "0,1,2") -> int:
    """Run what is missing and print all tables; returns the highest exit code."""
    everything = [
        "refinement",
        "scales",
        "localizers",
        "precision",
        *sorted(f"ablations/{path.stem}" for path in (RECIPES / "ablations").glob("*.yaml")),
    ]
    code = 0
    for name in recipes.split(",") if recipes else everything:
        print(f"{name}:", file=sys.stderr)
        on_both_parts = name in ("precision", "scales")
        names = (datasets or (EVERY_DATASET if on_both_parts else DATASETS)).split(",")
        corpora = {key: one for some in names for key, one in corpora_of(some, with_train=on_both_parts).items()}
        recipe, out = RECIPES / f"{name}.yaml", RESULTS / Path(name).name
        changes = ["--set", f"corpora={json.dumps(corpora)}", "--set", f"seeds=[{seeds}]"]
        code = max(code, run_command(["experiment", str(recipe), "--out", str(out), *changes]))
    return code


if __name__ == "__main__":
    sys.exit(app())
