"""Write the report page of a version of a label store, as one file."""

import shutil
from pathlib import Path

from mining.errors import InputError
from mining.label_store.reading import version_as_run
from mining.label_store.settings import VersionChoice
from mining.reporting.page_files import refuse_foreign_page
from mining.runs.run import Run
from mining.storage.files import atomic_write
from mining.storage.names import slugify


def report_of_version(where: str, choice: VersionChoice, out: Path | None, truth: Path | None = None) -> Path:
    """Write the report page of a version and return its path.

    Args:
        where: Address of the store.
        choice: The version.
        out: Page to write; by default CORPUS@VERSION.html in the current folder.
        truth: Ground truth to draw.

    Raises:
        InputError: `out` is not an .html file, or is a file that is not a report of boxmine.
        ScoringError: The ground truth cannot be used.
        StorageError: The store cannot be reached, or the disk refuses.
    """
    from mining.reporting.report_page import write_report

    if out is not None:
        _refuse_foreign(out)
    with version_as_run(where, choice) as run:
        page = out or Path(f"{slugify(Run(run).name)}.html")
        _refuse_foreign(page)
        written = write_report(run, truth)
        with atomic_write(page) as temporary:
            shutil.copyfile(written, temporary)
    return page


def _refuse_foreign(page: Path) -> None:
    if page.suffix != ".html":
        raise InputError(f"--out {page}: the report is one HTML file; give a name that ends in .html.")
    refuse_foreign_page(page, "report")
