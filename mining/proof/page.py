"""The page of a proof: the detectors' figures, the label budget, and what the detectors find on test images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mining.config.proof import ProofSettings
from mining.evaluation.run_comparison import PairChange, compare_runs
from mining.proof.figures import Estimate
from mining.proof.folder import test_run_of
from mining.proof.job import ProofResult
from mining.proof.trainings import Training
from mining.reporting.ground_truth_index import open_ground_truth
from mining.reporting.report_page import render_template
from mining.reporting.sample_selection import Pair, find_pairs
from mining.reporting.thumbnails import Painter, Tile
from mining.runs.run import Run
from mining.storage.files import atomic_write

PAGE_FILE = "proof.html"
SHOWN = 6  # pairs of each group
_CONFIDENT = 0.3  # boxes below it are not drawn, except for the best of a class
_MEANINGS = {
    "true": "boxes that people drew", "mined": "boxes of the run",
    "audited": "mined, and corrected by a simulated review",
    "centred": "a box of half the area in the centre, for each label", "whole": "the whole image, for each label",
}  # fmt: skip


Group = tuple[str, int, list[tuple[PairChange, list[Tile]]]]
"""Title, number of pairs, and the pairs that are shown with their pictures."""


@dataclass(frozen=True)
class Curve:
    """A line of the chart of the label budget.

    Attributes:
        name: Its name.
        points: x and y in 0-1 of the chart, and the text of each point.
    """

    name: str
    points: list[tuple[float, float, str]]


def write_page(settings: ProofSettings, result: ProofResult) -> Path:
    """Write the page; returns its path.

    Raises:
        RunError: A run of the test images is damaged.
        StorageError: The disk is full or read-only.
    """
    other = next((arm for arm in ("true", "centred", "whole") if arm in result.ap50), None)
    groups: list[Group] = []
    skipped: list[str] = []
    if other is not None and "mined" in result.ap50:
        groups, skipped = _groups(settings, other)
    curves, top, ticks = _curves(result)
    content = {
        "result": result, "meanings": _MEANINGS, "verdicts": settings.verdicts, "other": other, "groups": groups,
        "skipped": skipped, "curves": curves, "top": top, "ticks": ticks, "epochs": settings.detector.epochs,
        "detector": f"{settings.detector.kind.upper()} on {settings.detector.backbone}",
    }  # fmt: skip
    page = settings.out / PAGE_FILE
    with atomic_write(page) as temporary:
        temporary.write_text(render_template("proof.html.j2", **content), encoding="utf-8")
    return page


def _groups(settings: ProofSettings, other: str) -> tuple[list[Group], list[str]]:
    """Titles, numbers and pictures of test images by which detector finds their objects; and why some are not drawn."""
    seed = settings.seeds[0]
    folders = [test_run_of(settings, Training(arm, seed)) for arm in (other, "mined")]
    changes = compare_runs(folders[0], folders[1], settings.test.truth).changes
    titles = (
        ("right", "Both find it"),
        ("worse", f"Only the detector from {other} boxes finds it"),
        ("better", "Only the detector from mined boxes finds it"),
        ("wrong", "Neither finds it"),
    )
    chosen = {name: [one for one in changes if one.verdict == name] for name, _ in titles}
    shown = {name: _spread(rows) for name, rows in chosen.items()}
    names = {one.file_name for rows in shown.values() for one in rows}
    runs = [Run(folder) for folder in folders]
    painters = [Painter(run, names) for run in runs]
    groups = [
        (title, len(chosen[name]), [(one, _tiles(one, settings.test.truth, runs, painters)) for one in shown[name]])
        for name, title in titles
        if chosen[name]
    ]
    return groups, sorted({reason for painter in painters for reason in painter.skipped})


def _spread(rows: list[PairChange]) -> list[PairChange]:
    """SHOWN of the pairs, evenly spaced."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)) if rows else ()
    return [rows[place] for place in places]


def _tiles(change: PairChange, truth: Path, runs: Iterable[Run], painters: Iterable[Painter]) -> list[Tile]:
    tiles = []
    for kind, run, painter in zip(("first", "second"), runs, painters, strict=True):
        (pair,) = find_pairs(run.annotations, [(change.file_name, change.category)], open_ground_truth(truth, run))
        tiles += painter.tiles([(kind, _without_doubtful(pair))])
    return tiles


def _without_doubtful(pair: Pair) -> Pair:
    rows = tuple(row for place, row in enumerate(pair.rows) if place == 0 or row.score >= _CONFIDENT)
    return pair._replace(rows=rows)


def _curves(result: ProofResult) -> tuple[list[Curve], float, list[tuple[float, int]]]:
    """The lines of the chart, the AP50 at its upper edge, and its ticks: x in 0-1 and number of true boxes."""
    if not result.budget:
        return [], 0.0, []
    alone = [(one.true_boxes, one.alone) for one in result.budget]
    if "true" in result.ap50:
        alone.append((result.boxes["true"], result.ap50["true"]))
    both = [(one.true_boxes, one.with_mined) for one in result.budget]
    numbers = sorted({number for number, _ in (*alone, *both)})
    top = max(one.ci95[1] for _, one in (*alone, *both)) or 1.0
    low, high = np.log(numbers[0] / 1.3), np.log(numbers[-1] * 1.3)

    def across(number: int) -> float:
        return float((np.log(number) - low) / (high - low))

    def points(rows: list[tuple[int, Estimate]]) -> list[tuple[float, float, str]]:
        return [
            (across(number), one.value / top, f"{number} true boxes: AP50 {100 * one.value:.1f} %")
            for number, one in rows
        ]

    curves = [Curve("true boxes alone", points(alone)), Curve("with mined boxes", points(both))]
    if "mined" in result.ap50:
        mined = result.ap50["mined"]
        text = f"mined boxes: AP50 {100 * mined.value:.1f} %"
        curves.append(Curve("mined boxes alone", [(0.0, mined.value / top, text), (1.0, mined.value / top, text)]))
    return curves, top, [(across(number), number) for number in numbers]
