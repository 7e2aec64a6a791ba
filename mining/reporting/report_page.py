"""The report page of a finished run: a single file that works from disk, with no network."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mining.errors import InputError
from mining.evaluation.run_reading import read_mined_threshold
from mining.evaluation.scores import Scores, read_scores
from mining.models.card import IMPORTED, read_card
from mining.quality.judgements import Judgement
from mining.quality.verdicts import VERDICTS_FILE, open_verdicts
from mining.reporting import gallery, summary_text
from mining.reporting.charts import baseline_bars, build_histogram
from mining.reporting.class_cards import MAX_CARDS, build_cards
from mining.reporting.corpus_counts import CorpusCounts, count_images
from mining.reporting.first_lines import audit_of, first_lines
from mining.reporting.ground_truth_index import GroundTruthIndex, find_ground_truth, open_ground_truth
from mining.reporting.page_files import refuse_foreign_page
from mining.reporting.plots import draw_plots
from mining.reporting.reliability_points import build_diagrams
from mining.reporting.run_drift import compare_statistics
from mining.reporting.statistics import RunStatistics, count_boxes
from mining.runs.run import Run
from mining.storage.files import atomic_write, storage_errors
from mining.storage.locks import share_path
from mining.storage.ownership import find_temporaries

ProgressCallback = Callable[[int, int], None]
_SCRIPT = "filters.js"


def write_report(
    run_dir: Path,
    truth: Path | None = None,
    *,
    against: Path | None = None,
    per_class: int = 3,
    max_classes: int = 20,
    progress: ProgressCallback = lambda done, total: None,
) -> Path:
    """Write report/index.html of a finished run atomically, and its charts beside it.

    Args:
        run_dir: Run directory.
        truth: Ground truth whose boxes are drawn too; by default the one that the run was scored
            against, if it is still found.
        against: An earlier finished run that its boxes are compared with.
        per_class: Images of each kind (best, doubtful, worst) per class; fewer where the page would exceed
            `gallery.MAX_TILES`.
        max_classes: Classes whose best, doubtful and worst images are shown, those with the most boxes.
        progress: Called with the number of pictures drawn so far and their total.

    Returns:
        Path of the page.

    Raises:
        RunError: One of the runs is not finished.
        InputError: Another page is at that path, or `against` is the run itself.
        ScoringError: The ground truth cannot be used.
    """
    run = Run(run_dir)
    record = run.require_finished()
    refuse_foreign_page(run.report, "report")
    earlier = _open_earlier(run, against)
    scores = read_scores(run)
    index = open_ground_truth(find_ground_truth(run, truth).path, run)
    statistics = count_boxes(run.annotations)
    counts = count_images(run.corpus, statistics.by_people, most=gallery.MAX_UNBOXED)
    pictures = gallery.build_gallery(
        run, statistics, counts, index, _judgements(run), per_class=per_class, max_classes=max_classes,
        progress=progress,
    )  # fmt: skip
    with storage_errors(run.report):
        run.report.parent.mkdir(exist_ok=True)
    with share_path(run.report.parent, lambda: _sweep(run)):
        page = render_template(
            "page.html.j2",
            gallery=pictures,
            script=Markup(_script()),
            script_hash=_base64(hashlib.sha256(_script().encode()).digest()),
            plots=_plots(run, scores),
            drift=None if earlier is None else _drift(earlier, record, statistics),
            **_content(run, record, scores, index, statistics, counts, pictures),
        )
        with atomic_write(run.report) as temporary:
            temporary.write_text(page, encoding="utf-8")
    return run.report


def _sweep(run: Run) -> None:
    """Delete what killed processes left half written of page and charts."""
    for path in find_temporaries(run.path, ("report", "report/charts")):
        if path.parent.name == "charts" or path.name.endswith(f"-{run.report.name}"):
            path.unlink(missing_ok=True)


def render_template(template: str, **content: Any) -> str:
    """Render a page from one of the templates; text is escaped, and a missing name raises."""
    environment = Environment(
        loader=PackageLoader("mining.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = mark_code
    return environment.get_template(template).render(**content)


def mark_code(text: str) -> Markup:
    """Escape a sentence, with what stands between backquotes as code."""
    parts = (escape(part) for part in text.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(one) if n % 2 else one for n, one in enumerate(parts))


@cache
def _script() -> str:
    return files("mining.reporting").joinpath("templates", _SCRIPT).read_text(encoding="utf-8")


def _open_earlier(run: Run, against: Path | None) -> Run | None:
    if against is None:
        return None
    if against.resolve() == run.path.resolve():
        raise InputError(f"--against {against} is the run itself; give an earlier one.")
    return Run.open(against, finished=True)


def _judgements(run: Run) -> list[Judgement]:
    if not (run.path / VERDICTS_FILE).is_file():
        return []
    with open_verdicts(run.path, to_write=False) as store:
        return store.judgements()


def _drift(earlier: Run, record: dict[str, Any], statistics: RunStatistics) -> dict[str, Any]:
    before, past = earlier.record, count_boxes(earlier.annotations)
    return {
        "name": _earlier_name(earlier, record),
        "counts": before["counts"],
        "found": compare_statistics(past, statistics, before["counts"]["states"], record["counts"]["states"]),
        "scores": build_histogram(statistics.scores, past.scores),
        "settings": summary_text.differing_settings(before, record),
    }


def _earlier_name(earlier: Run, record: dict[str, Any]) -> str:
    """Its name; of two runs of the same name, its folder too."""
    return earlier.name if earlier.name != record["name"] else "/".join(earlier.path.resolve().parts[-2:])


def _content(
    run: Run,
    record: dict[str, Any],
    scores: Scores | None,
    truth: GroundTruthIndex | None,
    statistics: RunStatistics,
    counts: CorpusCounts,
    pictures: gallery.Gallery,
) -> dict[str, Any]:
    states, audit = record["counts"]["states"], audit_of(run)
    shown = {name: number for name, _, number in pictures.class_options}
    return {
        "name": record["name"],
        "described": summary_text.describe_run(run, record),
        "warnings": record["warnings"],
        "score_definition": summary_text.define_score(record),
        "is_imported": read_card(run.model).localizer == IMPORTED,
        "details": summary_text.detail_groups(run, record),
        "counts": record["counts"],
        "states": summary_text.state_rows(states),
        "quarantined": summary_text.quarantine_rows(run, states),
        "quarantined_in_all": states.get("quarantined", 0),
        "precision": record.get("precision"),
        "first": first_lines(record, len(statistics.classes()), scores, audit),
        "audit": audit,
        "scores": summary_text.score_content(scores),
        "score_bars": baseline_bars(scores),
        "truth": truth,
        "diagrams": build_diagrams(run, scores),
        "score_chart": build_histogram(statistics.scores),
        "size_chart": build_histogram(statistics.sizes, truth.sizes() if truth is not None else None),
        "classes": statistics.classes(),
        "cards": build_cards(run, statistics, counts, scores, audit, shown),
        "max_cards": MAX_CARDS,
        "threshold": read_mined_threshold(run.path),
    }


def _plots(run: Run, scores: Scores | None) -> list[tuple[str, str]]:
    """Draw the charts beside the page; each as a data URI with its caption."""
    if scores is None:
        return []
    folder = run.report.parent / "charts"
    captions = draw_plots(scores, folder)
    return [
        (f"data:image/svg+xml;base64,{_base64((folder / f'{name}.svg').read_bytes())}", caption)
        for name, caption in captions.items()
    ]


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")
