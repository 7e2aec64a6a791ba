"""A CSV listing: file_name,labels[,split], labels joined by '|'."""

import csv
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from mining.corpus.formats.parsing import label_file_errors
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.names import normalise_class_names, validate_file_name
from mining.corpus.sqlite_index import CorpusIndex
from mining.errors import CorpusError
from mining.storage.untrusted_files import iter_lines

if TYPE_CHECKING:
    from _csv import Reader

_KNOWN = ("file_name", "labels", "split")


def read(path: Path, root: ImageRoot, table: CorpusIndex) -> ListingInfo:
    """Take in the rows. Without a column `labels` nothing is known of any image; an empty cell says 'none of them'.

    Raises CorpusError for a header without file_name, with a stranger in place of labels, and for a broken row.
    """
    with label_file_errors(path), closing(iter_lines(path)) as text:
        lines = csv.reader(text, skipinitialspace=True)
        columns = [cell.strip().lower() for cell in _next(lines, path) or []]
        ignored = _strangers(columns, path)
        table.add_listed(_rows(lines, columns, path))
    notes = [f"Columns of {path.name} that say nothing here: {', '.join(ignored)}."] if ignored else []
    return ListingInfo("csv", path, notes=notes)


def _next(lines: "Reader", path: Path) -> list[str] | None:
    try:
        return next(lines, None)
    except csv.Error as error:
        raise CorpusError(
            f"{path.name}, line {lines.line_num}: not valid CSV ({error}). Look for a quote that is not closed."
        ) from error


def _strangers(columns: list[str], path: Path) -> list[str]:
    strangers = [column for column in columns if column not in _KNOWN]
    is_usable = "file_name" in columns and ("labels" in columns or not strangers)
    if not is_usable or len(set(columns)) < len(columns):
        found = ", ".join(repr(column) for column in columns) or "none"
        hint = " Separate the columns by commas." if any(mark in "".join(columns) for mark in ";\t") else ""
        raise CorpusError(
            f"{path} begins with the columns {found}; expected file_name,labels or file_name,labels,split, "
            f"with labels joined by '|'.{hint}"
        )
    return [repr(column) for column in strangers]


def _rows(lines: "Reader", columns: list[str], path: Path) -> Iterator[ListedImage]:
    at_name = columns.index("file_name")
    at_labels = columns.index("labels") if "labels" in columns else None
    at_split = columns.index("split") if "split" in columns else None
    while (cells := _next(lines, path)) is not None:
        if not any(cell and not cell.isspace() for cell in cells):
            continue
        where = f"{path.name}, line {lines.line_num}"
        if any("\n" in cell for cell in cells):
            raise CorpusError(f"{where}: a cell goes over several lines. Look for a quote that is not closed.")
        if len(cells) != len(columns):
            cells = _mended(cells, columns, where)
        name = cells[at_name].strip()
        labels = None if at_labels is None else normalise_class_names(cells[at_labels].split("|"))
        split = None if at_split is None else cells[at_split].strip() or None
        yield ListedImage(validate_file_name(name, where), labels, split)


def _mended(cells: list[str], columns: list[str], where: str) -> list[str]:
    surplus = [cell for cell in cells[len(columns) :] if cell.strip()]
    lacking = columns[len(cells) :]
    if surplus:
        raise CorpusError(
            f"{where}: {len(cells)} cells, but {len(columns)} columns. Join labels by '|', and put quotes around a "
            "name that has a comma."
        )
    if "labels" in lacking or "file_name" in lacking:
        raise CorpusError(
            f"{where}: the row ends before {lacking[0]!r}. An image with none of the classes has an empty cell there, "
            "as in 'a.jpg,'."
        )
    return cells + [""] * len(lacking)
