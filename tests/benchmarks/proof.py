"""What mined boxes are worth on real images: detectors from mined, true and other boxes; figures in build/proof.json.

    python tests/benchmarks/proof.py [--packs voc-mini,objects7-mini] [--seeds 0,1,2] [--budget 50,100,200,400]
        [--arms true,mined,centred]

For each seed a localizer is trained on image labels alone and mines the training images; then `boxmine prove` trains a
detector on each kind of boxes and tests it on the test images. Trainings that are finished are used again, so that the
command can be stopped, and repeated with more seeds. A training takes about 12 minutes of one core on voc-mini.
"""

import json
from pathlib import Path
from typing import Any

from cyclopts import App
from experiments import ROOT, dataset_part, generated_part

import boxmine
from flows.cli.application import run_command
from mining.proof.folder import RECORD_FILE

BUILD = ROOT / "build" / "proof"
RESULT = ROOT / "build" / "proof.json"
SIDE = 256  # px

app = App(help="Say what mined boxes are worth on real images.")


@app.default
def main(
    *,
    packs: str = "voc-mini,objects7-mini",
    seeds: str = "0,1,2",
    budget: str = "50,100,200,400",
    arms: str = "true,mined,audited,centred,whole",
    epochs: int = 20,
    precision: str = "auto",
) -> int:
    """Run what is missing for each pack, print its table, and write build/proof.json; returns the highest exit code."""
    figures: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    code = 0
    for pack in packs.split(","):
        part_of = generated_part if pack == "generated" else dataset_part
        images, labels, truth = part_of(pack, "train")
        test_images, _, test_truth = part_of(pack, "test")
        runs = [mined(BUILD / pack, int(seed), images, labels) for seed in seeds.split(",")]
        recipe = BUILD / pack / "recipe.yaml"
        values = {
            "out": str(BUILD / pack / "proof"), "runs": [str(run) for run in runs], "truth": truth,
            "test": {"images": test_images, "truth": test_truth},
            "detector": {"side": SIDE, "epochs": epochs, "precision": precision},
            "seeds": [int(seed) for seed in seeds.split(",")],
            "arms": arms.split(","),
            "budget": [int(number) for number in budget.split(",") if number],
        }  # fmt: skip
        recipe.write_text(json.dumps(values, indent=1))  # JSON is YAML
        code = max(code, run_command(["prove", str(recipe)]))
        if code:
            return code
        figures[pack] = summary(json.loads((BUILD / pack / "proof" / RECORD_FILE).read_text()))
        RESULT.write_text(json.dumps(figures, indent=1))
    return code


def mined(folder: Path, seed: int, images: str, labels: str) -> Path:
    """Return a run of the training images, mined by a localizer of this seed; it is made where it is missing."""
    run = folder / f"run-{seed}"
    if not (run / "annotations.json").is_file():
        boxmine.train(images, labels=labels, out=folder / f"model-{seed}", seed=seed)
        boxmine.mine(images, labels=labels, model=folder / f"model-{seed}", out=run)
    return run


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """AP50 of each kind of boxes with its interval, the label budget, the worth; values in 0-1."""
    return {
        **{arm: one["value"] for arm, one in record["ap50"].items()},
        "intervals": {arm: one["ci95"] for arm, one in record["ap50"].items()},
        "of_true": {arm: [one["value"], one["ci95"]] for arm, one in record["share_of_true"].items()},
        "over_blind": {arm: [one["value"], one["ci95"]] for arm, one in record["over_blind"].items()},
        "budget": [[one["true_boxes"], one["alone"]["value"], one["with_mined"]["value"]] for one in record["budget"]],
        "worth": record["worth"],
        "seeds": record["seeds"],
    }


if __name__ == "__main__":
    raise SystemExit(app())
