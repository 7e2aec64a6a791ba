"""Boxes of another tool as a run directory."""

import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import boxmine
from mining.errors import BoxmineError, CorpusError, InputError, ModelError, ScoringError
from mining.imports import import_boxes
from mining.models.checkpoint import load_model
from mining.runs.status import read_status
from mining.runs.summaries import MineSummary

KAESE = "Käse"
WIDTH, HEIGHT = 100, 80


def box(**changes: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 1, "category_id": 1, "bbox": [30, 30, 20, 20], "score": 0.25, **changes}


def coco(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    size = {"width": WIDTH, "height": HEIGHT}
    return {
        "images": [
            {"id": 3, "file_name": "c.jpg", **size},
            {"id": 1, "file_name": "a.jpg", **size},
            {"id": 2, "file_name": unicodedata.normalize("NFC", "naïve b.jpg"), **size},
        ],
        "categories": [
            {"id": 1, "name": "traffic light"},
            {"id": 7, "name": unicodedata.normalize("NFD", KAESE)},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20.5, 30], "score": 0.5},
            {"id": 2, "image_id": 2, "category_id": 7, "bbox": [5, 6, 7, 8], "score": 0.75},
            *annotations,
        ],
        **changes,
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.jpg", unicodedata.normalize("NFD", "naïve b.jpg"), "c.jpg")):
        pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def run_of(photos: Path, document: Any, dataset: Any = None) -> MineSummary:
    file, other = photos.parent / "boxes.json", photos.parent / "dataset.json"
    file.write_text(json.dumps(document))
    if dataset is not None:
        other.write_text(json.dumps(dataset))
    return import_boxes(file, photos, photos.parent / "run", dataset=None if dataset is None else other)


def refusal(photos: Path, document: Any, kind: type[BoxmineError] = InputError, dataset: Any = None) -> str:
    with pytest.raises(kind) as raised:
        run_of(photos, document, dataset)
    assert raised.value.exit_code == 2
    assert sorted(one.name for one in photos.parent.iterdir() if one.is_dir()) == ["photos"]
    return str(raised.value)


def test_an_import_is_a_finished_run_of_its_boxes(photos: Path) -> None:
    summary = run_of(photos, coco(box(score=0.875)))
    assert (summary.images, summary.boxes, summary.states) == (3, 3, {"labelled": 2, "no_box": 1})
    run = boxmine.Run(summary.run)
    boxes = run.boxes
    assert boxes[["annotation_id", "file_name", "category", "x", "y", "w", "h", "score"]].values.tolist() == [
        [1, "a.jpg", "traffic light", 30, 30, 20, 20, 0.875],
        [2, "a.jpg", "traffic light", 10, 10, 20.5, 30, 0.5],
        [3, unicodedata.normalize("NFD", "naïve b.jpg"), KAESE, 5, 6, 7, 8, 0.75],
    ]
    assert set(boxes["source"]) == set(boxes["localizer"]) == {"import"}
    assert boxes["category_id"].tolist() == [1, 1, 7]
    assert boxes["image_id"].tolist() == [1, 1, 2]
    assert boxes[["class_score", "peak", "mean_activation", "threshold"]].isna().all(axis=None)
    assert run.images["labels"].isna().all()
    assert run.images["content_hash"].str.len().tolist() == [64] * 3
    assert read_status(run.path).state == "finished"


def test_results_take_images_and_classes_from_their_data_set(photos: Path) -> None:
    keys = ("image_id", "category_id", "bbox", "score")
    results = [{key: entry[key] for key in keys} for entry in coco()["annotations"]]
    summary = run_of(photos, results, coco(box(), box()))
    boxes = boxmine.Run(summary.run).boxes
    assert boxes["category"].tolist() == ["traffic light", KAESE]
    assert boxes["score"].tolist() == [0.5, 0.75]


def test_an_empty_list_of_results_is_a_run_without_boxes(photos: Path) -> None:
    summary = run_of(photos, [], coco())
    assert (summary.boxes, summary.states) == (0, {"no_box": 3})
    assert "boxes.json has no box that could be imported." in summary.notes
    assert len(boxmine.Run(summary.run).boxes) == 0


def test_results_without_their_data_set_are_refused(photos: Path) -> None:
    assert "Add --dataset FILE" in refusal(photos, coco()["annotations"])


def test_a_data_set_needs_no_other(photos: Path) -> None:
    assert "Leave --dataset" in refusal(photos, coco(), dataset=coco())


@pytest.mark.parametrize("document", [5, {"images": []}, {"a": 1}])
def test_other_json_is_refused(photos: Path, document: Any) -> None:
    assert "is not a COCO data set" in refusal(photos, document, CorpusError)


def test_boxes_without_scores_score_1(photos: Path) -> None:
    document = coco()
    for entry in document["annotations"]:
        del entry["score"]
    summary = run_of(photos, document)
    assert boxmine.Run(summary.run).boxes["score"].tolist() == [1.0, 1.0]
    assert any(note.startswith("The boxes of boxes.json have no score") for note in summary.notes)


