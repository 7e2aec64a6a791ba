"""Write the report page of a version of a label store, as one file."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from mining.errors import DamagedFileError, InputError, StorageError
from mining.label_store.reading import choice_before, version_as_run
from mining.label_store.settings import VersionChoice
from mining.reporting.page_files import refuse_foreign_page
from mining.runs.run import Run
from mining.storage.files import atomic_write
from mining.storage.names import slugify


def report_of_version(
    where: str, choice: VersionChoice, out: Path | None, truth: Path | None = None
) -> tuple[Path, str]:
    """Write the report page of a version, compared with the version before it.

    Args:
        where: Address of the store.
        choice: The version.
        out: Page to write; by default CORPUS@VERSION.html in the current folder.
        truth: Ground truth to draw.

    Returns:
        The path of the page, and a note where the version before it cannot be read, or an empty text.

    Raises:
        InputError: `out` is not an .html file, or is a file that is not a report of boxmine.
        ScoringError: The ground truth cannot be used.
        StorageError: The store cannot be reached, or the disk refuses.
    """
    from mining.reporting.report_page import write_report

    if out is not None:
        _refuse_foreign(out)
    with version_as_run(where, choice) as run, ExitStack() as stack:
        page = out or Path(f"{slugify(Run(run).name)}.html")
        _refuse_foreign(page)
        earlier, note = _open_version_before(where, choice, stack)
        written = write_report(run, truth, against=earlier)
        with atomic_write(page) as temporary:
            shutil.copyfile(written, temporary)
    return page, note


def _open_version_before(where: str, choice: VersionChoice, stack: ExitStack) -> tuple[Path | None, str]:
    """The run directory of the version before, if there is one, and a note if its files are damaged or gone."""
    before = choice_before(where, choice)
    if before is None:
        return None, ""
    try:
        return stack.enter_context(version_as_run(where, before)), ""
    except (DamagedFileError, StorageError) as error:
        return None, f"The report is not compared with version {before.as_of}, which cannot be read: {error}"


def _refuse_foreign(page: Path) -> None:
    if page.suffix != ".html":
        raise InputError(f"--out {page}: the report is one HTML file; give a name that ends in .html.")
    refuse_foreign_page(page, "report")
