"""The plan of an audit as a CSV file: one row per box or image, which a person fills in."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.quality.judgements import COMPLETE, MISSED, Box, Drawn, DrawnImage, ImageJudgement, Judgement
from mining.quality.plan_rows import FIRST_LINE, PlanPicture, ShownBox
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


NOTHING_KNOWN = KnownVerdicts({}, {})


@dataclass(frozen=True)
class PlanRow:
    """A row of a plan: its cells by column, and what a picture of it shows."""

    cells: dict[str, Any]
    boxes: tuple[ShownBox, ...] = ()
    is_whole: bool = False

    def picture(self, line: int) -> PlanPicture | None:
        """Return what is to be shown, None for a row without a picture."""
        return (
            PlanPicture(line, self.cells["file_name"], self.boxes, self.is_whole)
            if self.boxes or self.is_whole
            else None
        )


def plan_rows(
    plan: str,
    drawn: Sequence[Drawn],
    boxes: Mapping[int, Mapping[str, Any]],
    images: Sequence[tuple[DrawnImage, Sequence[int]]] = (),
    known: KnownVerdicts = NOTHING_KNOWN,
) -> list[PlanRow]:
    """Build the rows of a plan.

    Args:
        plan: Name of the plan.
        drawn: Its boxes, in the order in which they are to be judged.
        boxes: Rows of annotations.parquet by annotation_id.
        images: Images to be looked at whole, with the ids of all their boxes; each gets a row of its own after them.
        known: Verdicts that are known already, to be filled in.
    """
    rows = [_box_row(one, boxes[one.annotation_id], plan, known) for one in drawn]
    for image, ids in images:
        share = image.inclusion_probability
        rows += [_box_row(Drawn(one, "image", share), boxes[one], plan, known) for one in ids]
        shown = tuple(_shown(boxes[one]) for one in ids)
        rows += _image_rows(image, plan, known.images.get(image.file_name), shown)
    return rows


def write_plan(path: Path, rows: Sequence[PlanRow], pictures: Mapping[int, str] | None = None) -> None:
    """Write a plan's CSV atomically.

    Args:
        path: The file.
        rows: Its rows.
        pictures: Path of the picture of each line that has one; None for a plan without pictures.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS if pictures is None else (*COLUMNS, "picture"), "", lineterminator="\n")
    writer.writeheader()
    for line, row in enumerate(rows, start=FIRST_LINE):
        writer.writerow(row.cells if pictures is None else {**row.cells, "picture": pictures.get(line, "")})
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _box_row(one: Drawn, box: Mapping[str, Any], plan: str, known: KnownVerdicts) -> PlanRow:
    said = known.boxes.get(one.annotation_id)
    corrected = None if said is None else said.corrected
    new_category = None if said is None else said.new_category
    cells = {
        "annotation_id": one.annotation_id, "file_name": box["file_name"], "category": new_category or box["category"],
        **_cells_of(corrected or _xywh(box)), "score": f"{box['score']:.4f}",
        "inclusion_probability": _share(one.inclusion_probability), "verdict": "" if said is None else said.verdict,
        "why": one.why, "plan": plan,
    }  # fmt: skip
    return PlanRow(cells, (_shown(box),))


def _image_rows(
    image: DrawnImage, plan: str, said: ImageJudgement | None, shown: tuple[ShownBox, ...]
) -> Iterator[PlanRow]:
    cells = {
        "file_name": image.file_name, "inclusion_probability": _share(image.inclusion_probability), "why": "image",
        "plan": plan,
    }  # fmt: skip
    for one in () if said is None else said.missed:
        xywh = {} if one.xywh is None else _cells_of(one.xywh)
        yield PlanRow({**cells, "category": one.category, **xywh, "verdict": MISSED})
    yield PlanRow({**cells, "verdict": "" if said is None else COMPLETE}, shown, is_whole=True)


def _xywh(box: Mapping[str, Any]) -> Box:
    return box["x"], box["y"], box["w"], box["h"]


def _shown(box: Mapping[str, Any]) -> ShownBox:
    return ShownBox(box["annotation_id"], box["category"], _xywh(box))


def _cells_of(xywh: Box) -> dict[str, str]:
    return {side: f"{value:.2f}" for side, value in zip(SIDES, xywh, strict=True)}


def _share(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.6g}"


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
