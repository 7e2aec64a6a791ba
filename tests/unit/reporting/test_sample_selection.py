"""Selection of the pairs to show for each class, each at most once."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.corpus.schema import CORPUS_SCHEMA
from mining.evaluation import GroundTruth, TruthBoxes
from mining.reporting import sample_selection, statistics
from mining.reporting.ground_truth_index import GroundTruthIndex
from mining.reporting.sample_selection import BEST, DOUBTFUL, MISSED, WORST, Pair, Ranking, find_pairs, select_pairs
from mining.storage.parquet import iter_batches


def write_boxes(path: Path, boxes: list[tuple[str, float, float]], source: str = "label") -> Path:
    """boxes: (file name, width of a box 100 high at the origin, score), an image's boxes together."""
    names = list(dict.fromkeys(name for name, *_ in boxes))
    rows = [
        {"image_id": names.index(name), "file_name": name, "category": "cat", "x": 0.0, "y": 0.0, "w": width,
         "h": 100.0, "score": score, "class_score": score, "threshold": 0.25, "source": source,
         "annotation_id": number}
        for number, (name, width, score) in enumerate(boxes, start=1)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def truth_of(folder: Path, names: list[str], *, ignored: tuple[str, ...] = ()) -> GroundTruthIndex:
    """One true box of 100 x 100 px of a cat in each image."""
    rows = [
        {"image_id": i, "file_name": name, "width": 200, "height": 100, "labels": None, "split": None, "bytes": 1,
         "content_hash": None, "state": "labelled"}
        for i, name in enumerate(names)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, CORPUS_SCHEMA), folder / "corpus.parquet")
    count = len(names)
    boxes = TruthBoxes(
        np.arange(count), np.zeros(count, int), np.tile([0.0, 0.0, 100.0, 100.0], (count, 1)),
        is_ignored=np.array([name in ignored for name in names]),
    )  # fmt: skip
    truth = GroundTruth("t.json", "0" * 64, tuple(names), np.full((count, 2), 200.0), ("cat",), boxes)
    return GroundTruthIndex(truth, folder / "corpus.parquet")


def kinds(chosen: dict[str, list[tuple[str, Pair]]]) -> list[tuple[str, str]]:
    return [(kind, pair.file_name) for kind, pair in chosen["cat"]]


def test_pairs_are_ranked_by_iou_with_ground_truth(tmp_path: Path):
    boxes = [("tight", 100, 0.6), ("half", 52, 0.7), ("sure", 10, 0.9), ("unsure", 10, 0.2), ("good", 80, 0.8)]
    table = write_boxes(tmp_path / "a.parquet", boxes)
    truth = truth_of(tmp_path, [name for name, *_ in boxes])
    chosen = select_pairs(table, ["cat"], truth, per_class=1, class_cut=0.3)
    assert kinds(chosen) == [(BEST, "tight"), (DOUBTFUL, "half"), (WORST, "sure")]
    assert [pair.iou for _, pair in chosen["cat"]] == pytest.approx([1.0, 0.52, 0.1])


def test_what_the_run_missed_takes_a_place_among_the_worst(tmp_path: Path):
    table = write_boxes(tmp_path / "a.parquet", [("tight", 100, 0.6), ("sure", 10, 0.9), ("unsure", 10, 0.2)])
    truth = truth_of(tmp_path, ["tight", "sure", "unsure", "empty", "not counted"], ignored=("not counted",))
    chosen = select_pairs(table, ["cat"], truth, per_class=2, class_cut=0.3)
    assert kinds(chosen) == [(BEST, "tight"), (DOUBTFUL, "unsure"), (WORST, "sure"), (MISSED, "empty")]


def test_a_pair_whose_truth_does_not_count_is_not_judged(tmp_path: Path):
    table = write_boxes(tmp_path / "a.parquet", [("not counted", 10, 0.9), ("right", 90, 0.5)])
    truth = truth_of(tmp_path, ["not counted", "right"], ignored=("not counted",))
    assert kinds(select_pairs(table, ["cat"], truth, per_class=2, class_cut=0.3)) == [(BEST, "right")]


def test_by_score_and_rivals_without_truth(tmp_path: Path):
    boxes = [("high", 50, 0.9), ("rival", 50, 0.6), ("rival", 20, 0.58), ("low", 50, 0.1), ("plain", 50, 0.5)]
    table = write_boxes(tmp_path / "a.parquet", boxes)
    chosen = select_pairs(table, ["cat"], None, per_class=1, class_cut=0.3)
    assert kinds(chosen) == [(BEST, "high"), (DOUBTFUL, "rival"), (WORST, "low")]
    assert len(chosen["cat"][1][1].rows) == 2


def test_a_class_predicted_near_the_cut_is_doubtful(tmp_path: Path):
    boxes = [("high", 50, 0.9), ("near", 50, 0.34), ("low", 50, 0.05)]
    table = write_boxes(tmp_path / "a.parquet", boxes, source="prediction")
    assert (DOUBTFUL, "near") in kinds(select_pairs(table, ["cat"], None, per_class=1, class_cut=0.3))


def test_no_image_twice(tmp_path: Path):
    table = write_boxes(tmp_path / "a.parquet", [("only", 50, 0.9), ("other", 50, 0.8)])
    assert kinds(select_pairs(table, ["cat"], None, per_class=3, class_cut=0.3)) == [(BEST, "only"), (WORST, "other")]


def test_a_ranking_keeps_the_highest_and_of_equals_the_first():
    ranking = Ranking(2)
    for name, key in (("a", 0.5), ("b", 0.9), ("c", 0.5), ("d", 0.1)):
        ranking.offer(key, Pair(name, "cat", (), None, None))
    assert [pair.file_name for pair in ranking.pairs()] == ["b", "a"]


def test_pairs_are_found_by_name_in_the_order_asked_for(tmp_path: Path):
    table = write_boxes(
        tmp_path / "a.parquet", [("one", 50, 0.9), ("two", 50, 0.8), ("two", 20, 0.95), ("three", 9, 0.1)]
    )
    found = find_pairs(table, [("two", "cat"), ("nowhere", "cat"), ("one", "cat")], None)
    assert [(pair.file_name, [row.annotation_id for row in pair.rows]) for pair in found] == [
        ("two", [3, 2]), ("nowhere", []), ("one", [1])
    ]  # fmt: skip
    assert find_pairs(table, [], None) == []


@pytest.mark.parametrize("source", ["label", "prediction"])
def test_only_images_that_can_be_ranked_are_looked_at_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(1, 9, 300) / 10  # with ties
    boxes = [(f"{number // 2 if number % 3 else number}", 50.0, float(score)) for number, score in enumerate(scores)]
    boxes.sort(key=lambda row: int(row[0]))
    table = write_boxes(tmp_path / "a.parquet", boxes, source)
    monkeypatch.setattr(statistics, "iter_batches", partial(iter_batches, batch_rows=11))
    found = select_pairs(table, ["cat"], None, per_class=3, class_cut=0.3)
    assert 9 <= len(sample_selection.top_by_score(table, ["cat"], 9, 0.3)) <= 27
    monkeypatch.setattr(sample_selection, "top_by_score", lambda *_: None)
    assert found == select_pairs(table, ["cat"], None, per_class=3, class_cut=0.3)
