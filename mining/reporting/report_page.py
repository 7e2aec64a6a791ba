"""The report page of a finished run: one file that works from disk, with no network and no script."""

from base64 import b64encode
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mining.evaluation.run_reading import mined_threshold
from mining.models.card import read_card
from mining.reporting import summary_text
from mining.reporting.charts import baseline_bars, class_bars, histogram
from mining.reporting.ground_truth_index import GroundTruthIndex, open_ground_truth, read_scores, scored_truth
from mining.reporting.page_files import refuse_foreign_page
from mining.reporting.plots import draw_plots
from mining.reporting.sample_selection import Pair, select_pairs
from mining.reporting.statistics import RunStatistics, run_statistics
from mining.reporting.thumbnails import Painter
from mining.runs.run import Run
from mining.storage.files import atomic_write

MAX_TILES = 90
_KINDS_A_CLASS = 3


def write_report(run_dir: Path, truth: Path | None = None, *, per_class: int = 3, max_classes: int = 20) -> Path:
    """Write report/index.html of a finished run, whole or not at all, and its charts beside it; gives its path.

    truth: COCO JSON whose boxes are drawn beside the mined ones; by default the one the run was scored against,
    where it is still found.
    per_class: images of each kind (best, doubtful, worst) a class, fewer where the page would exceed MAX_TILES.
    max_classes: classes shown in pictures, those with most boxes.
    Raises RunError when the run is not finished, InputError where another page lies there, ScoringError when the truth
    cannot be used.
    """
    run = Run(run_dir)
    record = run.require_finished()
    refuse_foreign_page(run.report, "report")
    scores = read_scores(run)
    index = open_ground_truth(truth or scored_truth(scores, record["config"]), run)
    page = rendered(
        "page.html.j2",
        plots=_plots(run, scores),
        **_content(run, record, scores, index, per_class=per_class, max_classes=max_classes),
    )
    with atomic_write(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.report


def _content(
    run: Run,
    record: dict[str, Any],
    scores: dict[str, Any] | None,
    truth: GroundTruthIndex | None,
    *,
    per_class: int,
    max_classes: int,
) -> dict[str, Any]:
    survey = run_statistics(run.annotations)
    states = record["counts"]["states"]
    return {
        "name": record["name"],
        "described": summary_text.described(run, record),
        "details": summary_text.details(run, record),
        "counts": record["counts"],
        "states": summary_text.state_rows(states),
        "quarantined": summary_text.quarantined(run, states),
        "quarantined_in_all": states.get("quarantined", 0),
        "scores": summary_text.scored(scores, survey.per_class),
        "score_bars": baseline_bars(scores),
        "truth": truth,
        "score_chart": histogram(survey.scores),
        "size_chart": histogram(survey.sizes, truth.sizes() if truth is not None else None),
        "classes": survey.classes(),
        "class_bars": class_bars(survey.classes()),
        **_gallery(run, survey, truth, per_class=per_class, max_classes=max_classes),
    }


def _plots(run: Run, scores: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Draw the charts beside the page; gives each as a data URI, with its words."""
    if scores is None:
        return []
    folder = run.report.parent / "charts"
    told = draw_plots(scores, folder)
    return [(f"data:image/svg+xml;base64,{_base64(folder / f'{name}.svg')}", words) for name, words in told.items()]


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode("ascii")


def _gallery(
    run: Run, survey: RunStatistics, truth: GroundTruthIndex | None, *, per_class: int, max_classes: int
) -> dict[str, Any]:
    usable = truth if truth is not None and len(truth) else None
    shown = _classes_shown(run, survey, usable)
    known = len(shown)
    shown = shown[: max(1, min(max_classes, MAX_TILES // _KINDS_A_CLASS))]
    each = max(1, min(per_class, MAX_TILES // (_KINDS_A_CLASS * max(1, len(shown)))))
    used = run.record["used"]
    pairs = select_pairs(run.annotations, shown, usable, per_class=each, class_cut=used["class_cut"])
    painter = Painter(run, {pair.file_name for name in shown for _, pair in pairs[name]})
    gallery = [_of_class(name, survey, painter, pairs[name]) for name in shown]
    return {
        "gallery": gallery,
        "classes_known": known,
        "per_class": each,
        "max_tiles": MAX_TILES,
        "is_ranked_by_truth": usable is not None,
        "skipped": painter.skipped,
        "no_maps": painter.no_maps,
        "threshold": mined_threshold(run.path),
    }


def _classes_shown(run: Run, survey: RunStatistics, truth: GroundTruthIndex | None) -> list[str]:
    """Most boxes first, then the model's classes that the truth has and the run never boxed."""
    boxed = [name for name, _ in survey.classes()]
    if truth is None:
        return boxed
    known = set(read_card(run.model).class_names) - set(boxed)
    return boxed + [name for name in truth.classes() if name in known]


def _of_class(name: str, survey: RunStatistics, painter: Painter, pairs: list[tuple[str, Pair]]) -> dict[str, Any]:
    return {"name": name, "boxes": survey.per_class[name], "tiles": painter.tiles(pairs)}


def rendered(template: str, **content: Any) -> str:
    """A page from one of the templates; text in the content is escaped, and a name that is missing raises."""
    environment = Environment(
        loader=PackageLoader("mining.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)
