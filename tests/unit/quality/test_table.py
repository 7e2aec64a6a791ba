"""quality.parquet of a finished run."""

import json
from pathlib import Path

import numpy as np
import pytest

from mining.quality.calibration import calibrate
from mining.quality.correctness import calibrate_run, judge_by_truth
from mining.quality.table import apply_calibration, read_boxes_with_quality, read_quality
from tests.unit.quality.small_run import CLASSES, SIZE, generated_run


def write_truth(path: Path, rows, images) -> Path:
    """Rows of file name, class, box, flags."""
    ids = {name: number for number, name in enumerate(images, start=1)}
    annotations = [
        {"id": i, "image_id": ids[name], "category_id": CLASSES.index(c) + 1, "bbox": list(box), **flags}
        for i, (name, c, box, flags) in enumerate(rows, start=1)
    ]
    content = {
        "images": [{"id": i, "file_name": name, "width": SIZE, "height": SIZE} for name, i in ids.items()],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
    }
    path.write_text(json.dumps(content))
    return path


def test_the_table_is_written_once_and_read_afterwards(small) -> None:
    small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {})]
    run = small.write()
    first = read_quality(run)
    written = run.quality.stat().st_mtime_ns
    assert read_quality(run).equals(first)
    assert run.quality.stat().st_mtime_ns == written
    assert first["p_correct"].to_pylist() == [None]


def test_the_run_itself_is_not_changed(small) -> None:
    small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {})]
    run = small.write()
    before = {path: path.read_bytes() for path in small.path.rglob("*") if path.is_file()}
    read_quality(run)
    assert {path for path in small.path.rglob("*") if path.is_file()} == {*before, run.quality}
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing"])
def test_a_damaged_or_missing_table_is_made_again(small, damage) -> None:
    small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {})]
    run = small.write()
    first = read_quality(run)
    content = bytearray(run.quality.read_bytes())
    content[len(content) // 3] ^= 1
    if damage == "missing":
        run.quality.unlink()
    else:
        run.quality.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    assert read_quality(run).equals(first)
    assert read_quality(run).equals(first)


def test_a_table_of_other_boxes_is_made_again(small) -> None:
    small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {})]
    read_quality(small.write())
    small.boxes = [("a.jpg", "cat", (0, 0, 50, 50), {})]
    assert read_quality(small.write())["area_share"].to_pylist() == [0.25]


def test_columns_are_joined_to_the_boxes_with_their_meaning(small) -> None:
    small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {}), ("b.jpg", "cat", (0, 0, 50, 50), {})]
    run = small.write()
    table = read_boxes_with_quality(run)
    assert table.column_names[: len(run.read_annotations().column_names)] == run.read_annotations().column_names
    assert table["area_share"].to_pylist() == pytest.approx([0.04, 0.25])
    assert table.schema.field("area_share").metadata[b"unit"] == b"0-1"


def test_the_run_to_agree_with_is_remembered(small, tmp_path) -> None:
    other = type(small)(tmp_path / "other")
    other.boxes = small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {})]
    run = small.write()
    read_quality(run, agree_with=other.write())
    assert read_quality(run)["run_agreement"].to_pylist() == [1]


def test_stored_probabilities_are_cross_fitted_also_after_damage(tmp_path) -> None:
    run, correct = generated_run(tmp_path / "run")
    run = run.write()
    signals = read_boxes_with_quality(run)
    images = signals["file_name"].to_pylist()
    calibration = calibrate(signals, correct, None, images)
    expected = calibration.predict(signals, images).p_correct
    assert apply_calibration(run, calibration)["p_correct"].to_numpy() == pytest.approx(expected, abs=1e-6)
    run.quality.write_bytes(b"damaged")
    assert read_quality(run)["p_correct"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert read_quality(run)["expected_iou"].null_count == len(images)


def test_a_run_that_is_discarded_takes_its_table_with_it(small) -> None:
    small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {})]
    run = small.write()
    read_quality(run)
    run.calibration.write_text("{}")
    (run.model / "model.json").unlink()
    run.discard()
    assert not run.quality.exists()
    assert not run.calibration.exists()


def test_a_truth_judges_boxes_of_its_images_and_classes(small, tmp_path) -> None:
    small.boxes = [
        ("a.jpg", "cat", (0, 0, 20, 20), {}),
        ("a.jpg", "cat", (50, 50, 20, 20), {}),
        ("a.jpg", "dog", (0, 0, 20, 20), {}),
        ("b.jpg", "cat", (0, 0, 20, 20), {}),
        ("c.jpg", "cat", (0, 0, 20, 20), {}),
    ]
    rows = [
        ("a.jpg", "cat", (0, 0, 20, 40), {}),
        ("a.jpg", "dog", (0, 0, 20, 20), {"difficult": 1}),
        ("b.jpg", "cat", (0, 0, 90, 90), {"iscrowd": 1}),
        ("b.jpg", "dog", (0, 0, 9, 9), {}),
    ]
    known = judge_by_truth(small.write(), write_truth(tmp_path / "truth.json", rows, ["a.jpg", "b.jpg"]))
    nan = np.nan  # in a crowd; an image that the truth lacks
    assert known.is_correct == pytest.approx([1, 0, 1, nan, nan], nan_ok=True)
    assert known.iou == pytest.approx([0.5, 0, 1, nan, nan], nan_ok=True)


def test_a_calibration_by_truth_is_stored_and_one_of_too_few_boxes_is_not(tmp_path) -> None:
    small, correct = generated_run(tmp_path / "run")
    run = small.write()
    rows = [
        (name, c, box if ok else (95, 95, 5, 5), {}) for (name, c, box, _), ok in zip(small.boxes, correct, strict=True)
    ]
    names = sorted({row[0] for row in rows})
    few = write_truth(tmp_path / "few.json", rows[:40], names[:20])
    assert not calibrate_run(run, few).is_calibrated
    assert not run.calibration.exists()
    calibration = calibrate_run(run, write_truth(tmp_path / "truth.json", rows, names))
    assert calibration.figures is not None
    assert calibration.figures["correct"] == pytest.approx(correct.mean())
    assert read_quality(run)["p_correct"].null_count == 0
