"""Compare two runs."""

from pathlib import Path
from typing import Any

from mining.config import CompareSettings
from tasks.orchestration import report, step


@step(name="compare")
def compare_runs(settings: CompareSettings) -> tuple[dict[str, Any], Path]:
    """Find what changed from the first run to the second, and write the page that shows it."""
    from mining.reporting import comparison_page

    summary, page = comparison_page.compare(settings)
    report(_show_page, page)
    return summary, page


def _show_page(page: Path) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(f"The comparison is at `{page}`.", key="comparison")
