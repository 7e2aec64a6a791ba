"""A training that learns nothing, and boxes of the whole image, are noticed at every step; a usual one is not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli.application import run_command

IMAGES = 130


def run_boxmine(*words: object) -> None:
    assert run_command([str(word) for word in words]) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mldfr_with_the_papers_settings_on_a_frozen_network_warns_at_every_step(
    dataset: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the bias that boxmine gives it for several labels, all maps are negative and normalised the wrong way."""
    photos, labels, model, run = dataset("voc-mini"), tmp_path / "train.csv", tmp_path / "model", tmp_path / "run"
    labels.write_text("".join((photos / "train.csv").read_text().splitlines(keepends=True)[: IMAGES + 1]))
    corpus = ("--images", photos / "images", "--labels", labels)
    options = ("--options.preset", "paper", "--options.bias", "false", "--no-cells")
    quick = ("--input-size", 64, "--epochs", 2, "--workers", 0)

    run_boxmine("train", *corpus, "--localizer", "mldfr", *options, *quick, "--out", model, "--json")
    of_labels, of_training = json.loads(capsys.readouterr().out)["warnings"]
    assert of_labels.startswith("Few images show ")
    assert of_training.startswith("The classifier is hardly better than chance (mean average precision 0.")
    assert "Train without `preset: paper`" in of_training
    assert json.loads((model / "model.json").read_text())["training"]["warnings"] == [of_labels, of_training]

    run_boxmine("mine", *corpus, "--model", model, "--scales", 1, "--refine", "none", "--out", run, "--json")
    mined = json.loads(capsys.readouterr().out)["warnings"]
    assert mined[:2] == [of_labels, of_training]
    assert "boxes cover 95% of their image or more." in mined[2]

    run_boxmine("score", run, "--truth", photos / "instances_train.json", "--json")
    scores = json.loads(capsys.readouterr().out)
    assert scores["warnings"] == mined
    assert scores["corloc"]["value"] == pytest.approx(scores["baselines"]["whole_image"], abs=0.02)
    run_boxmine("report", run)
    assert "boxes cover 95% of their image or more." in (run / "report" / "index.html").read_text()
