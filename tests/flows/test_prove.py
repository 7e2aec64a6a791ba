"""`boxmine prove`: the same detector from true, mined and other boxes, and what the mined ones are worth."""

import json
from pathlib import Path

import pytest
import yaml

from flows.cli.application import run_command
from mining.runs.run import Run
from tests.factories import register_tiny_backbone
from tests.unit.proof.conftest import make_corpus

DETECTOR = {
    "backbone": "tiny", "weights": "none", "frozen_stages": 0, "side": 64, "channels": 64, "convolutions": 1,
    "epochs": 1, "workers": 0, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register_tiny_backbone(monkeypatch)
    make_corpus(tmp_path / "train")
    make_corpus(tmp_path / "test")
    values = {
        "out": "proof",
        "runs": "train/run",
        "truth": "train/truth.json",
        "test": {"images": "test/photos", "truth": "test/truth.json"},
        "detector": DETECTOR,
        "seeds": [0],
        "budget": [4],
        "verdicts": 6,
        "resamples": 100,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_every_kind_of_boxes_is_trained_on_and_compared(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run_command(["prove", str(recipe), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    out = recipe.parent / "proof"
    record = json.loads((out / "proof.json").read_text())
    assert {name: record[name] for name in shown} == shown
    assert set(record["ap50"]) == {"true", "mined", "audited", "centred", "whole"}
    assert set(record["share_of_true"]) == {"mined", "audited", "centred", "whole"}
    assert set(record["over_blind"]) == {"centred", "whole"}
    assert [point["true_boxes"] for point in record["budget"]] == [4]
    assert (record["images"], record["seeds"]) == (8, 1)
    for one in (*record["ap50"].values(), *record["ap"].values()):
        assert 0 <= one["ci95"][0] <= one["ci95"][1] <= 1
    assert record["worth"]["text"].startswith("The mined boxes are worth")
    folders = {path.parent.name for path in out.glob("*/detector")}
    assert folders == {
        "true-seed-0", "mined-seed-0", "audited-seed-0", "centred-seed-0", "whole-seed-0", "true-4-seed-0",
        "mined+true-4-seed-0",
    }  # fmt: skip
    tested = Run.open(out / "mined-seed-0" / "test", finished=True).read_corpus(["labels"])
    assert tested["labels"].null_count == len(tested) == 8, "the detector is not given what the test images show"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    recorded = recipe.with_name("recorded.yaml")
    recorded.write_text(yaml.safe_dump(record["settings"]))
    assert run_command(["prove", str(recorded)]) == 0, "the record has the recipe"
    said = " ".join(capsys.readouterr().err.split())
    assert "The mined boxes are worth" in said
    assert before == {path: path.stat().st_mtime_ns for path in before}, "what is trained already is used again"
    page = (out / "proof.html").read_text()
    assert all(f'<th scope="row">{arm}' in page for arm in record["ap50"])
    assert record["worth"]["text"] in page
    assert page.count('<figure class="tile">') >= 2, "what both detectors find on a test image"
    assert "http" not in page.replace("http-equiv", ""), "the page needs no network"


def test_without_true_boxes_mined_ones_are_compared_with_boxes_that_do_not_look(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(recipe.read_text())
    del values["truth"]
    recipe.write_text(yaml.safe_dump(values))
    assert run_command(["prove", str(recipe)]) == 0
    record = json.loads((recipe.parent / "proof" / "proof.json").read_text())
    assert list(record["ap50"]) == ["mined", "centred", "whole"]
    assert (record["share_of_true"], record["budget"], record["worth"]) == ({}, [], None)
    assert "Mined boxes instead of centred ones" in " ".join(capsys.readouterr().err.split())


def test_a_test_image_that_cannot_be_read_is_said(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe.parent / "test" / "photos" / "00.png").write_bytes(b"no image")
    assert run_command(["prove", str(recipe), "--set", "arms=[mined]", "--set", "budget=[]"]) == 0
    assert "Test images that could not be read: 1. Their objects count as not found." in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("budget=[4,10000]", "fewer than `budget` asks for: omit 10000"),
        ("arms=[mined,centered]", "arms"),
        ("detector.seed=1", "et the seeds of the trainings by `seeds`"),
        ("seeds=[0,0]", "`seeds` names something twice"),
        ("runs=[a,b]", "ive one run, or one for each of the 1 seeds"),
        ("test.truth=missing.json", "Cannot read the ground truth"),
        ("test.images=missing", "does not exist"),
        ("runs=missing", "is not a run directory"),
        ("detector.backbone=resnet51", "resnet51"),
    ],
)
def test_a_mistake_is_said_before_anything_is_trained(
    recipe: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    capsys.readouterr()
    assert run_command(["prove", str(recipe), "--set", change]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list((recipe.parent / "proof").glob("*/detector"))


def test_a_folder_with_other_things_is_refused_and_kept(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = recipe.parent / "proof" / "notes.txt"
    other.parent.mkdir()
    other.write_text("mine")
    assert run_command(["prove", str(recipe)]) == 2
    assert "holds other things (e.g. 'notes.txt')" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in other.parent.iterdir() if not path.name.startswith(".")] == ["notes.txt"]
