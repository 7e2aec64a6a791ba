"""Read what a person filled in: verdicts on boxes, images that were looked at whole, and the objects missed on them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mining.corpus.names import normalise_class_name
from mining.errors import InputError, did_you_mean
from mining.quality.judgements import COMPLETE, MISSED, VERDICTS, Box
from mining.quality.plans import SIDES, open_plan

_NEEDED = ("annotation_id", "file_name", "category", *SIDES, "verdict", "plan")
_SAME_PX = 0.02  # coordinates are written with two decimals
_FOR_IMAGES = (COMPLETE, MISSED)


@dataclass(frozen=True)
class FilledRow:
    """A row of a plan that has a verdict on a box.

    Attributes:
        line: Its line in the file, from 1.
        plan: The plan's name, empty if no plan asked for the box.
        annotation_id: The box.
        verdict: One of VERDICTS.
        category: Its class as the file has it.
        xywh: The box as the file has it, in px.
    """

    line: int
    plan: str
    annotation_id: int
    verdict: Any
    category: str
    xywh: Box

    def correction(self, mined: Sequence[float]) -> Box | None:
        """Return the box if it is another one than was mined."""
        is_same = all(abs(own - other) <= _SAME_PX for own, other in zip(self.xywh, mined, strict=True))
        return None if is_same else self.xywh


class FilledObject(NamedTuple):
    """An object without a correct box: the line of its row, from 1, its class, and its box if there is one."""

    line: int
    category: str
    xywh: Box | None


@dataclass(frozen=True)
class FilledImage:
    """An image that was looked at whole.

    Attributes:
        line: The line of its row, from 1.
        plan: The plan's name, empty if no plan asked for the image.
        file_name: The image.
        missed: All objects without a correct box.
    """

    line: int
    plan: str
    file_name: str
    missed: tuple[FilledObject, ...]


@dataclass(frozen=True)
class Filled:
    """What a person filled in.

    Attributes:
        rows: Verdicts on boxes.
        images: Images that were looked at whole.
        notes: Sentences on what was left out.
    """

    rows: list[FilledRow]
    images: list[FilledImage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_filled_plan(path: Path) -> Filled:
    """Read the rows of a plan that have a verdict.

    Raises:
        InputError: The file is no plan, or a value is invalid; the message has its line and column.
    """
    rows: list[FilledRow] = []
    complete: dict[str, tuple[int, str]] = {}
    missed: dict[str, list[FilledObject]] = {}
    for line, row in _lines(path):
        word = _verdict(path, line, row)
        if not word:
            continue
        if word == COMPLETE:
            complete[_file_name(path, line, row)] = line, (row["plan"] or "").strip()
        elif word == MISSED:
            missed.setdefault(_file_name(path, line, row), []).append(_missed_object(path, line, row))
        else:
            rows.append(_box_row(path, line, row, word))
    images = [FilledImage(line, plan, name, tuple(missed.pop(name, ()))) for name, (line, plan) in complete.items()]
    return Filled(rows, images, _note_on_open(missed))


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    reader = open_plan(path, _NEEDED)
    for row in reader:
        yield reader.line_num, row


def _verdict(path: Path, line: int, row: Mapping[str, str | None]) -> str:
    """The verdict of a row, checked against what the row is about; empty for a row that is not filled in."""
    word = (row["verdict"] or "").strip().lower().replace(" ", "_").replace("-", "_")
    is_box = bool((row["annotation_id"] or "").strip())
    if not word and not is_box and (row["category"] or "").strip():
        raise InputError(
            f"{path}, line {line}, column verdict: an object without a box has the verdict {MISSED}; it is empty."
        )
    allowed = VERDICTS if is_box else _FOR_IMAGES
    if word and word not in allowed:
        if word in VERDICTS:
            raise InputError(f"{path}, line {line}, column annotation_id: it is empty; {word} is a verdict on a box.")
        if word in _FOR_IMAGES:
            raise InputError(
                f"{path}, line {line}, column verdict: {word} is no verdict on a box, but on an image or a missed "
                "object, whose annotation_id is empty."
            )
        raise InputError(f"{path}, line {line}, column verdict: {row['verdict']!r}; {did_you_mean(word, allowed)}")
    return word


def _file_name(path: Path, line: int, row: Mapping[str, str | None]) -> str:
    name = (row["file_name"] or "").strip()
    if not name:
        raise InputError(f"{path}, line {line}, column file_name: it is empty; give the image's name.")
    return name


def _missed_object(path: Path, line: int, row: Mapping[str, str | None]) -> FilledObject:
    category = normalise_class_name(row["category"] or "")
    if not category:
        raise InputError(f"{path}, line {line}, column category: it is empty; give the class of the missed object.")
    if not any((row[side] or "").strip() for side in SIDES):
        return FilledObject(line, category, None)
    return FilledObject(line, category, _box(path, line, row))


def _box_row(path: Path, line: int, row: Mapping[str, str | None], word: str) -> FilledRow:
    box = int(_number(path, line, "annotation_id", row["annotation_id"]))
    category = normalise_class_name(row["category"] or "")
    return FilledRow(line, (row["plan"] or "").strip(), box, word, category, _box(path, line, row))


def _box(path: Path, line: int, row: Mapping[str, str | None]) -> Box:
    x, y, w, h = (_number(path, line, side, row[side]) for side in SIDES)
    if w <= 0 or h <= 0:
        raise InputError(f"{path}, line {line}, columns w and h: a box has a width and a height above 0.")
    return x, y, w, h


def _number(path: Path, line: int, column: str, text: str | None) -> float:
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}, column {column}: {text!r} is not a number.")
    return value


def _note_on_open(missed: Mapping[str, list[FilledObject]]) -> list[str]:
    if not missed:
        return []
    return [
        f"Missed objects of images without the verdict {COMPLETE}, left for later: "
        f"{sum(map(len, missed.values()))}, first of {next(iter(missed))!r}."
    ]
