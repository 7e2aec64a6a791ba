"""A listing of ten times as many rows needs hardly more memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCAN = """
import sys
from pathlib import Path
from mining.corpus import scan
found = scan(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), check_files=False)
print(found.images, int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def write_csv(folder: Path, rows: int) -> Path:
    """Write a CSV with this number of rows, which are not sorted."""
    labels = folder / f"{rows}.csv"
    with labels.open("w", encoding="utf-8") as file:
        file.write("file_name,labels\n")
        file.writelines(f"d{i * 7919 % 1000:03d}/photo_{i * 7919 % rows:08d}.jpg,cat|dog\n" for i in range(rows))
    return labels


def write_coco(folder: Path, rows: int) -> Path:
    """Write a COCO JSON with this number of images, each with one annotation."""
    labels = folder / f"{rows}.json"
    images = ",".join(f'{{"id": {i}, "file_name": "d{i % 1000:03d}/{i:08d}.jpg"}}' for i in range(rows))
    boxes = ",".join(f'{{"id": {i}, "image_id": "{i}", "category_id": 1, "bbox": [1, 2, 3, NaN]}}' for i in range(rows))
    categories = '[{"id": 1, "name": "cat"}]'
    labels.write_text(f'{{"images": [{images}], "annotations": [{boxes}], "categories": {categories}}}')
    return labels


def peak_mb(folder: Path, rows: int, write: Callable[[Path, int], Path]) -> float:
    """Peak memory in MB of a process that scans a listing of this kind and size."""
    labels = write(folder, rows)
    command = [sys.executable, "-c", SCAN, str(folder), str(labels), str(folder / "corpus.parquet")]
    images, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(images) == rows
    return float(peak)


@pytest.mark.parametrize("write", [write_csv, pytest.param(write_coco, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_listing(tmp_path, write):
    small, large = peak_mb(tmp_path, 20_000, write), peak_mb(tmp_path, 200_000, write)
    # SQLite's cache may fill to its 48 MB, and each shard has an entry in the table's footer
    assert large < small + 90, f"{small:.0f} MB for 20,000 rows, {large:.0f} MB for 200,000"
