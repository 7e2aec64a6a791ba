"""Counts over all boxes, and the charts built from them."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.errors import RunError
from mining.reporting import statistics
from mining.reporting.charts import BARS, build_histogram
from mining.reporting.statistics import CELLS, count_boxes, count_cells, quantile
from mining.storage.parquet import iter_batches


def test_boxes_are_counted_by_class_score_and_size(tmp_path: Path):
    table = {
        "category": ["cat", "dog", "cat"], "score": [0.0, 0.5, 1.0], "area": [100.0, 2500.0, 10000.0],
        "width": [100, 100, 100], "height": [100, 100, 100], "image_id": [1, 1, 2], "source": ["label"] * 3,
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=1)
    survey = count_boxes(tmp_path / "a.parquet")
    assert survey.boxes == 3
    assert survey.classes() == [("cat", 2), ("dog", 1)]
    assert np.flatnonzero(survey.scores).tolist() == [0, 500, CELLS - 1]
    assert np.flatnonzero(survey.sizes).tolist() == [100, 500, CELLS - 1]


def random_boxes(path: Path, images: int = 60) -> pa.Table:
    """0 to 4 boxes of three classes on each image, in small row groups."""
    rng = np.random.default_rng(0)
    image = np.repeat(rng.permutation(images), rng.integers(0, 5, images))
    count = len(image)
    table = pa.table({
        "image_id": image, "category": rng.choice(["cat", "dog", "cow"], count), "score": rng.random(count),
        "area": np.full(count, 100.0), "width": np.full(count, 100), "height": np.full(count, 100),
        "source": rng.choice(["label", "prediction"], count),
    })  # fmt: skip
    pq.write_table(table, path)
    return table


def test_batches_never_divide_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = random_boxes(tmp_path / "a.parquet")
    monkeypatch.setattr(statistics, "iter_batches", partial(iter_batches, batch_rows=3))
    batches = list(statistics.iter_whole_images(tmp_path / "a.parquet", table.column_names))
    assert pa.concat_tables(batches).equals(table)
    seen = [set(batch["image_id"].to_pylist()) for batch in batches]
    assert len(seen) > 5
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_sums_over_images_are_those_counted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frame = random_boxes(tmp_path / "a.parquet").to_pandas()
    monkeypatch.setattr(statistics, "iter_batches", partial(iter_batches, batch_rows=7))
    found = count_boxes(tmp_path / "a.parquet")
    in_image = frame.groupby("image_id").size()
    assert found.images == len(in_image)
    assert found.squares == (in_image**2).sum()
    assert found.per_image.tolist() == [(in_image == number).sum() for number in range(6)] + [0]
    for step in range(statistics.SCORE_STEPS):
        below = frame[frame.score < (step + 1) / statistics.SCORE_STEPS].groupby("image_id").size()
        assert found.below_squares[step] == (below**2).sum()
        assert found.below_products[step] == (below * in_image).sum()
    for name, of_class in frame.groupby("category"):
        counts, per_image = found.of_class[name], of_class.groupby("image_id").size()
        assert (counts.boxes, counts.images) == (len(of_class), len(per_image))
        assert counts.listed_images == of_class[of_class.source == "label"].image_id.nunique()
        assert (counts.squares, counts.products) == ((per_image**2).sum(), (per_image * in_image).sum())
        assert counts.scores.tolist() == np.histogram(of_class.score, statistics.CLASS_CELLS, (0, 1))[0].tolist()


def test_boxes_by_people_are_listed_unless_the_image_has_a_mined_one(tmp_path: Path):
    rows = [(1, "human"), (1, "label"), (2, "human"), (3, "label")]
    table = {
        "image_id": [image for image, _ in rows], "category": ["cat"] * 4, "score": [0.5] * 4, "area": [1.0] * 4,
        "width": [10] * 4, "height": [10] * 4, "source": [source for _, source in rows],
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert count_boxes(tmp_path / "a.parquet").by_people == {(2, "cat")}


def test_a_missing_table_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="Mine again"):
        count_boxes(tmp_path / "a.parquet")


def test_the_median_is_near_the_true_one():
    values = np.random.default_rng(0).random(5001)
    assert quantile(count_cells(values), 0.5) == pytest.approx(np.median(values), abs=1 / CELLS)


def test_shares_add_up_and_the_true_boxes_share_the_scale():
    chart = build_histogram(count_cells(np.array([0.1, 0.9])), count_cells(np.array([0.5])))
    assert chart is not None
    assert len(chart.bars) == len(chart.other) == BARS
    assert sum(chart.bars) == pytest.approx(100)
    assert chart.highest == 100


def test_nothing_counted_gives_no_chart():
    assert build_histogram(count_cells(np.array([]))) is None
