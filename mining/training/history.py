"""history.csv, one row per epoch, and curves.png drawn from it."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mining.errors import ModelError
from mining.models.card import CHECKPOINTS
from mining.storage.files import atomic_write
from mining.storage.untrusted_files import open_input

HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.png"


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append the row of an epoch; rows of the same and of later epochs, written before a kill, are replaced."""
    rows = [earlier for earlier in read_history(path) if int(earlier["epoch"]) < int(row["epoch"])]
    rows.append({name: str(value) for name, value in row.items()})
    columns = list(dict.fromkeys(name for each in rows for name in each))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path) -> list[dict[str, str]]:
    """Read the rows of history.csv; none where there is no such file.

    Raises:
        ModelError: The file is damaged.
    """
    if not path.exists():
        return []
    try:
        with open_input(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        if not all(int(row["epoch"]) > 0 for row in rows):
            raise ValueError("an epoch is not above 0")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ModelError(
            f"{path} is damaged ({error}). Delete it together with {path.parent / CHECKPOINTS} and run the same "
            "command again to train from the start."
        ) from None
    return rows


def draw_curves(rows: list[dict[str, str]], path: Path, metric: str) -> None:
    """Draw loss and metric by epoch as a PNG.

    Args:
        rows: See `read_history`.
        path: The PNG.
        metric: Name of the validation metric, for the axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    for axes, names in ((losses, ("train_loss", "val_loss")), (metrics, ("val_metric",))):
        for name in names:
            points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    losses.set_ylabel("loss")
    losses.legend()
    metrics.set_ylabel(f"{metric} (validation)")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
