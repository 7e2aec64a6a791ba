"""A plan's CSV file, as a person reads and fills it in."""

import csv
from pathlib import Path

from mining.quality.plans import COLUMNS

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a plan."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[Row]) -> Path:
    """Write rows as a plan's CSV file; returns its path."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path
