"""Labels that teach little are warned of before the training, and wherever its boxes are looked at."""

import csv
import json
from pathlib import Path

import pytest

from boxmine import Run
from flows.cli.application import run_command
from mining.synthetic import generate

QUICK = ["--epochs", "1", "--workers", "0", "--validation-share", "0", "--no-cells"]


@pytest.fixture
def corpus(tmp_path: Path) -> list[str]:
    """A generated corpus each of whose images also shows a scene; returns the options that name it."""
    generate(tmp_path / "corpus", images=12, seed=2)
    labels = tmp_path / "corpus" / "labels.csv"
    with labels.open() as file:
        rows = [
            f"{row['file_name']},{'|'.join(filter(None, [row['labels'], 'scene']))}" for row in csv.DictReader(file)
        ]
    labels.write_text("\n".join(["file_name,labels", *rows]) + "\n")
    return ["--images", str(tmp_path / "corpus" / "images"), "--labels", str(labels)]


def test_a_class_on_all_images_is_warned_of_before_the_training_and_with_the_boxes(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, run = str(tmp_path / "model"), tmp_path / "run"
    assert run_command(["train", *corpus, "--out", model, *QUICK, "--json"]) == 0
    output = capsys.readouterr()
    (warning,) = [one for one in json.loads(output.out)["warnings"] if "labelled images show" in one]
    assert warning.startswith("All 12 labelled images show 'scene' (on 12): ")
    assert output.err.index(f"Warning: {warning}") < output.err.index("train: 1 of 1")
    assert run_command(["mine", *corpus, "--model", model, "--out", str(run), "--scales", "1"]) == 0
    assert f"Warning: {warning}" in capsys.readouterr().err
    assert warning in Run(run).warnings
    assert run_command(["report", str(run)]) == 0
    assert "labelled images show &#39;scene&#39; (on 12): " in (run / "report" / "index.html").read_text()
