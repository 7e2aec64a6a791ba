"""The plan of an audit as a CSV file: one row per box or image, which a person fills in."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.quality.judgements import COMPLETE, MISSED, Drawn, DrawnImage, ImageJudgement, Judgement
from mining.storage.files import atomic_write

COLUMNS = (
    "annotation_id", "file_name", "category", "x", "y", "w", "h", "score", "inclusion_probability", "verdict", "why",
    "plan",
)  # fmt: skip
SIDES = ("x", "y", "w", "h")


@dataclass(frozen=True)
class KnownVerdicts:
    """Verdicts that are filled into a plan: the last one on each box, by id, and on each image, by name."""

    boxes: Mapping[int, Judgement]
    images: Mapping[str, ImageJudgement]


def write_plan(
    path: Path,
    plan: str,
    drawn: Sequence[Drawn],
    boxes: Mapping[int, Mapping[str, Any]],
    images: Sequence[tuple[DrawnImage, Sequence[int]]] = (),
    known: "KnownVerdicts | None" = None,
) -> None:
    """Write a plan's CSV atomically.

    Args:
        path: The file.
        plan: Name of the plan.
        drawn: Its boxes, in the order in which they are to be judged.
        boxes: Rows of annotations.parquet by annotation_id.
        images: Images to be looked at whole, with the ids of all their boxes; each gets a row of its own after them.
        known: Verdicts that are known already, to be filled in.
    """
    known = known or KnownVerdicts({}, {})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_box_row(one, boxes[one.annotation_id], plan, known) for one in drawn)
    for image, ids in images:
        share = image.inclusion_probability
        writer.writerows(_box_row(Drawn(one, "image", share), boxes[one], plan, known) for one in ids)
        writer.writerows(_image_rows(image, plan, known.images.get(image.file_name)))
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _box_row(one: Drawn, box: Mapping[str, Any], plan: str, known: KnownVerdicts) -> Iterable[Any]:
    share = "" if one.inclusion_probability is None else f"{one.inclusion_probability:.6g}"
    said = known.boxes.get(one.annotation_id)
    category = box["category"] if said is None or said.new_category is None else said.new_category
    xywh = tuple(box[side] for side in SIDES) if said is None or said.corrected is None else said.corrected
    return (
        one.annotation_id, box["file_name"], category, *(f"{side:.2f}" for side in xywh), f"{box['score']:.4f}", share,
        "" if said is None else said.verdict, one.why, plan,
    )  # fmt: skip


def _image_rows(image: DrawnImage, plan: str, said: ImageJudgement | None) -> Iterator[Iterable[Any]]:
    share = f"{image.inclusion_probability:.6g}"
    for one in () if said is None else said.missed:
        xywh = ("", "", "", "") if one.xywh is None else tuple(f"{side:.2f}" for side in one.xywh)
        yield "", image.file_name, one.category, *xywh, "", share, MISSED, "image", plan
    yield "", image.file_name, "", "", "", "", "", "", share, "" if said is None else COMPLETE, "image", plan


def planned_images(path: Path) -> frozenset[str]:
    """Return the file names of the images of a plan, filled in or not.

    Raises:
        InputError: The file is no plan, or has no row.
    """
    names = frozenset(row["file_name"] for row in open_plan(path, ("file_name", "plan")) if row["file_name"])
    if not names:
        raise InputError(f"The plan {path} has no row.")
    return names


def open_plan(path: Path, needed: Sequence[str]) -> "csv.DictReader[str]":
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
