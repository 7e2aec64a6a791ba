"""Wrong inputs are refused before torch, timm, Lightning or Prefect are imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.factories import write_example

HEAVY = ("torch", "torchvision", "timm", "lightning", "prefect")
# all commands in one process, because starting one takes a second
COMMANDS = f"""
import contextlib, io, json, sys
from flows.cli import application, terminal
results = []
for command in json.load(sys.stdin):
    terminal.err.file = io.StringIO()
    code = application.run_command(command.split())
    heavy = [name for name in {HEAVY} if name in sys.modules]
    results.append([code, terminal.err.file.getvalue(), heavy])
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_example(tmp_path_factory.mktemp("place"))
    (folder / "unknown.csv").write_text("file_name,labels\na.jpg,catt\nb.jpg,dog\n")
    (folder / "other").mkdir()
    corpus = {"images": "photos", "labels": "labels.csv"}
    recipes = {
        "nowhere": {"out": "r", "corpus": {"images": "nowhere"}, "train": {}},
        "backbone": {"out": "r", "corpus": corpus, "train": {"backbone": "resnet5"}},
        "truth": {"out": "r", "corpus": corpus, "model": "model", "truth": "nowhere.json"},
        "option": {"out": "r", "corpus": corpus, "model": "model", "mine": {"options": {"backgrund": "none"}}},
        "label": {"store": "s", "runs": "rs", "corpus": corpus, "model": "nowhere"},
        "experiment": {
            "out": "e", "corpora": {"one": {**corpus, "truth": "labels.csv"}},
            "variants": {"a": {"train": {"localizer": "cam", "options": {"dropout": 7}}}},
        },
    }  # fmt: skip
    for name, values in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder


TRAIN = "train --images photos --labels labels.csv --out new"
MINE = "mine --images photos --model model --out new"


REFUSALS = {
    "train --images nowhere --out new": "nowhere does not exist",
    "train --images photos --labels nowhere.csv --out new": "nowhere.csv does not exist",
    f"{MINE} --classes dgo,cat": "did you mean 'dog'",
    f"{MINE} --map dgo=wolf --map cat=lynx": "did you mean 'dog'",
    f"{MINE} --map dog": "give CLASS=NAME",
    f"{TRAIN} --backbone resnet5": "did you mean 'resnet50'",
    f"{TRAIN} --localizer camm": "did you mean 'cam'",
    f"{TRAIN} --options.backgrund none": "did you mean 'background'",
    f"{TRAIN} --weights nowhere.pth": "No weights file",
    f"{TRAIN} --weights none": "learns nothing",
    f"{TRAIN} --crop-from 64": "--crop-from 64 is less than",
    "train --images photos --labels labels.csv --out model": "holds a finished model of other settings",
    "mine --images nowhere --model model --out new": "nowhere does not exist",
    "mine --images photos --model nowhere --out new": "No model folder",
    "mine --images photos --model other --out new": "is not a boxmine model",
    "mine --images photos --model pretrained:nothing --out new": "Unknown backbone 'nothing'",
    "mine --images photos --model pretrained:vgg16 --localizer cam --out new": "one linear layer on averaged features",
    "mine --images photos --model pretrained:alexnet --localizer ccam --out new": "Use --localizer gradcam, gradcampp",
    "mine --images photos --model pretrained:vgg16 --options.layr 2 --out new": "did you mean 'layer'",
    "mine --images photos --model pretrained:vgg16 --weights nowhere.pth --out new": "No weights file",
    "mine --images photos --model pretrained:vgg16 --class-names labels.csv --out new": "goes with --weights FILE",
    f"{MINE} --weights labels.csv": "--weights goes with --model pretrained:NAME",
    "mine --images photos --model pretrained:efficientnet_lite0 --out new --refine cells": "needs a model with a cell",
    f"{MINE} --refine cells": "needs a model with a cell classifier",
    f"{MINE} --labels unknown.csv": "did you mean 'cat'",
    f"{MINE} --class-thresholds.horse 0.3": "does not know the class 'horse'",
    f"{MINE} --localizer gradcam --options.layr 2": "did you mean 'layer'",
    "run nowhere.yaml --strict": "nowhere does not exist",
    "run backbone.yaml": "did you mean 'resnet50'",
    "run truth.yaml": "Cannot read the ground truth",
    "run option.yaml": "did you mean 'background'",
    "label label.yaml": "No model folder",
    "experiment experiment.yaml": "Variant 'a': Option 'dropout'",
    "report other": "is not a run directory",
    "compare other other": "is not a run directory",
    "score other --truth nowhere.json": "is not a run directory",
}


@pytest.fixture(scope="module")
def results(place: Path) -> dict[str, tuple[int, str, list[str]]]:
    """For each command: exit code, stderr, and the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], input=json.dumps(list(REFUSALS)), cwd=place, capture_output=True, text=True,
        timeout=300, check=True,
    )  # fmt: skip
    return dict(zip(REFUSALS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", REFUSALS)
def test_a_wrong_input_is_refused_before_anything_heavy_is_imported(
    command: str, results: dict[str, tuple[int, str, list[str]]], place: Path
) -> None:
    code, stderr, heavy = results[command]
    assert (code, heavy) == (2, []), stderr
    (sentence,) = stderr.splitlines()
    assert REFUSALS[command] in sentence
    assert not (place / "new").exists()


def test_names_of_timm_backbones_are_known_without_timm() -> None:
    from mining.backbones.registry import refuse_unknown_backbone

    for name in ("resnet18", "resnet50.a1_in1k", "vit_base_patch16_224", "tf_efficientnet_b0_ns"):
        refuse_unknown_backbone(name)
