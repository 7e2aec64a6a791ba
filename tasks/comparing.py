"""Compare two runs."""

from pathlib import Path
from typing import Any

from mining.config import CompareSettings
from tasks.orchestration import report, step


@step(name="compare")
def compare_runs(settings: CompareSettings) -> tuple[dict[str, Any], Path]:
    """What changed from the first run to the second, and the page that shows it."""
    from mining.reporting import comparison_page

    summary, page = comparison_page.compare(settings)
    report(_show_page, page)
    return summary, page


def _show_page(page: Path) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(f"The comparison is at `{page}`.", key="comparison")


def comparison_rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (figure, value, meaning) for a terminal."""
    from mining.evaluation.score_table import comparison_rows as rows

    return rows(summary)
