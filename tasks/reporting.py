"""Write the page a person looks at first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.orchestration import report, step


@step(name="report")
def write_report(run: Path, truth: Path | None = None) -> Path:
    """Write report/index.html of a finished run; gives its path."""
    from mining.preflight import check_truth
    from mining.runs.run import Run

    Run(run).require_finished()
    check_truth(truth)
    from mining.reporting.report_page import write_report as write

    page = write(run, truth)
    report(_show_page, run.name, page)
    return page


def report_any(source: str, truth: Path | None, out: Path | None, chosen: Mapping[str, Any]) -> Path:
    """Write the report of a run directory or of a label store's version; gives its path. Raises InputError."""
    from mining.label_store.sources import VersionChoice, is_store, refuse_store_options
    from mining.preflight import check_truth

    if is_store(source):
        from mining.label_store.version_report import report_of_version

        check_truth(truth)
        return report_of_version(source, VersionChoice(**chosen), out, truth)
    refuse_store_options(source, {"out": out, **chosen})
    return write_report(Path(source), truth)


def _show_page(run: str, page: Path) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(f"The report of run `{run}` is at `{page}`.", key="report")
