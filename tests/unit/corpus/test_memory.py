"""Ten times the rows take no more memory worth speaking of."""

import subprocess
import sys
from pathlib import Path

SCAN = """
import sys
from pathlib import Path
from mining.corpus import scan
found = scan(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), check_files=False)
print(found.images, int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def peak_mb(folder: Path, rows: int) -> float:
    """Peak memory in MB of a process that scans a CSV of so many rows, in an order that is not sorted."""
    labels = folder / f"{rows}.csv"
    with labels.open("w", encoding="utf-8") as file:
        file.write("file_name,labels\n")
        file.writelines(f"d{i * 7919 % 1000:03d}/photo_{i * 7919 % rows:08d}.jpg,cat|dog\n" for i in range(rows))
    command = [sys.executable, "-c", SCAN, str(folder), str(labels), str(folder / "corpus.parquet")]
    images, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(images) == rows
    return float(peak)


def test_memory_does_not_grow_with_the_listing(tmp_path):
    small, large = peak_mb(tmp_path, 20_000), peak_mb(tmp_path, 200_000)
    # SQLite's cache may fill to its 48 MB, and each shard has an entry in the table's footer
    assert large < small + 90, f"{small:.0f} MB for 20,000 rows, {large:.0f} MB for 200,000"
