"""`boxmine bootstrap`: a localizer's boxes, a detector that learns from them, its boxes, and which are better."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pytest
import yaml

from flows.cli.application import run_command
from mining.models.card import read_card
from mining.runs.run import Run
from mining.storage.files import sha256_of
from mining.synthetic import generate
from tests.factories import register_tiny_backbone

DETECTOR = {"backbone": "tiny", "weights": "none", "frozen_stages": 0, "side": 64, "channels": 64, "convolutions": 1}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register_tiny_backbone(monkeypatch)
    corpus = tmp_path / "corpus"
    generate(corpus, images=12, seed=0, size=(64, 80))
    values = {
        "out": "rounds",
        "corpus": {"images": "corpus/images", "labels": "corpus/labels.csv"},
        "train": {"backbone": "tiny", "weights": "none", "epochs": 1, "cells": False, "freeze": False, "workers": 0},
        "mine": {"device": "cpu", "workers": 1},
        "detector": {**DETECTOR, "epochs": 2, "workers": 0, "device": "cpu"},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_without_ground_truth_there_is_one_round_and_a_person_compares(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["bootstrap", str(recipe)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    out = recipe.parent / "rounds"
    assert "Nobody knows whether these boxes are better than those before." in said
    assert f"boxmine audit {out / 'round-1'} --against {out / 'round-0'}" in said
    first, second = Run.open(out / "round-0", finished=True), Run.open(out / "round-1", finished=True)
    assert read_card(out / "detector-1").localizer == "fcos"
    detected = Run.open(out / "detected-1", finished=True)
    assert detected.card.weights_sha256 == read_card(out / "detector-1").weights_sha256
    assert second.card.weights_sha256 == first.card.weights_sha256, "the maps are still those of the localizer"
    assert first.record["counts"]["images"] == second.record["counts"]["images"] == 12
    labelled = {row["file_name"]: set(row["labels"]) for row in second.read_corpus(["file_name", "labels"]).to_pylist()}
    boxes = second.read_annotations(["file_name", "category", "localizer", "source"]).to_pylist()
    assert boxes, "each class that an image is labelled with has a box"
    assert all(box["category"] in labelled[box["file_name"]] for box in boxes)
    assert {box["source"] for box in boxes} == {"label"}
    before = first.read_annotations(["annotation_id", "score"]).to_pylist()
    assert {box["annotation_id"] for box in before} <= set(second.read_annotations()["annotation_id"].to_pylist())
    assert {box["localizer"] for box in boxes} <= {"cam", "fcos"}
    record = json.loads((out / "bootstrap.json").read_text())
    assert (record["run"], record["detector"], len(record["rounds"])) == ("round-1", "detector-1", 1)
    assert (out / "round-1" / "report" / "index.html").is_file()


def test_a_class_agnostic_detector_learns_one_class_and_its_boxes_have_those_of_the_labels(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bootstrap", str(recipe), "--set", "class_agnostic=true", "--set", "detector.epochs=12"]
    assert run_command(command) == 0
    out = recipe.parent / "rounds"
    assert read_card(out / "detector-1").class_names == ["object"]
    detected, combined = (Run.open(out / name, finished=True) for name in ("detected-1", "round-1"))
    assert set(detected.read_annotations()["category"].to_pylist()) == {"object"}
    assert combined.classes == Run(out / "round-0").classes
    labelled = {row["file_name"]: row["labels"] for row in combined.read_corpus(["file_name", "labels"]).to_pylist()}
    boxes = combined.read_annotations(["file_name", "category"]).to_pylist()
    assert boxes
    assert all(box["category"] in labelled[box["file_name"]] for box in boxes)
    digest = sha256_of(combined.annotations)
    assert run_command(command) == 0
    assert sha256_of(combined.annotations) == digest
    assert run_command([*command, "--set", "fuse=false"]) == 2
    assert "`class_agnostic` needs `fuse`" in " ".join(capsys.readouterr().err.split())


def test_ground_truth_decides_and_the_same_command_changes_nothing(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = recipe.parent / "corpus" / "truth.json"
    command = ["bootstrap", str(recipe), "--set", f"truth={truth}", "--set", "rounds=2", "--json"]
    command += ["--set", "fuse=false"]
    assert run_command(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert "CorLoc" in first["rounds"][0]["reason"]
    scores = json.loads((recipe.parent / "rounds" / "round-1" / "scores.json").read_text())
    assert not any(name.startswith("top") for name, value in scores["localization"].items() if value is not None), (
        "a detector that was given the labels ranks no classes"
    )
    is_better = first["rounds"][0]["is_better"]
    assert len(first["rounds"]) == (2 if is_better else 1)
    if not is_better:
        assert first["run"].endswith("round-0"), "boxes that are not better are not taken"
        assert first["detector"] is None
    weights = {path: path.stat().st_mtime_ns for path in (recipe.parent / "rounds").rglob("*.safetensors")}
    assert run_command(command) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert weights == {path: path.stat().st_mtime_ns for path in weights}


def judge(run: Path, folder: Path, share_correct: float) -> None:
    """Record a verdict on every box of a run: the first ones of the plan are correct."""
    plan = folder / f"{run.name}.csv"
    assert run_command(["audit", "plan", str(run), "--verdicts", "1000", "--out", str(plan)]) == 0
    rows = list(csv.DictReader(plan.open()))
    for place, row in enumerate(rows):
        row["verdict"] = "correct" if place < share_correct * len(rows) else "nothing"
    with plan.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert run_command(["audit", "record", str(run), str(plan), "--reviewer", "Ada"]) == 0


@pytest.mark.parametrize(("before", "after", "kept"), [(0.2, 0.9, "round-1"), (0.9, 0.2, "round-0")])
def test_verdicts_on_both_runs_decide_where_there_is_no_ground_truth(
    recipe: Path, capsys: pytest.CaptureFixture[str], before: float, after: float, kept: str
) -> None:
    command = ["bootstrap", str(recipe)]
    assert run_command(command) == 0
    out = recipe.parent / "rounds"
    judge(out / "round-0", recipe.parent, before)
    assert run_command(command) == 0
    assert "Nobody knows" in capsys.readouterr().err, "one of the runs has no verdicts"
    judge(out / "round-1", recipe.parent, after)
    capsys.readouterr()
    assert run_command(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "verdicts on the best boxes of images and classes" in said
    record = json.loads((out / "bootstrap.json").read_text())
    assert (record["run"], record["rounds"][0]["judged_by"]) == (kept, "verdicts")
    assert ("Round 1 is not clearly better" in said) == (kept == "round-0")


def test_options_of_maps_are_refused_for_a_detector(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bootstrap", str(recipe)]) == 0
    folder = recipe.parent
    capsys.readouterr()
    mine = ["mine", "--images", str(folder / "corpus" / "images"), "--model", str(folder / "rounds" / "detector-1")]
    assert run_command([*mine, "--refine", "walk", "--out", str(folder / "other")]) == 2
    assert "--refine is for localizers" in " ".join(capsys.readouterr().err.split())
    assert not (folder / "other").exists()
    assert run_command([*mine, "--labels", "none", "--out", str(folder / "unlabelled")]) == 0
    assert {row["source"] for row in Run(folder / "unlabelled").read_annotations(["source"]).to_pylist()} <= {
        "prediction"
    }


def true_boxes(recipe: Path, images: int) -> Path:
    """The true boxes of the first images of the corpus."""
    truth = json.loads((recipe.parent / "corpus" / "truth.json").read_text())
    kept = sorted(truth["images"], key=lambda image: str(image["file_name"]))[:images]
    numbers = {image["id"] for image in kept}
    boxes = [one for one in truth["annotations"] if one["image_id"] in numbers]
    path = recipe.parent / "some.json"
    path.write_text(json.dumps({**truth, "images": kept, "annotations": boxes}))
    return path


def test_true_boxes_of_some_images_are_learned_and_not_compared(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, some = recipe.parent / "corpus" / "truth.json", true_boxes(recipe, 5)
    command = ["bootstrap", str(recipe), "--set", f"truth={truth}", "--set", f"boxes={some}"]
    assert run_command(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "Not counted: the 5 images whose true boxes the detector learned from." in said
    out = recipe.parent / "rounds"
    inputs = read_card(out / "detector-1").training["inputs"]["true_boxes"]
    assert inputs["sha256"] == sha256_of(some)
    assert len(inputs["images"]) == 5
    notes = json.loads((out / "round-1" / "scores.json").read_text())["notes"]
    assert any("learned from true boxes of 5 of the 12 scored images" in note for note in notes)
    notes = json.loads((out / "round-0" / "scores.json").read_text())["notes"]
    assert not any("learned from" in note for note in notes), "the localizer learned from no box"
    assert run_command(command) == 0, "the same command changes nothing"
    changed = json.loads(some.read_text())
    changed["annotations"][0]["bbox"][2] -= 1
    some.write_text(json.dumps(changed))
    capsys.readouterr()
    assert run_command(command) == 2
    assert "holds a finished model of other true boxes" in " ".join(capsys.readouterr().err.split())


def test_true_boxes_with_a_mistake_are_refused_before_anything_is_trained(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = true_boxes(recipe, 5)
    content = json.loads(some.read_text())
    name = content["categories"][0]["name"]
    for one in content["categories"]:
        one["name"] += "x"
    some.write_text(json.dumps(content))
    command = ["bootstrap", str(recipe), "--set", f"boxes={some}"]
    assert run_command(command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is a class of the corpus" in said
    assert name in said
    assert not (recipe.parent / "rounds" / "round-0").exists()
    assert run_command([*command, "--set", f"truth={some}"]) == 2
    assert "`boxes` and `truth` are the same" in " ".join(capsys.readouterr().err.split())
    assert run_command(["bootstrap", str(recipe), "--set", "boxes=nowhere.json"]) == 2
    assert "nowhere.json" in capsys.readouterr().err


def test_labelled_images_of_a_detector_do_not_count_in_top_1_figures(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["bootstrap", str(recipe)]) == 0
    folder = recipe.parent
    rows = [line.split(",") for line in (folder / "corpus" / "labels.csv").read_text().splitlines()[1:]]
    photos, run = folder / "photos", folder / "half"
    for number, (name, labels) in enumerate(rows):
        into = photos / labels.split("|")[0] if labels and number % 3 else photos
        into.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "corpus" / "images" / name, into / Path(name).name)
    command = ["mine", "--images", str(photos), "--model", str(folder / "rounds" / "detector-1"), "--out", str(run)]
    assert run_command(command) == 0
    given = [row["labels"] is not None for row in Run(run).read_corpus(["labels"]).to_pylist()]
    assert 0 < sum(given) < len(given)
    capsys.readouterr()
    score = ["score", str(run), "--truth", str(folder / "corpus" / "truth.json"), "--json"]
    assert run_command(score) == 0
    found = json.loads(capsys.readouterr().out)
    unlabelled = found["localization"]["images_ranked"]
    assert 0 < unlabelled < found["localization"]["images"]
    assert any(f"{sum(given)} of 12 scored images are left out of Top-1" in note for note in found["notes"])
    assert run_command([*score, "--classes-from", str(run)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["localization"]["top5_cls"] == found["localization"]["top5_cls"]


def test_a_recipe_with_a_mistake_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bootstrap", str(recipe), "--set", "detector.kind=fcoss"]) == 2
    assert "did you mean 'fcos'" in " ".join(capsys.readouterr().err.split())
    assert not (recipe.parent / "rounds").exists()


def test_several_backbones_have_a_localizer_each_and_their_boxes_are_combined(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register_tiny_backbone(monkeypatch, "other")
    values = yaml.safe_load(recipe.read_text())
    del values["train"]["backbone"]
    recipe.write_text(yaml.safe_dump({**values, "backbones": ["tiny", "other"], "truth": "corpus/truth.json"}))
    assert run_command(["bootstrap", str(recipe)]) == 0
    out = recipe.parent / "rounds"
    localizers = [Run.open(out / f"localizer-{number}", finished=True) for number in (1, 2)]
    assert [one.card.backbone for one in localizers] == ["tiny", "other"]
    combined = Run.open(out / "round-0", finished=True)
    assert combined.record["fused"]["runs"] == ["localizer-1", "localizer-2"]
    found = sum(len(one.read_annotations()) for one in localizers)
    assert pc.sum(combined.read_annotations()["merged_from"]).as_py() >= found, "no box is lost"
    assert (combined.path / "scores.json").is_file()
    assert (combined.path / "report" / "index.html").is_file()
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert run_command(["bootstrap", str(recipe)]) == 0, "the same command changes nothing"
    assert files == {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.backbone=tiny", "either `train.backbone` or `backbones`"),
        ("backbones=[tiny,tiny]", "names one twice"),
        ("backbones=[tiny]", "backbones"),
        ("backbones=[tiny,tinny]", "tinny"),
        ("model=pretrained:tiny", "either `model`"),
    ],
)
def test_backbones_that_cannot_be_used_are_refused_before_anything_is_trained(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    register_tiny_backbone(monkeypatch, "other")
    values = yaml.safe_load(recipe.read_text())
    del values["train"]["backbone"]
    recipe.write_text(yaml.safe_dump({**values, "backbones": ["tiny", "other"]}))
    assert run_command(["bootstrap", str(recipe), "--set", change]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (recipe.parent / "rounds" / "localizer-1").exists()


def test_the_boxes_of_two_runs_are_combined_by_one_command(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bootstrap", str(recipe)]) == 0
    out = recipe.parent / "rounds"
    runs = [str(out / name) for name in ("round-0", "detected-1")]
    capsys.readouterr()
    both = recipe.parent / "both"
    assert run_command(["fuse", *runs, "--out", str(both), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["boxes"] == len(Run.open(both, finished=True).read_annotations()) == sum(found["found_by"])
    assert run_command(["fuse", *runs, "--out", str(both)]) == 0
    assert f"Combined 2 runs to {found['boxes']} boxes" in " ".join(capsys.readouterr().err.split())
    assert run_command(["score", str(both), "--truth", str(recipe.parent / "corpus" / "truth.json")]) == 0
    assert run_command(["report", str(both)]) == 0
    for wrong, said in ((runs[:1], "runs"), ([runs[0], runs[0]], "named twice"), ([runs[0], "nowhere"], "nowhere")):
        capsys.readouterr()
        assert run_command(["fuse", *wrong, "--out", str(recipe.parent / "wrong")]) == 2
        assert said in capsys.readouterr().err
    inside = recipe.parent / "corpus" / "images" / "both"
    assert run_command(["fuse", *runs, "--out", str(inside)]) == 2
    assert not inside.exists()


def test_warnings_of_the_localizer_are_shown_wherever_a_detector_learned_from_its_boxes(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = recipe.parent / "corpus" / "labels.csv"
    first, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([first, *(f"{row.rstrip('|')}|scene".replace(",|", ",") for row in rows)]) + "\n")
    assert run_command(["bootstrap", str(recipe)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    sentence = "Of the localizer whose boxes the detector learned from: All 12 labelled images show 'scene' (on 12): "
    few = "The detector learned from few boxes of "
    out = recipe.parent / "rounds"
    record = json.loads((out / "bootstrap.json").read_text())
    assert [one.startswith(sentence) for one in record["warnings"]].count(True) == 1
    assert any(one.startswith(few) for one in record["warnings"])
    assert said.count(f"Warning: {sentence}") == 2, "before the detector is trained, and with the result"
    assert said.index(few) < said.index("detector 1: "), "before it is trained"
    for name in ("detected-1", "round-1"):
        warnings = Run.open(out / name, finished=True).record["warnings"]
        assert [one for one in warnings if "'scene'" in one] == [one for one in record["warnings"] if "'scene'" in one]
    assert "Of the localizer whose boxes" in (out / "round-1" / "report" / "index.html").read_text()
