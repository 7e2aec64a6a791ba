"""Real packs: the same labels through two kinds of listing."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from mining.corpus import iter_shards, scan

DATA = Path(os.environ.get("BOXMINE_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


@pytest.fixture
def pack():
    folder = DATA / "voc-mini"
    if not folder.is_dir():
        pytest.skip(f"no pack at {folder}; set BOXMINE_DATA to the folder of the packs")
    return folder


def labels_by_name(path):
    return {row["file_name"]: row["labels"] for row in pa.concat_tables(iter_shards(path)).to_pylist()}


def test_csv_and_coco_of_voc_mini_give_the_same_labels(pack, tmp_path):
    for split, images, others in (("train", 427, 224), ("test", 224, 427)):
        by_csv = scan(pack / "images", pack / f"{split}.csv", tmp_path / "csv.parquet")
        by_coco = scan(pack / "images", pack / f"instances_{split}.json", tmp_path / "coco.parquet")
        assert labels_by_name(tmp_path / "csv.parquet") == labels_by_name(tmp_path / "coco.parquet")
        assert by_csv.classes == by_coco.classes
        assert (by_csv.images, by_csv.unlisted, by_csv.missing) == (images, others, 0)
