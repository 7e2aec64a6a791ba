"""Every localizer and every ablation on real photos; tables on the terminal and in build/experiments/RECIPE/.

    python tests/benchmarks/experiments.py [--recipes localizers,ablations/msrd] [--packs voc-mini] [--seeds 0,1,2]

Trains on the train labels alone and scores on the test photos. What is measured already is not measured again.
"""

import json
import os
import sys
from pathlib import Path

from cyclopts import App

from flows.cli.application import run_command

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BOXMINE_DATA", ROOT.parent / "shared" / "data"))
RECIPES = ROOT / "deployments" / "recipes"
RESULTS = ROOT / "build" / "experiments"

app = App(help="Every localizer and every ablation on real photos.")


def corpus_of(pack: Path) -> dict[str, object]:
    """The pack as an experiment's recipe wants it told."""
    return {
        "images": str(pack / "images"),
        "labels": str(pack / "train.csv"),
        "test": {"labels": str(pack / "test.csv")},
        "truth": str(pack / "instances_test.json"),
    }


@app.default
def main(*, recipes: str = "", packs: str = "objects7-mini,voc-mini", seeds: str = "0,1,2") -> int:
    """Run what is missing, show everything; gives the highest exit code."""
    everything = ["localizers", *sorted(f"ablations/{path.stem}" for path in (RECIPES / "ablations").glob("*.yaml"))]
    corpora = json.dumps({name: corpus_of(DATA / name) for name in packs.split(",")})
    code = 0
    for name in recipes.split(",") if recipes else everything:
        print(f"{name}:", file=sys.stderr)
        recipe, out = RECIPES / f"{name}.yaml", RESULTS / Path(name).name
        changes = ["--set", f"corpora={corpora}", "--set", f"seeds=[{seeds}]"]
        code = max(code, run_command(["experiment", str(recipe), "--out", str(out), *changes]))
    return code


if __name__ == "__main__":
    sys.exit(app())
