"""Real images through the commands with default settings reach the scores that the README states."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO

from flows.cli.application import run_command
from mining.models.pretrained import imagenet_names

GOALS = {"voc-mini": {"train": 0.62, "test": 0.64}, "objects7-mini": {"train": 0.93, "test": 0.90}}


def run_boxmine(*words: object) -> None:
    assert run_command([str(word) for word in words]) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", GOALS)
def test_a_model_trained_on_the_training_labels_reaches_its_corloc(
    name: str, dataset: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, model = dataset(name), tmp_path / "model"
    run_boxmine("train", "--images", folder / "images", "--labels", folder / "train.csv", "--out", model)
    for split, goal in GOALS[name].items():
        run = tmp_path / split
        labels = folder / f"{split}.csv"
        run_boxmine("mine", "--images", folder / "images", "--labels", labels, "--model", model, "--out", run)
        run_boxmine("score", run, "--truth", folder / f"instances_{split}.json")
        scores = json.loads((run / "scores.json").read_text())
        assert scores["corloc"]["value"] >= goal
        assert scores["corloc"]["value"] > max(scores["baselines"].values()) + 0.05
        assert scores["corloc"]["boxes_per_pair"] > 1
        record = json.loads((run / "run.json").read_text())
        assert len(COCO(run / "annotations.json").anns) == record["counts"]["boxes"]
        assert record["warnings"] == []


@pytest.mark.slow
def test_a_pretrained_model_finds_imagenet_classes_without_labels_or_training(
    dataset: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = dataset("voc-mini")
    run_boxmine(
        "mine", "--images", folder / "images", "--model", "pretrained:efficientnet_lite0", "--out", tmp_path / "run"
    )
    boxes = pq.read_table(tmp_path / "run" / "annotations.parquet").to_pandas()
    assert set(boxes.category) <= set(imagenet_names())
    assert set(boxes.source) == {"prediction"}
    assert boxes.image_id.nunique() > 300
    assert "airliner" in set(boxes.category)
