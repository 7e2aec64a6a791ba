"""Curves, and thresholds of classes and of maps."""

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
from tests.unit.engine.painting import Found, black, blob, found_in, opened, painted_model

# --- curves ------------------------------------------------------------------------------------------------------------


def test_curves_tell_what_mining_at_another_threshold_gives(tmp_path: Path) -> None:
    pictures = {"a.png": blob((300, 200), 60.0), "b.png": blob((880, 590), 90.0)}
    labels = {"a.png": ("red",), "b.png": ("red",)}
    run = opened(tmp_path / "one", pictures, labels, min_area=0.02, model=painted_model(tmp_path / "model"))
    mine_shard(run, 0)
    curves = {row["image_id"]: row for row in pq.read_table(run.curve_part(0)).to_pylist()}
    for threshold in (0.1, 0.5, 0.9):
        place = CURVE_THRESHOLDS.index(threshold)
        other = opened(
            tmp_path / str(threshold), pictures, labels, min_area=0.02, threshold=threshold,
            model=painted_model(tmp_path / "model"),
        )  # fmt: skip
        mine_shard(other, 0)
        for name, found in found_in(other).items():
            row = curves[found.outcome.image_id]
            stretch = np.tile([row["width"] / row["map_width"], row["height"] / row["map_height"]], 2)
            told = row["xyxy"][4 * place : 4 * place + 4] * stretch
            assert (row["width"], row["height"]) == (900, 600), name
            if found.boxes:
                assert told == pytest.approx(found.boxes[0], abs=1e-3)
            else:
                assert not told.any()


def test_boxes_do_not_depend_on_curves(tmp_path: Path) -> None:
    pictures, labels = {"a.png": blob((300, 200), 60.0)}, {"a.png": ("red",)}
    runs = [opened(tmp_path / str(curves), pictures, labels, curves=curves) for curves in (True, False)]
    for run in runs:
        mine_shard(run, 0)
    first, second = (found_in(run)["a.png"].without_identity() for run in runs)
    assert first == second
    assert not runs[1].curve_part(0).exists()


def test_a_part_without_its_curves_is_mined_again(tmp_path: Path) -> None:
    run = opened(tmp_path, {"a.png": blob((300, 200), 60.0)}, {"a.png": ("red",)})
    mine_shard(run, 0)
    whole = run.curve_part(0).read_bytes()
    run.curve_part(0).write_bytes(whole[:100])
    assert plan_mining(run.settings).shards == [0]
    mine_shard(run, 0)
    assert run.curve_part(0).read_bytes() == whole


# --- thresholds of classes and of maps ---------------------------------------------------------------------------------


HILLS = {"a.png": blob((300, 200), 60.0), "b.png": blob((450, 300), 200.0), "c.png": blob((880, 590), 90.0)}
ALL_RED = dict.fromkeys(HILLS, ("red",))


@pytest.mark.parametrize("curves", [True, False])
@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
def test_each_map_is_cut_where_it_says(
    mined: Callable[..., dict[str, Found]], tmp_path: Path, how: str, curves: bool
) -> None:
    run = opened(tmp_path, HILLS, ALL_RED, threshold=how, curves=curves)
    mine_shard(run, 0)
    assert run.curve_part(0).exists() == curves
    at = {name: {row["threshold"] for row in found.rows} for name, found in found_in(run).items()}
    assert all(len(thresholds) == 1 for thresholds in at.values())
    if how != "stability":  # hills of one shape, but not cut off alike
        assert len(set.union(*at.values())) > 1
    for name, (threshold,) in at.items():
        asked = mined({name: HILLS[name]}, {name: ("red",)}, threshold=float(np.float32(threshold)))[name]
        assert found_in(run)[name].boxes == asked.boxes


@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
def test_the_threshold_of_a_map_is_the_one_that_a_score_tells_of(tmp_path: Path, how: str) -> None:
    """That is, the box mined is the box which its curve has there."""
    run = opened(tmp_path, HILLS, ALL_RED, threshold=how)
    mine_shard(run, 0)
    found = {one.outcome.image_id: one for one in found_in(run).values()}
    for row in pq.read_table(run.curve_part(0)).to_pylist():
        xyxy = np.array(row["xyxy"], np.float32).reshape(1, -1, 4)
        grid = np.array(CURVE_THRESHOLDS)
        told = stable_positions(xyxy) if how == "stability" else nearest_positions(np.array([row[how]]), grid)
        stretch = np.tile([row["width"] / row["map_width"], row["height"] / row["map_height"]], 2)
        assert found[row["image_id"]].boxes[0] == pytest.approx(xyxy[0, told[0]] * stretch, abs=1e-3)


@pytest.mark.parametrize("how", ["otsu", "entropy", "stability"])
@pytest.mark.parametrize("picture", [black(), np.full((64, 96, 3), 255, np.uint8)], ids=["nowhere", "everywhere"])
def test_a_map_that_says_nothing_has_no_box_at_its_own_threshold(
    one: Callable[..., Found], how: str, picture: np.ndarray
) -> None:
    assert one(picture, "red", threshold=how).state == "no_region"


def test_a_class_may_have_a_threshold_of_its_own(mined: Callable[..., dict[str, Found]]) -> None:
    pixels = HILLS["a.png"] + np.roll(HILLS["a.png"], 1, axis=2)  # the same hill in red and green
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


def test_a_threshold_for_a_class_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'gren' of class_thresholds: did you mean 'green'\?"):
        opened(tmp_path, HILLS, ALL_RED, class_thresholds={"gren": 0.3})
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
