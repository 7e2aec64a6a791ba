"""Threshold curves, per-class thresholds and automatic thresholds per map."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mining.config.mine import CURVE_THRESHOLDS
from mining.errors import ModelError
from mining.regions.map_thresholds import nearest_positions, stable_positions
from mining.runs.mining_job import plan_mining
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import ImageResult, black, blob, painted_model, planned_run, results_by_file

# --- curves ------------------------------------------------------------------------------------------------------------


def test_curves_predict_the_boxes_at_other_thresholds(tmp_path: Path) -> None:
    pictures = {"a.png": blob((300, 200), 60.0), "b.png": blob((880, 590), 90.0)}
    labels = {"a.png": ("red",), "b.png": ("red",)}
    run = planned_run(tmp_path / "one", pictures, labels, min_area=0.02, model=painted_model(tmp_path / "model"))
    mine_shard(run, 0)
    curves = {row["image_id"]: row for row in pq.read_table(run.curve_part(0)).to_pylist()}
    for threshold in (0.1, 0.5, 0.9):
        place = CURVE_THRESHOLDS.index(threshold)
        other = planned_run(
            tmp_path / str(threshold), pictures, labels, min_area=0.02, threshold=threshold,
            model=painted_model(tmp_path / "model"),
        )  # fmt: skip
        mine_shard(other, 0)
        for name, found in results_by_file(other).items():
            row = curves[found.outcome.image_id]
            stretch = np.tile([row["width"] / row["map_width"], row["height"] / row["map_height"]], 2)
            predicted = row["xyxy"][4 * place : 4 * place + 4] * stretch
            assert (row["width"], row["height"]) == (900, 600), name
            if found.boxes:
                assert predicted == pytest.approx(found.boxes[0], abs=1e-3)
            else:
                assert not predicted.any()


def test_boxes_do_not_depend_on_curves(tmp_path: Path) -> None:
    pictures, labels = {"a.png": blob((300, 200), 60.0)}, {"a.png": ("red",)}
    runs = [planned_run(tmp_path / str(curves), pictures, labels, curves=curves) for curves in (True, False)]
    for run in runs:
        mine_shard(run, 0)
    first, second = (results_by_file(run)["a.png"].without_identity() for run in runs)
    assert first == second
    assert not runs[1].curve_part(0).exists()


def test_a_part_with_damaged_curves_is_mined_again(tmp_path: Path) -> None:
    run = planned_run(tmp_path, {"a.png": blob((300, 200), 60.0)}, {"a.png": ("red",)})
    mine_shard(run, 0)
    whole = run.curve_part(0).read_bytes()
    run.curve_part(0).write_bytes(whole[:100])
    assert plan_mining(run.settings).shards == [0]
    mine_shard(run, 0)
    assert run.curve_part(0).read_bytes() == whole


# --- per-class and automatic thresholds --------------------------------------------------------------------------------


HILLS = {"a.png": blob((300, 200), 60.0), "b.png": blob((450, 300), 200.0), "c.png": blob((880, 590), 90.0)}
ALL_RED = dict.fromkeys(HILLS, ("red",))


@pytest.mark.parametrize("curves", [True, False])
@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
def test_automatic_thresholds_reproduce_the_boxes_when_given_explicitly(
    mined: Callable[..., dict[str, ImageResult]], tmp_path: Path, how: str, curves: bool
) -> None:
    run = planned_run(tmp_path, HILLS, ALL_RED, threshold=how, curves=curves)
    mine_shard(run, 0)
    assert run.curve_part(0).exists() == curves
    at = {name: {row["threshold"] for row in found.rows} for name, found in results_by_file(run).items()}
    assert all(len(thresholds) == 1 for thresholds in at.values())
    if how != "stability":  # the blobs have one shape, but the image border cuts them differently
        assert len(set.union(*at.values())) > 1
    for name, (threshold,) in at.items():
        asked = mined({name: HILLS[name]}, {name: ("red",)}, threshold=float(np.float32(threshold)))[name]
        assert results_by_file(run)[name].boxes == asked.boxes


@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
def test_automatic_thresholds_match_those_used_for_scoring(tmp_path: Path, how: str) -> None:
    """The mined box equals the box on the curve at the threshold that scoring uses."""
    run = planned_run(tmp_path, HILLS, ALL_RED, threshold=how)
    mine_shard(run, 0)
    found = {one.outcome.image_id: one for one in results_by_file(run).values()}
    for row in pq.read_table(run.curve_part(0)).to_pylist():
        xyxy = np.array(row["xyxy"], np.float32).reshape(1, -1, 4)
        grid = np.array(CURVE_THRESHOLDS)
        predicted = stable_positions(xyxy) if how == "stability" else nearest_positions(np.array([row[how]]), grid)
        stretch = np.tile([row["width"] / row["map_width"], row["height"] / row["map_height"]], 2)
        assert found[row["image_id"]].boxes[0] == pytest.approx(xyxy[0, predicted[0]] * stretch, abs=1e-3)


@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
@pytest.mark.parametrize("picture", [black(), np.full((64, 96, 3), 255, np.uint8)], ids=["nowhere", "everywhere"])
def test_a_constant_map_has_no_box_at_an_automatic_threshold(
    mine_one: Callable[..., ImageResult], how: str, picture: np.ndarray
) -> None:
    assert mine_one(picture, "red", threshold=how).state == "no_region"


def test_a_class_can_have_its_own_threshold(mined: Callable[..., dict[str, ImageResult]]) -> None:
    pixels = HILLS["a.png"] + np.roll(HILLS["a.png"], 1, axis=2)  # the same blob in red and green
    pictures, labels = {"a.png": pixels}, {"a.png": ("red", "green")}
    common, other = (mined(pictures, labels, threshold=level)["a.png"] for level in (0.3, 0.8))
    mixed = mined(pictures, labels, threshold=0.3, class_thresholds={"green": 0.8})["a.png"]
    of_class = {row["category"]: row for row in mixed.rows}
    expected = (
        {row["category"]: row for row in common.rows}["red"],
        {row["category"]: row for row in other.rows}["green"],
    )
    for row in expected:
        own = of_class[row["category"]]
        assert [own[key] for key in ("x", "y", "w", "h", "score", "threshold")] == [
            row[key] for key in ("x", "y", "w", "h", "score", "threshold")
        ]


def test_a_threshold_for_an_unknown_class_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'gren' of class_thresholds: did you mean 'green'\?"):
        planned_run(tmp_path, HILLS, ALL_RED, class_thresholds={"gren": 0.3})
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
