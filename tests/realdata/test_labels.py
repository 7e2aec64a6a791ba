"""Real datasets: two label formats give the same labels."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from mining.corpus import iter_shards, scan


def labels_by_name(path: Path) -> dict[str, list[str]]:
    return {row["file_name"]: row["labels"] for row in pa.concat_tables(iter_shards(path)).to_pylist()}


def test_csv_and_coco_of_voc_mini_give_the_same_labels(dataset: Callable[[str], Path], tmp_path: Path) -> None:
    folder = dataset("voc-mini")
    for split, images, others in (("train", 427, 224), ("test", 224, 427)):
        by_csv = scan(folder / "images", folder / f"{split}.csv", tmp_path / "csv.parquet")
        by_coco = scan(folder / "images", folder / f"instances_{split}.json", tmp_path / "coco.parquet")
        assert labels_by_name(tmp_path / "csv.parquet") == labels_by_name(tmp_path / "coco.parquet")
        assert by_csv.classes == by_coco.classes
        assert (by_csv.images, by_csv.unlisted, by_csv.missing) == (images, others, 0)
