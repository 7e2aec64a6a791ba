"""Write the pages that people look at: the report of a run, and the maps of localizers side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mining.config import MapsSettings
from mining.errors import InputError
from tasks.orchestration import report, step
from tasks.progress import Stage

if TYPE_CHECKING:
    from mining.reporting.maps_page import MapsSummary


@step(name="report")
def write_report(run: Path, truth: Path | None = None, against: Path | None = None) -> Path:
    """Write report/index.html of a finished run, compared with an earlier one if given, and return its path."""
    from mining.preflight import check_truth
    from mining.reporting.report_page import write_report as write
    from mining.runs.run import Run

    Run(run).require_finished()
    check_truth(truth)
    page = write(run, truth, against=against, progress=_PageProgress("report").reach)
    report(_show_page, run.name, page)
    return page


@step(name="maps")
def write_maps(settings: MapsSettings) -> "MapsSummary":
    """Write the page that shows localizers side by side."""
    from mining.reporting.maps_page import write_maps_page

    return write_maps_page(settings, _PageProgress("maps").reach)


class _PageProgress:
    """Starts the stage once the number of pictures is known."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stage: Stage | None = None

    def reach(self, done: int, total: int) -> None:
        if self._stage is None:
            self._stage = Stage(self._name, total)
        self._stage.reach(done)


def report_any(
    source: str, truth: Path | None, out: Path | None, chosen: Mapping[str, Any], against: Path | None = None
) -> tuple[Path, str]:
    """Write the report of a run directory or of a version of a label store.

    Args:
        source: Run directory or label store.
        truth: Ground truth whose boxes are drawn.
        out: Page to write, for a label store only.
        chosen: Options that choose the version, for a label store only.
        against: An earlier run to compare with; a version of a label store is compared with the one before it.

    Returns:
        The path of the page, and a note on ground truth or an earlier version that was not found, or an empty text.

    Raises:
        InputError: The source, an option or the ground truth cannot be used.
    """
    from mining.label_store.settings import VersionChoice
    from mining.label_store.sources import is_store, refuse_store_options
    from mining.preflight import check_truth
    from mining.reporting.ground_truth_index import find_ground_truth
    from mining.runs.run import Run

    if is_store(source):
        from mining.label_store.version_report import report_of_version

        if against is not None:
            raise InputError(
                f"{source} is a label store: its version is compared with the one before it. Leave out --against."
            )
        check_truth(truth)
        return report_of_version(source, VersionChoice(**chosen), out, truth)
    refuse_store_options(source, {"out": out, **chosen})
    run = Run(Path(source))
    run.require_finished()
    path, note = find_ground_truth(run, truth)
    return write_report(run.path, path, against), note


def _show_page(run: str, page: Path) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(f"The report of run `{run}` is at `{page}`.", key="report")