@pytest.mark.parametrize("score", [None, math.nan, "high"])
def test_scores_of_some_boxes_only_are_refused(photos: Path, score: Any) -> None:
    message = refusal(photos, coco(box(score=score)))
    assert "1 of 3 boxes" in message
    assert "first annotation 9" in message


@pytest.mark.parametrize("score", [50, -0.5])
def test_a_score_outside_0_to_1_is_refused(photos: Path, score: float) -> None:
    assert f"the score of annotation 9 is {score:g}" in refusal(photos, coco(box(score=score)))


@pytest.mark.parametrize(
    ("entry", "note"),
    [
        (box(bbox=[150, 10, 20, 20]), "have a box that lies wholly outside their image"),
        (box(bbox=[10, 10, -5, 20]), "have a box without area"),
        (box(bbox=[math.nan, 10, 5, 20]), "have no box of four finite numbers"),
        (box(bbox=[10, 10, 20.5, 30]), "repeat a box of the same image and class"),
        (box(image_id=77), "have an image_id that the file does not list"),
        (box(category_id=77), "have a category_id that the file does not list"),
        (box(iscrowd=1), "mark a crowd"),
    ],
)
def test_a_box_that_cannot_be_used_is_left_out_and_named(photos: Path, entry: dict[str, Any], note: str) -> None:
    summary = run_of(photos, coco(entry))
    assert summary.boxes == 2
    assert any(f"1 of 3 annotations in boxes.json {note}" in one and "annotation 9" in one for one in summary.notes)


def test_of_equal_boxes_the_one_with_the_highest_score_is_kept(photos: Path) -> None:
    summary = run_of(photos, coco(box(bbox=[10, 10, 20.5, 30], score=0.875)))
    assert boxmine.Run(summary.run).boxes["score"].tolist() == [0.875, 0.75]


def test_a_box_that_extends_beyond_its_image_is_clipped_and_noted(photos: Path) -> None:
    summary = run_of(photos, coco(box(bbox=[90, -10, 40, 30], score=1)))
    assert boxmine.Run(summary.run).boxes[["x", "y", "w", "h"]].values.tolist()[0] == [90, 0, 10, 20]
    assert any("1 of 3 boxes" in note and "annotation 9; clipped" in note for note in summary.notes)


def test_the_extent_of_a_mask_is_the_box_where_there_is_no_other(photos: Path) -> None:
    summary = run_of(photos, coco(box(bbox=None, segmentation=[[30, 30, 50, 30, 50, 50, 30, 50]], score=1)))
    assert boxmine.Run(summary.run).boxes[["x", "y", "w", "h"]].values.tolist()[0] == [30, 30, 20, 20]


def test_corners_are_refused(photos: Path) -> None:
    corners = [box(id=i, bbox=[60 + i, 50, 95, 78]) for i in range(12)]
    assert "They look like corners" in refusal(photos, coco(annotations=corners), ScoringError)


def test_an_image_that_cannot_be_used_is_quarantined_with_its_boxes(photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    images = [
        {"id": 4, "file_name": "broken.jpg"},
        {"id": 5, "file_name": "gone.jpg"},
        {"id": 6, "file_name": "c.jpg", "width": 200, "height": 160},
    ]
    document = coco(box(image_id=4), box(image_id=5), box(image_id=6))
    document["images"] = document["images"][1:] + images
    summary = run_of(photos, document)
    assert (summary.boxes, summary.states) == (2, {"labelled": 2, "quarantined": 3})
    assert any("belong to an image that could not be used" in note for note in summary.notes)
    reasons = boxmine.Run(summary.run).quarantine.set_index("file_name")["reason"]
    assert "not an image" in reasons["broken.jpg"]
    assert "no such file" in reasons["gone.jpg"]
    assert "is 100 x 80 px, but boxes.json lists it with 200 x 160 px" in reasons["c.jpg"]


def test_ids_that_are_no_numbers_are_understood(photos: Path) -> None:
    images = [{"id": "one", "file_name": "a.jpg"}, {"id": "two", "file_name": "c.jpg"}]
    summary = run_of(photos, coco(images=images, annotations=[box(image_id="two")]))
    assert boxmine.Run(summary.run).boxes["file_name"].tolist() == ["c.jpg"]


def test_a_folder_that_is_not_empty_is_refused(photos: Path) -> None:
    run_of(photos, coco())
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        run_of(photos, coco())


def test_an_import_is_scored_reported_compared_and_exported(photos: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(coco(box(image_id=3))))
    run = boxmine.Run(run_of(photos, coco()).run)
    other = boxmine.import_boxes(truth, images=photos, out=tmp_path / "other", progress=False)
    scores = run.score(truth)
    assert scores["corloc"]["value"] == pytest.approx(2 / 3)
    page = run.report(truth).read_text(encoding="utf-8")
    assert "Boxes imported from boxes.json" in page
    assert "2 boxes the same, 0 moved" in repr(run.compare(other, truth))
    run.export("coco", tmp_path / "set")
    assert "The boxes were imported from" in (tmp_path / "set" / "README.md").read_text(encoding="utf-8")


def test_the_folder_of_the_model_says_that_there_is_none(photos: Path) -> None:
    run = run_of(photos, coco()).run
    with pytest.raises(ModelError, match="the boxes of this run were imported"):
        load_model(run / "model")
