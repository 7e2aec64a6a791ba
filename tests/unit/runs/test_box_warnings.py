"""A run whose boxes do not depend on the images says so; real objects, and a few images, raise no alarm."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO

from mining.runs import box_warnings
from mining.runs.box_warnings import lower_bound, warn_of_boxes
from mining.storage.parquet import parquet_writer

Rows = list[tuple[float, float, float, float]]  # x, y, w, h as shares of the image


def annotations(folder: Path, rows: Rows, size: tuple[int, int] = (500, 400)) -> Path:
    values = np.array(rows, np.float32).reshape(-1, 4) * [*size, *size]
    columns = dict(zip(("x", "y", "w", "h"), values.T.astype(np.float32), strict=True))
    sides = {name: np.full(len(values), side, np.int32) for name, side in zip(("width", "height"), size, strict=True)}
    table = pa.table({**columns, **sides})
    path = folder / "annotations.parquet"
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)
    return path


def varied(count: int, seed: int = 0) -> Rows:
    shares = np.random.default_rng(seed).uniform(0.1, 0.5, (count, 4))
    return [tuple(row) for row in shares.tolist()]


WHOLE = (0.0, 0.0, 1.0, 0.98)
SAME_PLACE = (0.25, 0.3, 0.4, 0.5)


def test_boxes_of_the_whole_image_are_noticed(tmp_path: Path) -> None:
    (found,) = warn_of_boxes(annotations(tmp_path, [WHOLE] * 308 + varied(2)))
    assert found.startswith("99.4% of the boxes cover 95% of their image or more.")
    assert "--localizer cam" in found


def test_boxes_at_the_same_place_are_noticed(tmp_path: Path) -> None:
    (found,) = warn_of_boxes(annotations(tmp_path, [SAME_PLACE] * 50))
    assert found.startswith("All boxes are at the same place of their image.")


def test_boxes_of_one_shape_at_different_places_are_noticed(tmp_path: Path) -> None:
    rows = [(x, y, 0.2, 0.3) for x, y, _, _ in varied(60)]
    (found,) = warn_of_boxes(annotations(tmp_path, rows))
    assert found.startswith("All boxes have the same shape, as shares of their image.")


@pytest.mark.parametrize("rows", [[], [WHOLE] * 10, [SAME_PLACE] * 3, varied(300), [WHOLE] * 70 + varied(30)])
def test_few_boxes_and_varied_boxes_raise_no_alarm(rows: Rows, tmp_path: Path) -> None:
    assert not warn_of_boxes(annotations(tmp_path, rows))


def test_eleven_equal_boxes_are_enough() -> None:
    assert lower_bound(1.0, 10) < box_warnings.NEARLY_ALL < lower_bound(1.0, 11)
    assert lower_bound(0.5, 10**6) == pytest.approx(0.5, abs=0.001)


def test_a_large_run_is_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_warnings, "_SAMPLE", 30)
    half = [WHOLE] * 150 + varied(150)
    assert not warn_of_boxes(annotations(tmp_path, half))
    assert len(box_warnings._relative_boxes(tmp_path / "annotations.parquet")) == 30


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("name", ["voc-mini", "objects7-mini", "groceries-mini", "fruits-mini", "bccd-mini"])
def test_the_true_boxes_of_photos_raise_no_alarm(
    name: str, part: str, dataset: Callable[[str], Path], tmp_path: Path
) -> None:
    """Neither where one object fills the middle, nor where cells are all alike."""
    truth = COCO(dataset(name) / f"instances_{part}.json")
    rows = []
    for annotation in truth.anns.values():
        image = truth.imgs[annotation["image_id"]]
        x, y, w, h = annotation["bbox"]
        width, height = image["width"], image["height"]
        rows.append((x / width, y / height, w / width, h / height))
    path = annotations(tmp_path, rows)
    assert pq.read_metadata(path).num_rows == len(rows)
    assert not warn_of_boxes(path)
