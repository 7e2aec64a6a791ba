"""Mined boxes of generated images teach a detector nearly as much as true ones, and far more than boxes that do not look."""

import json
from pathlib import Path

import pytest
import yaml

import boxmine
from flows.cli.application import run_command
from mining.synthetic import generate

TRAIN, TEST = 160, 80  # images


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_detector_from_mined_boxes_is_nearly_that_from_true_ones(tmp_path: Path) -> None:
    generate(tmp_path / "train", images=TRAIN, start=0)
    generate(tmp_path / "test", images=TEST, start=TRAIN)
    images, labels = tmp_path / "train" / "images", tmp_path / "train" / "labels.csv"
    boxmine.train(images, labels=labels, out=tmp_path / "model")
    boxmine.mine(images, labels=labels, model=tmp_path / "model", out=tmp_path / "run")
    recipe = {
        "out": str(tmp_path / "proof"), "runs": str(tmp_path / "run"), "truth": str(tmp_path / "train" / "truth.json"),
        "test": {"images": str(tmp_path / "test" / "images"), "truth": str(tmp_path / "test" / "truth.json")},
        "detector": {"side": 192, "epochs": 20, "workers": 0}, "seeds": [0], "arms": ["true", "mined", "centred"],
        "budget": [20],
    }  # fmt: skip
    (tmp_path / "proof.yaml").write_text(yaml.safe_dump(recipe))
    assert run_command(["prove", str(tmp_path / "proof.yaml")]) == 0
    found = json.loads((tmp_path / "proof" / "proof.json").read_text())
    print({arm: one["value"] for arm, one in found["ap50"].items()}, found["worth"])
    assert found["ap50"]["true"]["value"] > 0.5, "else it says nothing about the boxes"
    assert found["share_of_true"]["mined"]["value"] > 0.65
    assert found["over_blind"]["centred"]["ci95"][0] > 0.05
    assert found["worth"]["true_boxes"] is None or found["worth"]["true_boxes"] > 20
