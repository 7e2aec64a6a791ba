"""`boxmine train --boxes` and `boxes:` of a recipe: a few true boxes teach the cell classifier."""

import json
from pathlib import Path

import pytest
import yaml

from flows.cli.application import run_command
from mining.models.card import read_card
from mining.storage.files import sha256_of
from mining.synthetic import generate
from tests.factories import register_tiny_backbone

TINY = {"backbone": "tiny", "weights": "none", "epochs": 1, "freeze": False, "workers": 0, "accelerator": "cpu"}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images, and some.json with the true boxes of five of them."""
    register_tiny_backbone(monkeypatch)
    folder = tmp_path / "corpus"
    generate(folder, images=12, seed=0, size=(64, 80))
    truth = json.loads((folder / "truth.json").read_text())
    kept = sorted(truth["images"], key=lambda image: str(image["file_name"]))[:5]
    numbers = {image["id"] for image in kept}
    boxes = [one for one in truth["annotations"] if one["image_id"] in numbers]
    (folder / "some.json").write_text(json.dumps({**truth, "images": kept, "annotations": boxes}))
    return folder


def command(corpus: Path, *more: str) -> list[str]:
    images = ["--images", str(corpus / "images"), "--labels", str(corpus / "labels.csv")]
    tiny = ["--backbone", "tiny", "--weights", "none", "--epochs", "1", "--no-freeze", "--workers", "0"]
    boxes = ["--boxes", str(corpus / "some.json")]
    return ["train", *images, *tiny, "--accelerator", "cpu", *boxes, "--out", str(corpus.parent / "model"), *more]


def said_by(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_the_model_records_what_it_learned_from_and_another_file_is_another_model(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(command(corpus)) == 0
    model, some = corpus.parent / "model", corpus / "some.json"
    training = read_card(model).training
    assert training["inputs"]["true_boxes"]["sha256"] == sha256_of(some)
    assert len(training["inputs"]["true_boxes"]["images"]) == 5
    written = (model / "weights.safetensors").stat().st_mtime_ns
    assert run_command(command(corpus)) == 0
    assert (model / "weights.safetensors").stat().st_mtime_ns == written, "the same command changes nothing"
    content = json.loads(some.read_text())
    content["annotations"][0]["bbox"][2] -= 1
    some.write_text(json.dumps(content))
    capsys.readouterr()
    assert run_command(command(corpus)) == 2
    assert "of other settings: its boxes_sha256" in said_by(capsys)


def test_a_mistake_in_the_file_is_refused_before_anything_is_trained(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = corpus / "some.json"
    content = json.loads(some.read_text())
    content["images"][0]["file_name"] = "elsewhere.jpg"
    some.write_text(json.dumps(content))
    assert run_command(command(corpus)) == 2
    assert "'elsewhere.jpg', which the corpus of" in said_by(capsys)
    assert not (corpus.parent / "model" / "model.json").exists()
    assert run_command(command(corpus, "--no-cells")) == 2
    assert "`boxes` teach the cell classifier" in said_by(capsys)


def test_a_recipe_hands_the_boxes_to_its_training_and_its_score_says_so(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = corpus.parent / "recipe.yaml"
    values = {
        "out": "run", "corpus": {"images": "corpus/images", "labels": "corpus/labels.csv"}, "train": TINY,
        "mine": {"device": "cpu", "workers": 1, "refine": "walk"}, "truth": "corpus/truth.json",
        "boxes": "corpus/some.json",
    }  # fmt: skip
    recipe.write_text(yaml.safe_dump(values))
    assert run_command(["run", str(recipe)]) == 0
    notes = json.loads((corpus.parent / "run" / "scores.json").read_text())["notes"]
    assert any("learned from true boxes of 5 of the 12 scored images" in note for note in notes)
    capsys.readouterr()
    del values["train"]
    recipe.write_text(yaml.safe_dump({**values, "model": str(corpus.parent / "run" / "model"), "out": "other"}))
    assert run_command(["run", str(recipe)]) == 2
    assert "omit `boxes`" in said_by(capsys)
