"""Run every localizer and every ablation on real images; tables on the terminal and in build/experiments/RECIPE/.

    python tests/benchmarks/experiments.py [--recipes refinement,ablations/msrd] [--datasets voc-mini] [--seeds 0,1,2]

Trains on the training labels only and scores on the test images. Finished measurements are not repeated.
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

app = App(help="Run every localizer and every ablation on real images.")


def corpus_of(name: str) -> dict[str, object]:
    """Describe a dataset as in an experiment's recipe; `generated` is made where it is missing."""
    if name == "generated":
        train, test = (RESULTS / "generated" / part for part in ("train", "test"))
        for folder, start in ((train, 0), (test, 160)):
            generate(folder, images=160, start=start)
        return {
            "images": str(train / "images"),
            "labels": str(train / "labels.csv"),
            "test": {"images": str(test / "images"), "labels": str(test / "labels.csv")},
            "truth": str(test / "truth.json"),
        }
    dataset = DATA / name
    return {
        "images": str(dataset / "images"),
        "labels": str(dataset / "train.csv"),
        "test": {"labels": str(dataset / "test.csv")},
        "truth": str(dataset / "instances_test.json"),
    }


@app.default
def main(*, recipes: str = "", datasets: str = "objects7-mini,voc-mini", seeds: str = "0,1,2") -> int:
    """Run what is missing and print all tables; returns the highest exit code."""
    everything = [
        "refinement",
        "localizers",
        *sorted(f"ablations/{path.stem}" for path in (RECIPES / "ablations").glob("*.yaml")),
    ]
    corpora = json.dumps({name: corpus_of(name) for name in datasets.split(",")})
    code = 0
    for name in recipes.split(",") if recipes else everything:
        print(f"{name}:", file=sys.stderr)
        recipe, out = RECIPES / f"{name}.yaml", RESULTS / Path(name).name
        changes = ["--set", f"corpora={corpora}", "--set", f"seeds=[{seeds}]"]
        code = max(code, run_command(["experiment", str(recipe), "--out", str(out), *changes]))
    return code


if __name__ == "__main__":
    sys.exit(app())
