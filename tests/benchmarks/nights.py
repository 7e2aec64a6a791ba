"""Label jobs on real images: two nights and a new model; and the cost of a label store of millions of images.

python tests/benchmarks/nights.py                     # voc-mini: half of the images each night, then another model
python tests/benchmarks/nights.py --simulate 10000000 # millions of images, with random boxes instead of mining
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
    """Run a command; returns its stdout."""
    command = [sys.executable, "-c", "from flows.cli.application import main; main()", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 5):
        raise RuntimeError(done.stderr)
    return done.stdout


def two_nights(folder: Path, data: Path, models: list[Path]) -> None:
    """Print one row per job: what was mined, kept and relabelled, and which version was published.

    Args:
        folder: Where the jobs work.
        data: The dataset.
        models: Two models of the training images; trained here if empty.
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
        summary = json.loads(boxmine("label", recipe, "--json"))
        tally, seconds = summary["tally"], time.perf_counter() - began
        mined = sum(count for count in tally["reasons"].values()) - tally["copied"]
        corloc = [one["corloc"] for one in json.loads(boxmine("status", folder / "labels", "--json"))][:1]
        print(
            f"| {night} | {tally['listed']} | {mined} | {tally['kept']} | {tally['moved']} | {tally['retired']} | "
            f"{', '.join(f'{count} {reason}' for reason, count in tally['reasons'].items()) or '-'} | "
            f"{summary['state']} {summary['version']} | {summary['boxes']} | {corloc[0]:.1%} | {seconds:.0f} s |",
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
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        if options.simulate:
            from millions import simulate

            simulate(Path(folder), options.simulate, plan_only=options.plan_only)
        else:
            two_nights(Path(folder), options.data, options.models)


if __name__ == "__main__":
    main()
