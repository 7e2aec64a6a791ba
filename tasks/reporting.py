"""Write the page a person looks at first."""

from pathlib import Path

from tasks.orchestration import report, step


@step(name="report")
def write_report(run: Path, truth: Path | None = None) -> Path:
    """Write report/index.html of a finished run; gives its path."""
    from mining.preflight import check_truth
    from mining.runs import RunDirectory

    RunDirectory(run).need_finished()
    check_truth(truth)
    from mining.audit import write_report as write

    page = write(run, truth)
    report(_show_page, run.name, page)
    return page


def _show_page(run: str, page: Path) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(f"The report of run `{run}` is at `{page}`.", key="report")
