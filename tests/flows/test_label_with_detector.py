"""`boxmine label` with a detector as the model: photos of several days in one store."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from deltalake import DeltaTable

from flows.cli.application import run_command
from mining.config import DetectorNetworkOptions
from mining.detection.folder import build_detector, detector_card, save_detector
from mining.models.card import read_card
from mining.runs.run import Run
from tests.factories import register_staged_backbone, write_model, write_photos
from tests.unit.label_store.project import GATES_OFF

CLASSES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
LABELS = {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "cat|dog", "d.jpg": ""}
NEW = {"e.jpg": "dog", "f.jpg": "cat"}


def write_detector(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    options = DetectorNetworkOptions(side=64, channels=64, convolutions=1, frozen_stages=0)
    card = detector_card(options, "staged", CLASSES)
    detector = build_detector(card)
    with torch.no_grad():
        detector.head.layers.classification_head.cls_logits.weight.normal_(std=0.3)
        detector.head.layers.classification_head.cls_logits.bias.fill_(-1.0)
        detector.head.layers.regression_head.bbox_reg.bias.fill_(2.0)  # strides from a cell to each side
    save_detector(folder, detector, card)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four labelled photos, a detector, and the recipe of a labelling job with it."""
    register_staged_backbone(monkeypatch)
    write_photos(tmp_path / "photos", list(LABELS))
    write_labels(tmp_path, LABELS)
    write_recipe(tmp_path, write_detector(tmp_path / "detector"))
    return tmp_path


def write_labels(folder: Path, labels: dict[str, str]) -> None:
    lines = ["file_name,labels", *(f"{name},{names}" for name, names in labels.items())]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def write_recipe(folder: Path, model: Path) -> None:
    values = {
        "store": "store", "runs": "runs", "corpus": {"images": "photos", "labels": "labels.csv"}, "model": str(model),
        "mine": {"device": "cpu", "workers": 1, "max_borders": 4}, "gates": GATES_OFF,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))


def label(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run the job; returns what `--json` prints."""
    capsys.readouterr()
    assert run_command(["label", str(folder / "recipe.yaml"), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def boxes_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The boxes of the store's latest version by file name."""
    rows = DeltaTable(folder / "store").to_pyarrow_table().to_pylist()
    found: dict[str, list[dict[str, Any]]] = {row["file_name"]: [] for row in rows}
    for row in sorted(rows, key=lambda row: row["annotation_id"] or 0):
        if row["annotation_id"] is not None:
            found[row["file_name"]].append(row)
    return found


def runs_of(folder: Path) -> set[Path]:
    return {path.parent for path in (folder / "runs").glob("*/run.json")}


def test_a_detector_labels_new_photos_into_the_same_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(folder, capsys)["state"] == "published"
    first, first_runs = boxes_of(folder), runs_of(folder)
    assert set(first) == set(LABELS)
    for name, boxes in first.items():
        assert {box["category"] for box in boxes} == set(filter(None, LABELS[name].split("|"))), name
        assert {(box["localizer"], box["source"]) for box in boxes} <= {("fcos", "label")}
    digest = read_card(folder / "detector").weights_sha256
    assert {box["model_sha256"] for boxes in first.values() for box in boxes} == {digest}

    write_photos(folder / "more", [*LABELS, *NEW])  # the names decide what is drawn
    for name in NEW:
        (folder / "more" / name).rename(folder / "photos" / name)
    write_labels(folder, LABELS | NEW)
    assert label(folder, capsys)["state"] == "published"
    second = boxes_of(folder)
    assert {name: str(boxes) for name, boxes in second.items() if name in LABELS} == {
        name: str(boxes)
        for name, boxes in first.items()  # as text, in which nan equals nan
    }
    assert all(second[name] for name in NEW)
    (run,) = runs_of(folder) - first_runs
    assert sorted(row["file_name"] for row in Run(run).read_corpus(["file_name"]).to_pylist()) == sorted(NEW)

    version = DeltaTable(folder / "store").version()
    label(folder, capsys)
    assert DeltaTable(folder / "store").version() == version, "nothing was new"


def test_a_detector_takes_over_the_store_of_a_localizer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(folder, write_model(folder / "localizer", ("cat", "dog"), objective="multi", backbone="staged"))
    label(folder, capsys)
    before = boxes_of(folder)
    assert {box["localizer"] for boxes in before.values() for box in boxes} == {"cam"}
    write_recipe(folder, folder / "detector")
    label(folder, capsys)
    after = boxes_of(folder)
    assert set(after) == set(before)
    assert {box["localizer"] for boxes in after.values() for box in boxes} == {"fcos"}

    write_recipe(folder, write_detector(folder / "next", seed=1))
    label(folder, capsys)
    digest = read_card(folder / "next").weights_sha256
    assert {box["model_sha256"] for boxes in boxes_of(folder).values() for box in boxes} == {digest}


def test_an_option_of_maps_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["label", str(folder / "recipe.yaml"), "--set", "mine.refine=walk"]) == 2
    assert "--refine is for localizers" in " ".join(capsys.readouterr().err.split())
    assert not (folder / "store").exists()
    assert not (folder / "runs").exists()
