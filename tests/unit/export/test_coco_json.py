"""COCO JSON, read back by pycocotools."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO

from mining.corpus.schema import CORPUS_SCHEMA
from mining.engine.box_extraction import FACTOR_COLUMNS
from mining.errors import StorageError
from mining.export import ANNOTATION_SCHEMA, write_coco_json

CATEGORIES = [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat & <mouse>"}]


def write(run: Path, out: Path, **options: float) -> Path:
    tables = {"corpus": run / "corpus.parquet", "annotations": run / "annotations.parquet"}
    write_coco_json(out, **tables, categories=CATEGORIES, info={"description": "d", "version": "1"}, **options)
    return out


def test_pycocotools_reads_every_box_back(small_run, tmp_path):
    coco = COCO(write(small_run.folder, tmp_path / "out.json"))
    read = {
        image["file_name"]: [
            (coco.cats[a["category_id"]]["name"], (x, y, x + w, y + h))
            for a in coco.loadAnns(coco.getAnnIds(image["id"]))
            for x, y, w, h in [a["bbox"]]
        ]
        for image in coco.imgs.values()
    }
    assert {name: boxes for name, boxes in read.items() if boxes} == small_run.truth()


def test_images_without_a_box_are_listed_and_quarantined_ones_are_not(small_run, tmp_path):
    coco = COCO(write(small_run.folder, tmp_path / "out.json"))
    names = {image["file_name"] for image in coco.imgs.values()}
    assert names == {image.file_name for image in small_run.painted} - {"broken.jpg", "cut short.jpg"}


def test_annotations_have_the_fields_of_coco_and_score_and_source(small_run, tmp_path):
    document = json.loads(write(small_run.folder, tmp_path / "out.json").read_bytes())
    assert document["annotations"][0] == {
        **{"id": 1, "image_id": 101, "category_id": 1, "bbox": [10.0, 5.0, 20.0, 15.0], "area": 300.0},
        **{"iscrowd": 0, "segmentation": [], "score": 0.9, "source": "label"},
    }
    assert document["info"] == {"description": "d", "version": "1"}
    assert document["images"][0] == {"id": 101, "file_name": "a/1.jpg", "width": 60, "height": 40}


def test_a_box_whose_score_equals_the_minimum_is_kept(small_run, tmp_path):
    # 0.7 is stored as float32, which is a little less than 0.7
    document = json.loads(write(small_run.folder, tmp_path / "out.json", min_score=0.7).read_bytes())
    assert sorted(a["score"] for a in document["annotations"]) == [0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def test_a_run_without_boxes_loads(small_run, tmp_path):
    coco = COCO(write(small_run.folder, tmp_path / "out.json", min_score=1.0))
    assert coco.anns == {}
    assert len(coco.imgs) == len(small_run.painted) - 2


def test_the_same_run_gives_the_same_bytes(small_run, tmp_path):
    first, second = (write(small_run.folder, tmp_path / name).read_bytes() for name in ("1.json", "2.json"))
    assert first == second


def test_boxes_stay_inside_the_image_after_rounding(tmp_path):
    write_synthetic(tmp_path, images=200, boxes=1000)
    document = json.loads(write(tmp_path, tmp_path / "out.json").read_bytes())
    boxes = np.array([a["bbox"] for a in document["annotations"]])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 500 + 1e-9
    stored = pq.read_table(tmp_path / "annotations.parquet")
    for number, column in enumerate("xywh"):
        np.testing.assert_allclose(boxes[:, number], stored[column].to_numpy(), atol=0.0101)


def test_a_failed_write_keeps_the_old_file(small_run, tmp_path):
    out = write(small_run.folder, tmp_path / "out" / "a.json")
    before = out.read_bytes()
    with pytest.raises(TypeError):
        write_coco_json(
            out,
            corpus=small_run.folder / "corpus.parquet",
            annotations=small_run.folder / "annotations.parquet",
            categories=[{"id": 1, "name": object()}],
            info={},
        )
    assert out.read_bytes() == before
    assert list(out.parent.iterdir()) == [out]


def test_a_full_disk_is_reported_and_leaves_no_file(small_run, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mining.storage.files.os.fsync", refuse)
    with pytest.raises(StorageError, match=r"disk\.json: the disk is full"):
        write(small_run.folder, tmp_path / "empty" / "disk.json")
    assert list((tmp_path / "empty").iterdir()) == []


def write_synthetic(folder: Path, *, images: int, boxes: int) -> None:
    """A corpus of 500 x 500 images and boxes that end at its edges now and then; columns drawn, not rows."""
    random = np.random.default_rng(0)
    names = [f"folder/{i:08}.jpg" for i in range(images)]
    corpus = {
        "image_id": np.arange(images),
        "file_name": names,
        "width": np.full(images, 500, np.int32),
        "height": np.full(images, 500, np.int32),
        "labels": pa.nulls(images, pa.list_(pa.string())),
        "split": pa.nulls(images, pa.string()),
        "bytes": np.ones(images, np.int64),
        "content_hash": pa.nulls(images, pa.string()),
        "state": ["labelled"] * images,
    }
    pq.write_table(pa.table(corpus, CORPUS_SCHEMA), folder / "corpus.parquet")
    owner = np.sort(random.integers(0, images, boxes))
    start = random.uniform(0, 400, (2, boxes)).astype(np.float32)
    size = np.minimum(random.uniform(5, 200, (2, boxes)).astype(np.float32), np.float32(500) - start)
    drawn = {
        **{"annotation_id": np.arange(1, boxes + 1), "image_id": owner, "file_name": [names[i] for i in owner]},
        **{"x": start[0], "y": start[1], "w": size[0], "h": size[1], "area": size[0] * size[1]},
        **{"width": np.full(boxes, 500, np.int32), "height": np.full(boxes, 500, np.int32)},
        **{"category_id": np.ones(boxes, np.int32), "category": ["dog"] * boxes, "source": ["label"] * boxes},
        **{"localizer": ["cam"] * boxes, "model_sha256": ["0" * 64] * boxes, "merged_from": np.ones(boxes, np.int32)},
        "scales": pa.array([[1.0, 1.5]] * boxes, pa.list_(pa.float32())),
        "refinement": ["none"] * boxes,
        "is_part": [False] * boxes,
        **{name: pa.nulls(boxes, pa.float32()) for name in FACTOR_COLUMNS},
    }
    for column in ("score", "class_score", "peak", "mean_activation", "threshold"):
        drawn[column] = random.uniform(0, 1, boxes).astype(np.float32)
    pq.write_table(pa.table(drawn, ANNOTATION_SCHEMA), folder / "annotations.parquet", compression="zstd")


# VmHWM, for ru_maxrss starts from that of the process that gave birth
MEASURED = """
import json, sys, time
from pathlib import Path
from mining.export import write_coco_json
def peak_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
folder = Path(sys.argv[1])
before, start = peak_mb(), time.perf_counter()
count = write_coco_json(folder / "out.json", corpus=folder / "corpus.parquet",
                        annotations=folder / "annotations.parquet", categories=[{"id": 1, "name": "dog"}], info={})
after = peak_mb()
loaded = [name for name in ("torch", "pandas") if name in sys.modules]
print(json.dumps({"count": count, "grown_mb": after - before, "peak_mb": after,
                  "seconds": time.perf_counter() - start, "loaded": loaded}))
"""


def measured(folder: Path) -> dict[str, float]:
    child = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    return json.loads(child.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux' /proc")
@pytest.mark.slow
def test_memory_use_does_not_grow_with_the_number_of_boxes(tmp_path):
    grown = {}
    for boxes in (50_000, 200_000):
        folder = tmp_path / str(boxes)
        folder.mkdir()
        write_synthetic(folder, images=boxes // 2, boxes=boxes)
        result = measured(folder)
        assert result["count"] == boxes
        assert result["loaded"] == []
        grown[boxes] = result["grown_mb"]
    assert grown[200_000] < grown[50_000] + 40
    assert grown[200_000] < 200
    assert len(json.loads((tmp_path / "200000" / "out.json").read_bytes())["annotations"]) == 200_000
