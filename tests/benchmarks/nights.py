"""Two nights and a new model on real photos, as a label store sees them; and what a corpus of millions costs to plan.

python tests/benchmarks/nights.py                     # voc-mini: half of the photos each night, then another model
python tests/benchmarks/nights.py --simulate 10000000 # planning, with mining replaced by boxes drawn at random
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import ROOT

DATA = ROOT.parent / "shared" / "data" / "voc-mini"


def boxmine(*arguments: object) -> str:
    """One command; gives what it prints on stdout."""
    command = [sys.executable, "-c", "from flows.cli.application import main; main()", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 5):
        raise RuntimeError(done.stderr)
    return done.stdout


def two_nights(folder: Path, data: Path, models: list[Path]) -> None:
    """Print a row a job: what was mined, skipped and relabelled, and which version it published.

    models: two, trained on the train photos; none = train them.
    """
    photos = folder / "photos"
    photos.mkdir(parents=True)
    listed = list(csv.reader((data / "test.csv").open()))
    for seed in () if models else (0, 1):
        boxmine(
            "train", "--images", data / "images", "--labels", data / "train.csv", "--localizer", "cam", "--out",
            folder / f"model-{seed}", "--seed", seed,
        )  # fmt: skip
    recipe = folder / "recipe.yaml"

    def job(night: str, rows: int, model: int) -> None:
        with (folder / "photos.csv").open("w", newline="") as file:
            csv.writer(file).writerows(listed[: rows + 1])
        for name, _ in listed[1 : rows + 1]:
            if not (photos / name).exists():
                shutil.copy(data / "images" / name, photos / name)
        recipe.write_text(
            f"name: voc\nstore: labels\nruns: runs\ncorpus: {{images: photos, labels: photos.csv}}\n"
            f"model: {models[model].resolve() if models else folder / f'model-{model}'}\ntruth: {data / 'instances_test.json'}\n"
        )
        began = time.perf_counter()
        told = json.loads(boxmine("label", recipe, "--json"))
        tally, seconds = told["tally"], time.perf_counter() - began
        mined = sum(count for count in tally["reasons"].values()) - tally["copied"]
        corloc = [one["corloc"] for one in json.loads(boxmine("status", folder / "labels", "--json"))][:1]
        print(
            f"| {night} | {tally['listed']} | {mined} | {tally['kept']} | {tally['moved']} | {tally['retired']} | "
            f"{', '.join(f'{count} {reason}' for reason, count in tally['reasons'].items()) or '-'} | "
            f"{told['state']} {told['version']} | {told['boxes']} | {corloc[0]:.1%} | {seconds:.0f} s |",
            flush=True,
        )

    print("| job | listed | mined | kept | moved | gone | why | version | boxes | CorLoc | took |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    half, whole = (len(listed) - 1) // 2, len(listed) - 1
    job("first night", half, 0)
    job("the same again", half, 0)
    job("second night", whole, 0)
    first, second = listed[1][0], listed[2][0]
    (photos / first).rename(photos / f"renamed-{first}")
    listed[1][0] = f"renamed-{first}"
    (photos / second).unlink()
    del listed[2]
    job("one renamed, one deleted", whole - 1, 0)
    job("another model", whole - 1, 1)
    job("the same again", whole - 1, 1)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--models", type=Path, nargs=2, default=[])
    parser.add_argument("--simulate", type=int)
    parser.add_argument("--plan-only", action="store_true")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        if asked.simulate:
            from millions import simulate

            simulate(Path(folder), asked.simulate, plan_only=asked.plan_only)
        else:
            two_nights(Path(folder), asked.data, asked.models)


if __name__ == "__main__":
    main()
