"""The page that shows two runs side by side, and the list behind it."""

import csv
from pathlib import Path
from typing import Any

from mining.config import (
    CompareSettings,
)
from mining.evaluation.run_comparison import Comparison, PairChange
from mining.reporting.ground_truth_index import open_ground_truth
from mining.reporting.page_files import COLUMNS, check_page, table_of
from mining.reporting.report_page import rendered
from mining.reporting.sample_selection import Pair, pairs_named
from mining.reporting.summary_text import format_setting
from mining.reporting.thumbnails import Painter, Tile
from mining.runs.run import Run
from mining.storage.files import atomic_write
from mining.storage.names import slugify

MAX_SHOWN = 12
# verdict, title, what it says
_GROUPS = (
    ("better", "Better", "Right in the second run alone, the greatest gain in IoU first"),
    ("worse", "Worse", "Right in the first run alone, the greatest loss in IoU first"),
    ("moved", "Moved", "The best-scored boxes of the two runs overlap least, or one run has none"),
)


def write_comparison(
    first: Path, second: Path, comparison: Comparison, truth: Path | None, page: Path, *, most: int = MAX_SHOWN
) -> Path:
    """Write the page, and beside it every pair as CSV; gives the page's path.

    most: pairs shown of each kind. Raises InputError where something else lies there, StorageError when the disk
    refuses.
    """
    check_page(page)
    runs = Run(first), Run(second)
    groups = [
        (title, words, chosen) for verdict, title, words in _GROUPS if (chosen := _of(comparison.changes, verdict))
    ]
    shown = {one.file_name for *_, chosen in groups for one in chosen[:most]}
    painters = [Painter(run, shown) for run in runs]
    content: dict[str, Any] = {
        "names": [run.record["name"] for run in runs],
        "summary": comparison.summary,
        "settings": _differing(runs),
        "groups": [
            (title, words, len(chosen), _tiles(chosen[:most], runs, painters, truth)) for title, words, chosen in groups
        ],
        "skipped": sorted({reason for painter in painters for reason in painter.skipped}),
        "table": table_of(page).name,
    }
    with atomic_write(page) as temporary:
        temporary.write_text(rendered("compare.html.j2", **content), encoding="utf-8")
    _write_table(table_of(page), comparison.changes)
    return page


def _of(changes: list[PairChange], verdict: str) -> list[PairChange]:
    sign = 1 if verdict == "worse" else -1
    return sorted((one for one in changes if one.verdict == verdict), key=lambda one: sign * one.gain)


def _tiles(
    chosen: list[PairChange], runs: tuple[Run, Run], painters: list[Painter], truth: Path | None
) -> list[tuple[PairChange, list[Tile]]]:
    """Each change with its pictures, of the first run and of the second; none where the image cannot be read."""
    keys = [(one.file_name, one.category) for one in chosen]
    sides: list[list[Pair]] = [pairs_named(run.annotations, keys, open_ground_truth(truth, run)) for run in runs]
    shown = []
    for place, change in enumerate(chosen):
        tiles = [
            tile
            for painter, side, name in zip(painters, sides, ("first", "second"), strict=True)
            for tile in painter.tiles([(name, side[place])])
        ]
        shown.append((change, tiles))
    return shown


def _differing(runs: tuple[Run, Run]) -> list[tuple[str, str, str]]:
    """(setting, in the first run, in the second) of what is not the same in both."""
    first, second = ({**record["config"], **record["used"], **record["inputs"]} for record in (r.record for r in runs))
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return [(name, format_setting(first.get(name)), format_setting(second.get(name))) for name in names]


def _write_table(path: Path, changes: list[PairChange]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in changes:
            values = (one.agreement, one.first_iou, one.second_iou)
            numbers = ("" if value is None else f"{value:.6f}" for value in values)
            writer.writerow((one.file_name, one.category, one.verdict, *numbers))


def compare(settings: CompareSettings) -> tuple[dict[str, Any], Path]:
    """Compare two finished runs; gives the summary and the page. Raises RunError or ScoringError."""
    from mining.evaluation.run_comparison import compare_runs
    from mining.reporting.ground_truth_index import read_scores, scored_truth
    from mining.reporting.page_files import check_page

    runs = [Run(path) for path in (settings.first, settings.second)]
    records = [run.require_finished() for run in runs]
    found = (scored_truth(read_scores(run), record["config"]) for run, record in zip(runs, records, strict=True))
    truth = settings.truth or next((one for one in found if one is not None), None)
    page = settings.out or runs[1].report.parent / f"against-{slugify(records[0]['name'])}.html"
    check_page(page)  # before the work rather than after it
    comparison = compare_runs(settings.first, settings.second, truth)
    return comparison.summary, write_comparison(settings.first, settings.second, comparison, truth, page)
