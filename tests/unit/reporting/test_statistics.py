"""Counts over all boxes, and the charts built from them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.errors import RunError
from mining.reporting.charts import BARS, build_histogram
from mining.reporting.statistics import CELLS, count_boxes, count_cells, quantile


def test_boxes_are_counted_by_class_score_and_size(tmp_path: Path):
    table = {
        "category": ["cat", "dog", "cat"], "score": [0.0, 0.5, 1.0], "area": [100.0, 2500.0, 10000.0],
        "width": [100, 100, 100], "height": [100, 100, 100],
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=1)
    survey = count_boxes(tmp_path / "a.parquet")
    assert survey.boxes == 3
    assert survey.classes() == [("cat", 2), ("dog", 1)]
    assert np.flatnonzero(survey.scores).tolist() == [0, 500, CELLS - 1]
    assert np.flatnonzero(survey.sizes).tolist() == [100, 500, CELLS - 1]


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
