"""The plan of an audit as a CSV file: one row per box, which a person fills in."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.errors import InputError, did_you_mean
from mining.quality.verdicts import VERDICTS, Drawn
from mining.storage.files import atomic_write

COLUMNS = (
    "annotation_id", "file_name", "category", "x", "y", "w", "h", "score", "inclusion_probability", "verdict", "why",
    "plan",
)  # fmt: skip
_NEEDED = ("annotation_id", "x", "y", "w", "h", "verdict", "plan")
_BOX = ("x", "y", "w", "h")
_SAME_PX = 0.02  # coordinates are written with two decimals


@dataclass(frozen=True)
class FilledRow:
    """A row of a plan that has a verdict.

    Attributes:
        line: Its line in the file, from 1.
        plan: The plan's name.
        annotation_id: The box.
        verdict: One of VERDICTS.
        xywh: The box as the file has it, in px.
    """

    line: int
    plan: str
    annotation_id: int
    verdict: Any
    xywh: tuple[float, float, float, float]

    def correction(self, mined: Sequence[float]) -> tuple[float, float, float, float] | None:
        """Return the box if it is another one than was mined."""
        is_same = all(abs(own - other) <= _SAME_PX for own, other in zip(self.xywh, mined, strict=True))
        return None if is_same else self.xywh


def write_plan(path: Path, plan: str, drawn: Sequence[Drawn], boxes: Mapping[int, Mapping[str, Any]]) -> None:
    """Write a plan's CSV atomically.

    Args:
        path: The file.
        plan: Name of the plan.
        drawn: Its boxes, in the order in which they are to be judged.
        boxes: Rows of annotations.parquet by annotation_id.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in drawn:
        box = boxes[one.annotation_id]
        share = "" if one.inclusion_probability is None else f"{one.inclusion_probability:.6g}"
        writer.writerow(
            (
                one.annotation_id, box["file_name"], box["category"], *(f"{box[side]:.2f}" for side in _BOX),
                f"{box['score']:.4f}", share, "", one.why, plan,
            )
        )  # fmt: skip
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_filled_rows(path: Path) -> list[FilledRow]:
    """Read the rows of a plan that have a verdict.

    Raises:
        InputError: The file is no plan, or a value is invalid; the message has its line and column.
    """
    return list(_filled(path, _open_plan(path, _NEEDED)))


def planned_images(path: Path) -> frozenset[str]:
    """Return the file names of the images of a plan, filled in or not.

    Raises:
        InputError: The file is no plan, or has no row.
    """
    names = frozenset(row["file_name"] for row in _open_plan(path, ("file_name", "plan")) if row["file_name"])
    if not names:
        raise InputError(f"The plan {path} has no row.")
    return names


def _open_plan(path: Path, needed: Sequence[str]) -> "csv.DictReader[str]":
    """Read the rows of a plan's CSV; InputError if it has not the columns that are needed."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save the plan as CSV in UTF-8.") from None
    dialect = csv.excel if ";" not in text.partition("\n")[0] else _Semicolons
    reader = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect)
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path} is not a plan of `boxmine audit plan`: it has no column {', '.join(missing)}.")
    return reader


class _Semicolons(csv.excel):
    """As spreadsheets write CSV where the comma separates decimals."""

    delimiter = ";"


def _filled(path: Path, reader: "csv.DictReader[str]") -> Iterator[FilledRow]:
    for row in reader:
        line = reader.line_num
        word = (row["verdict"] or "").strip().lower().replace(" ", "_").replace("-", "_")
        if not word:
            continue
        if word not in VERDICTS:
            raise InputError(f"{path}, line {line}, column verdict: {row['verdict']!r}; {did_you_mean(word, VERDICTS)}")
        xywh = tuple(_number(path, line, name, row[name]) for name in _BOX)
        if xywh[2] <= 0 or xywh[3] <= 0:
            raise InputError(f"{path}, line {line}, columns w and h: a box has a width and a height above 0.")
        box = int(_number(path, line, "annotation_id", row["annotation_id"]))
        yield FilledRow(line, (row["plan"] or "").strip(), box, word, (xywh[0], xywh[1], xywh[2], xywh[3]))


def _number(path: Path, line: int, column: str, text: str | None) -> float:
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}, column {column}: {text!r} is not a number.")
    return value
