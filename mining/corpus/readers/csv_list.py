"""Image-level labels from a CSV with the columns file_name, labels (joined by '|') and, optionally, split."""

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

_COLUMNS = ("file_name", "labels", "split")


def read(path: Path, root: ImageRoot, index: CorpusIndex) -> ListingInfo:
    """Read the rows of a CSV.

    Without the column `labels` no labels are known; an empty cell there means that the image has none of the classes.

    Raises:
        CorpusError: The header lacks file_name, or has other columns but no `labels`; a row is malformed.
    """
    with label_file_errors(path), closing(iter_lines(path)) as text:
        reader = csv.reader(text, skipinitialspace=True)
        columns = [cell.strip().lower() for cell in _next_row(reader, path) or []]
        ignored = _check_header(columns, path)
        index.add_listed(_rows(reader, columns, path))
    notes = [f"Columns of {path.name} that are ignored: {', '.join(ignored)}."] if ignored else []
    return ListingInfo("csv", path, notes=notes)


def _next_row(reader: "Reader", path: Path) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise CorpusError(
            f"{path.name}, line {reader.line_num}: not valid CSV ({error}). Look for a quote that is not closed."
        ) from error


def _check_header(columns: list[str], path: Path) -> list[str]:
    """The columns that are ignored; raises CorpusError for a header that cannot be used."""
    ignored = [column for column in columns if column not in _COLUMNS]
    is_usable = "file_name" in columns and ("labels" in columns or not ignored)
    if not is_usable or len(set(columns)) < len(columns):
        names = ", ".join(repr(column) for column in columns) or "none"
        hint = " Separate the columns by commas." if any(mark in "".join(columns) for mark in ";\t") else ""
        raise CorpusError(
            f"{path} has the columns {names}; expected file_name,labels or file_name,labels,split in the first line, "
            f"with labels joined by '|'.{hint}"
        )
    return [repr(column) for column in ignored]


def _rows(reader: "Reader", columns: list[str], path: Path) -> Iterator[ListedImage]:
    name_column = columns.index("file_name")
    labels_column = columns.index("labels") if "labels" in columns else None
    split_column = columns.index("split") if "split" in columns else None
    while (cells := _next_row(reader, path)) is not None:
        if not any(cell and not cell.isspace() for cell in cells):
            continue
        where = f"{path.name}, line {reader.line_num}"
        if any("\n" in cell for cell in cells):
            raise CorpusError(f"{where}: a cell extends over several lines. Look for a quote that is not closed.")
        if len(cells) != len(columns):
            cells = _fit_to_columns(cells, columns, where)
        name = cells[name_column].strip()
        labels = None if labels_column is None else normalise_class_names(cells[labels_column].split("|"))
        split = None if split_column is None else cells[split_column].strip() or None
        yield ListedImage(validate_file_name(name, where), labels, split)


def _fit_to_columns(cells: list[str], columns: list[str], where: str) -> list[str]:
    """The cells with missing trailing cells added; raises CorpusError if that would change the labels."""
    surplus = [cell for cell in cells[len(columns) :] if cell.strip()]
    missing = columns[len(cells) :]
    if surplus:
        raise CorpusError(
            f"{where}: {len(cells)} cells, but {len(columns)} columns. Join labels by '|', and put quotes around a "
            "name that contains a comma."
        )
    if "labels" in missing or "file_name" in missing:
        raise CorpusError(
            f"{where}: the row has no cell for {missing[0]!r}. For an image with none of the classes write an empty "
            "cell, as in 'a.jpg,'."
        )
    return cells + [""] * len(missing)
