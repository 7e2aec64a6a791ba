"""The report page of a finished run: a single file that works from disk, with no network and no script."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mining.evaluation.run_reading import read_mined_threshold
from mining.evaluation.scores import Scores, read_scores
from mining.models.card import read_card
from mining.reporting import summary_text
from mining.reporting.charts import baseline_bars, build_histogram, class_bars
from mining.reporting.first_lines import audit_of, first_lines
from mining.reporting.ground_truth_index import GroundTruthIndex, find_ground_truth, open_ground_truth
from mining.reporting.page_files import refuse_foreign_page
from mining.reporting.plots import draw_plots
from mining.reporting.sample_selection import Pair, select_pairs
from mining.reporting.statistics import RunStatistics, count_boxes
from mining.reporting.thumbnails import Painter, Tile
from mining.runs.run import Run
from mining.storage.files import atomic_write

MAX_TILES = 90
KINDS_PER_CLASS = 3
EVEN = 0.5  # class probability that imported boxes are compared with
ProgressCallback = Callable[[int, int], None]


def write_report(
    run_dir: Path,
    truth: Path | None = None,
    *,
    per_class: int = 3,
    max_classes: int = 20,
    progress: ProgressCallback = lambda done, total: None,
) -> Path:
    """Write report/index.html of a finished run atomically, and its charts beside it.

    Args:
        run_dir: Run directory.
        truth: Ground truth whose boxes are drawn too; by default the one that the run was scored
            against, if it is still found.
        per_class: Images of each kind (best, doubtful, worst) per class; fewer where the page would exceed MAX_TILES.
        max_classes: Classes shown in pictures, those with the most boxes.
        progress: Called with the number of pictures drawn so far and their total.

    Returns:
        Path of the page.

    Raises:
        RunError: The run is not finished.
        InputError: Another page is at that path.
        ScoringError: The ground truth cannot be used.
    """
    run = Run(run_dir)
    record = run.require_finished()
    refuse_foreign_page(run.report, "report")
    scores = read_scores(run)
    index = open_ground_truth(find_ground_truth(run, truth).path, run)
    statistics = count_boxes(run.annotations)
    page = render_template(
        "page.html.j2",
        plots=_plots(run, scores),
        **_content(run, record, scores, index, statistics),
        **_gallery(run, statistics, index, per_class=per_class, max_classes=max_classes, progress=progress),
    )
    with atomic_write(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.report


def render_template(template: str, **content: Any) -> str:
    """Render a page from one of the templates; text is escaped, and a missing name raises."""
    environment = Environment(
        loader=PackageLoader("mining.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def _content(
    run: Run, record: dict[str, Any], scores: Scores | None, truth: GroundTruthIndex | None, statistics: RunStatistics
) -> dict[str, Any]:
    states, audit = record["counts"]["states"], audit_of(run)
    return {
        "name": record["name"],
        "described": summary_text.describe_run(run, record),
        "warnings": record["warnings"],
        "score_definition": summary_text.define_score(record["used"]),
        "details": summary_text.detail_groups(run, record),
        "counts": record["counts"],
        "states": summary_text.state_rows(states),
        "quarantined": summary_text.quarantine_rows(run, states),
        "quarantined_in_all": states.get("quarantined", 0),
        "precision": record.get("precision"),
        "first": first_lines(record, len(statistics.classes()), scores, audit),
        "audit": audit,
        "scores": summary_text.score_content(scores, statistics.per_class),
        "score_bars": baseline_bars(scores),
        "truth": truth,
        "score_chart": build_histogram(statistics.scores),
        "size_chart": build_histogram(statistics.sizes, truth.sizes() if truth is not None else None),
        "classes": statistics.classes(),
        "class_bars": class_bars(statistics.classes()),
    }


def _plots(run: Run, scores: Scores | None) -> list[tuple[str, str]]:
    """Draw the charts beside the page; each as a data URI with its caption."""
    if scores is None:
        return []
    folder = run.report.parent / "charts"
    captions = draw_plots(scores, folder)
    return [
        (f"data:image/svg+xml;base64,{_base64(folder / f'{name}.svg')}", caption) for name, caption in captions.items()
    ]


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode("ascii")


def _gallery(
    run: Run,
    statistics: RunStatistics,
    truth: GroundTruthIndex | None,
    *,
    per_class: int,
    max_classes: int,
    progress: ProgressCallback,
) -> dict[str, Any]:
    usable = truth if truth is not None and len(truth) else None
    classes = _classes_to_show(run, statistics, usable)
    shown = classes[: max(1, min(max_classes, MAX_TILES // KINDS_PER_CLASS))]
    each = max(1, min(per_class, MAX_TILES // (KINDS_PER_CLASS * max(1, len(shown)))))
    used = run.record["used"]
    pairs = select_pairs(run.annotations, shown, usable, per_class=each, class_cut=used.get("class_cut", EVEN))
    painter = Painter(run, {pair.file_name for name in shown for _, pair in pairs[name]})
    return {
        "gallery": _draw_classes(painter, statistics, {name: pairs[name] for name in shown}, progress),
        "classes_known": len(classes),
        "per_class": each,
        "max_tiles": MAX_TILES,
        "is_ranked_by_truth": usable is not None,
        "skipped": painter.skipped,
        "no_maps": painter.no_maps,
        "threshold": read_mined_threshold(run.path),
    }


def _classes_to_show(run: Run, statistics: RunStatistics, truth: GroundTruthIndex | None) -> list[str]:
    """Classes with most boxes first, then the model's classes that the ground truth has and the run never boxed."""
    boxed = [name for name, _ in statistics.classes()]
    if truth is None:
        return boxed
    never_boxed = set(read_card(run.model).class_names) - set(boxed)
    return boxed + [name for name in truth.classes() if name in never_boxed]


def _draw_classes(
    painter: Painter,
    statistics: RunStatistics,
    pairs: dict[str, list[tuple[str, Pair]]],
    progress: ProgressCallback,
) -> list[dict[str, Any]]:
    total, done = sum(map(len, pairs.values())), 0
    progress(0, total)
    sections = []
    for name, of_class in pairs.items():
        tiles: list[Tile] = []
        for pair in of_class:
            tiles += painter.tiles([pair])
            done += 1
            progress(done, total)
        sections.append({"name": name, "boxes": statistics.per_class[name], "tiles": tiles})
    return sections
