"""`boxmine import` on the command line."""

import json
from pathlib import Path

import pytest
from PIL import Image

from flows.cli.application import run_command


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photos" / "a.jpg")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 10], "score": 0.5}
    names = ("a.jpg", "gone.jpg")
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    document = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    options = {"coco": "boxes.json", "images": "photos", "out": "run"}
    return ["import", *(part for name, file in options.items() for part in (f"--{name}", str(tmp_path / file)))]


def test_it_prints_what_was_imported(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*command, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["states"] == {"labelled": 1, "quarantined": 1}
    assert "1 boxes on 2 images" in shown.err
    assert "gone.jpg: no such file" in shown.err


def test_strict_ends_with_3_for_an_image_that_cannot_be_used(command: list[str]) -> None:
    assert run_command([*command, "--strict"]) == 3


def test_bad_input_ends_with_2_and_one_sentence(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command) == 0
    capsys.readouterr()
    assert run_command(command) == 2
    assert "Delete it, or give another folder." in capsys.readouterr().err
