"""The page that shows two runs side by side, and the table of all pairs behind it."""

import csv
from pathlib import Path
from typing import Any

from mining.config import CompareSettings
from mining.evaluation.paired_scores import verdict_of
from mining.evaluation.run_comparison import Comparison, PairChange, compare_runs
from mining.reporting.ground_truth_index import find_ground_truth, open_ground_truth
from mining.reporting.page_files import COLUMNS, check_page, table_path
from mining.reporting.report_page import render_template
from mining.reporting.sample_selection import Pair, find_pairs
from mining.reporting.summary_text import differing_settings
from mining.reporting.thumbnails import Painter, Tile
from mining.runs.run import Run
from mining.storage.files import atomic_write
from mining.storage.names import slugify

MAX_SHOWN = 12
# verdict, title, description
_GROUPS = (
    ("better", "Better", "Correct in the second run only, the largest gain in IoU first"),
    ("worse", "Worse", "Correct in the first run only, the largest loss in IoU first"),
    ("moved", "Moved", "The best-scored boxes of the two runs overlap least, or one run has none"),
)


def compare(settings: CompareSettings) -> tuple[dict[str, Any], Path]:
    """Compare two finished runs and write the page.

    Args:
        settings: The runs, the ground truth (by default the one that either run was scored against) and the page.

    Returns:
        The summary and the path of the page.

    Raises:
        RunError: A run is not finished, or the runs share no image or no class.
        ScoringError: The ground truth cannot be used.
        InputError: Something else is at the path of the page.
    """
    runs = [Run(path) for path in (settings.first, settings.second)]
    records = [run.require_finished() for run in runs]
    scored_against = (find_ground_truth(run).path for run in runs)
    truth = settings.truth or next((path for path in scored_against if path is not None), None)
    page = settings.out or runs[1].report.parent / f"against-{slugify(records[0]['name'])}.html"
    check_page(page)  # before the work rather than after it
    comparison = compare_runs(settings.first, settings.second, truth)
    return comparison.summary, write_comparison(settings.first, settings.second, comparison, truth, page)


def write_comparison(
    first: Path, second: Path, comparison: Comparison, truth: Path | None, page: Path, *, most: int = MAX_SHOWN
) -> Path:
    """Write the page, and beside it every pair as CSV.

    Args:
        first: Run directory to compare with.
        second: Run directory that is compared with it.
        comparison: What `compare_runs` found.
        truth: Ground truth whose boxes are drawn.
        page: The page to write, an .html file.
        most: Pairs shown of each kind.

    Returns:
        The path of the page.

    Raises:
        InputError: Something else is at that path.
        StorageError: The disk is full or read-only.
    """
    check_page(page)
    runs = Run(first), Run(second)
    groups = [
        (title, text, chosen) for verdict, title, text in _GROUPS if (chosen := _sorted(comparison.changes, verdict))
    ]
    shown = {change.file_name for *_, chosen in groups for change in chosen[:most]}
    painters = [Painter(run, shown) for run in runs]
    content: dict[str, Any] = {
        "names": [run.name for run in runs],
        "summary": comparison.summary,
        "verdict": verdict_of(scored) if (scored := comparison.summary["truth"]) and scored["pairs"] else None,
        "settings": differing_settings(*(run.record for run in runs)),
        "groups": [
            (title, text, len(chosen), _tiles(chosen[:most], runs, painters, truth)) for title, text, chosen in groups
        ],
        "skipped": sorted({reason for painter in painters for reason in painter.skipped}),
        "table": table_path(page).name,
    }
    with atomic_write(page) as temporary:
        temporary.write_text(render_template("compare.html.j2", **content), encoding="utf-8")
    _write_table(table_path(page), comparison.changes)
    return page


def _sorted(changes: list[PairChange], verdict: str) -> list[PairChange]:
    sign = 1 if verdict == "worse" else -1
    return sorted((change for change in changes if change.verdict == verdict), key=lambda change: sign * change.gain)


def _tiles(
    chosen: list[PairChange], runs: tuple[Run, Run], painters: list[Painter], truth: Path | None
) -> list[tuple[PairChange, list[Tile]]]:
    """Each change with its pictures from the first and the second run; none where the image cannot be read."""
    keys = [(change.file_name, change.category) for change in chosen]
    sides: list[list[Pair]] = [find_pairs(run.annotations, keys, open_ground_truth(truth, run)) for run in runs]
    shown = []
    for place, change in enumerate(chosen):
        tiles = [
            tile
            for painter, side, name in zip(painters, sides, ("first", "second"), strict=True)
            for tile in painter.tiles([(name, side[place])])
        ]
        shown.append((change, tiles))
    return shown


def _write_table(path: Path, changes: list[PairChange]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for change in changes:
            values = (change.agreement, change.first_iou, change.second_iou)
            cells = ("" if value is None else f"{value:.6f}" for value in values)
            writer.writerow((change.file_name, change.category, change.verdict, *cells))
