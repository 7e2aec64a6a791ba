"""The closing messages of `boxmine export` and `boxmine train`."""

from pathlib import Path

import pytest

from flows.cli.application import run_command
from flows.cli.output import training_sentences
from mining.training.summary import TrainingSummary
from tests.unit.export.conftest import Painted, write_run

BOX = (1, 10, 10, 20, 20, 0.9)


def run_export(folder: Path, *options: str) -> int:
    run = write_run(folder, [Painted(f"{number}.jpg", (BOX,)) for number in range(8)])
    return run_command(["export", str(run.folder), "--format", "yolo", "--out", str(folder / "out"), *options])


def read_stderr(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    return " ".join(captured.err.split())


def test_an_export_without_a_box_prints_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_export(tmp_path, "--min-score", "1") == 0
    text = read_stderr(capsys)
    assert "Warning: no box was exported" in text
    assert "Note: 8 images are left out because all boxes score below 1." in text


def test_an_export_describes_its_validation_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_export(tmp_path, "--val-share", "0.5") == 0
    text = read_stderr(capsys)
    assert "mined boxes, not ground truth" in text
    assert "Warning" not in text


def test_the_licence_is_in_the_dataset_card(tmp_path: Path) -> None:
    assert run_export(tmp_path, "--license", "CC-BY-4.0") == 0
    assert "license: CC-BY-4.0" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_training_states_how_many_images_are_held_back_or_missing() -> None:
    summary = TrainingSummary(Path("m"), 60, 7, 2, "single", 3, 2, "accuracy", 0.9, 1.0, {}, [], missing=13)
    assert training_sentences(summary) == [
        "Trained 3 epochs on 60 images, 2 classes, accuracy 0.900 on validation images.",
        "7 further images were used for validation, and 13 listed images are missing.",
    ]


def test_a_training_of_one_epoch_and_one_validation_image_is_in_the_singular() -> None:
    summary = TrainingSummary(Path("m"), 11, 1, 2, "single", 1, 1, "accuracy", 0.0, 1.0, {}, [])
    assert training_sentences(summary) == [
        "Trained 1 epoch on 11 images, 2 classes, accuracy 0.000 on validation images.",
        "1 further image was used for validation.",
    ]
