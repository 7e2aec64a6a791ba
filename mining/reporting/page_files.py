"""Which existing pages and tables a command may replace: only those that boxmine wrote."""

import errno
import os
import re
from pathlib import Path
from typing import Literal

from mining.errors import InputError
from mining.storage.files import storage_errors

Kind = Literal["report", "comparison", "maps"]
COLUMNS = ("file_name", "category", "verdict", "agreement", "first_iou", "second_iou")  # of a comparison's table
_HEAD_BYTES = 4096
# pages of earlier versions have no generator, but always the same policy and a title that ends alike
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_TITLES: dict[Kind, str] = {"report": r"<title>.*: mined boxes</title>", "comparison": r"<title>.* against .*</title>"}


def check_page(page: Path) -> None:
    """Raise InputError unless `page` is an .html path, and it and its table replace nothing but boxmine's own files."""
    if page.suffix.lower() != ".html":
        raise InputError(f"--out {page} must end in .html; a table of the same name goes beside the page.")
    refuse_foreign_page(page, "comparison")
    refuse_foreign_table(table_path(page))


def check_maps_page(page: Path) -> None:
    """Raise InputError unless `page` is a possible .html path, and free or an earlier page of the same kind."""
    if page.suffix.lower() != ".html":
        raise InputError(f"--out {page} must end in .html.")
    refuse_foreign_page(page, "maps")
    nearest = next(folder for folder in page.absolute().parents if folder.exists())
    with storage_errors(page):  # drawing takes minutes, so that a path that cannot be written is refused before
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))


def table_path(page: Path) -> Path:
    """Return the path of the table beside a comparison's page."""
    return page.with_suffix(".csv")


def refuse_foreign_page(page: Path, kind: Kind) -> None:
    """Raise InputError if `page` exists and is not a page of this kind."""
    if _is_free(page):
        return
    head = _head(page)
    is_earlier = kind in _TITLES and _POLICY in head and re.search(_TITLES[kind], head)
    if f'<meta name="generator" content="boxmine {kind}">' not in head and not is_earlier:
        raise InputError(_taken(page, f"a {kind} page of boxmine"))


def refuse_foreign_table(table: Path) -> None:
    """Raise InputError if `table` exists and is not the table of a comparison."""
    if not _is_free(table) and _head(table).splitlines()[:1] != [",".join(COLUMNS)]:
        raise InputError(_taken(table, "a table of boxmine's comparisons"))


def _is_free(path: Path) -> bool:
    return not path.exists() and not path.is_symlink()


def _head(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES).decode(errors="replace")


def _taken(path: Path, what: str) -> str:
    return f"{path} is there already and is not {what}; it was not replaced. Move it away, or choose another path."
