"""The images whose true boxes a run's model learned from: known by content, noted in scores, left out of comparisons."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mining.evaluation.run_comparison import compare_runs
from mining.evaluation.run_scoring import score_run
from mining.evaluation.taught_images import taught_images
from mining.models.card import CARD_FILE, read_card
from mining.runs.run import Run
from mining.storage.files import sha256_of
from tests.unit.export.conftest import Painted, write_run

DOG = 1
PAINTED = tuple(Painted(f"{name}.png", ((DOG, 5, 5, 20, 20, 0.8),), labels=("dog",)) for name in "abc")


def a_run(folder: Path, taught: str = "") -> Run:
    """A run of a model that learned from true boxes of the images with these letters."""
    run = Run.open(write_run(folder, PAINTED).folder, finished=True)
    corpus = run.read_corpus()
    digests = {name: sha256_of(run.image_root / name) for name in corpus["file_name"].to_pylist()}
    place = corpus.schema.get_field_index("content_hash")
    hashed = pa.array(list(digests.values()), corpus.schema.field(place).type)
    pq.write_table(corpus.set_column(place, corpus.schema.field(place), hashed), run.corpus)
    hashes = [digest for name, digest in digests.items() if name[0] in taught]
    card = replace(read_card(run.model), training={"inputs": {"true_boxes": {"sha256": "0" * 64, "images": hashes}}})
    path = run.model / CARD_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "training": card.training}))
    record = json.loads((run.path / "run.json").read_text())
    record.pop("digests", None)
    (run.path / "run.json").write_text(json.dumps(record))
    return run


def a_truth(path: Path, boxes: dict[str, list[float]]) -> Path:
    names = list(boxes)
    document = {
        "images": [{"id": n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate(names)],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": box} for n, box in enumerate(boxes.values())
        ],
    }
    path.write_text(json.dumps(document))
    return path


def test_taught_images_are_found_by_their_content(tmp_path: Path) -> None:
    assert taught_images(a_run(tmp_path / "taught", "ac").path) == {"a.png", "c.png"}
    assert taught_images(a_run(tmp_path / "other").path) == frozenset()


def test_a_score_notes_that_the_model_has_learned_from_coco(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    truth = a_truth(tmp_path / "t.json", {"a.png": [5, 5, 20, 20]})
    assert not any("COCO" in note for note in score_run(run.path, truth, resamples=0)["notes"])
    path = run.model / CARD_FILE
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "training": {**card["training"], "seen_coco": True}}))
    assert any("learned from the boxes of COCO" in note for note in score_run(run.path, truth, resamples=0)["notes"])


def test_a_score_notes_how_many_scored_images_were_taught(tmp_path: Path) -> None:
    run = a_run(tmp_path, "ac")
    truth = a_truth(tmp_path / "t.json", {"a.png": [5, 5, 20, 20], "b.png": [5, 5, 20, 20]})
    said = [note for note in score_run(run.path, truth, resamples=0)["notes"] if "learned from true boxes" in note]
    assert len(said) == 1
    assert "1 of the 2 scored images" in said[0]
    others = a_truth(tmp_path / "o.json", {"b.png": [5, 5, 20, 20]})
    assert not any("learned from" in note for note in score_run(run.path, others, resamples=0)["notes"])


def test_a_comparison_leaves_out_unscored_images(tmp_path: Path) -> None:
    first, second = a_run(tmp_path / "1"), a_run(tmp_path / "2", "a")
    right, wrong = [5, 5, 20, 20], [40, 20, 15, 15]
    truth = a_truth(tmp_path / "t.json", {"a.png": right, "b.png": right, "c.png": wrong})
    whole = compare_runs(first.path, second.path, truth, resamples=50)
    assert whole.summary["truth"]["pairs"] == 3
    some = compare_runs(first.path, second.path, truth, unscored=taught_images(second.path), resamples=50)
    assert some.summary["truth"]["pairs"] == 2
    assert some.summary["truth"]["corloc_0.5"]["second"] == 0.5
    assert {change.file_name for change in some.changes} == {"b.png", "c.png"}
    none = compare_runs(first.path, second.path, truth, unscored={"a.png", "b.png", "c.png"}, resamples=50)
    assert none.summary["truth"]["pairs"] == 0
