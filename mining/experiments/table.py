"""The table of an experiment: as columns for a terminal, as Markdown and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict

from mining.evaluation.bootstrap import PairedDifference
from mining.experiments.cells import make_cells, scales_text
from mining.experiments.comparison import Row, compare
from mining.experiments.measurement import read_figures
from mining.experiments.settings import ExperimentSettings
from mining.storage.files import atomic_write, write_json

HEADINGS = (
    "photos", "method", "scales", "seeds", "CorLoc", "at .3", "at .7", "MaxBoxAccV2", "AP50", "recall", "over baseline",
    "over it at .7", "same box",
    "over one scale", "that at .7", "boxes/pair", "train s", "mine ms/image",
)  # fmt: skip
_SHARES = ("corloc", "corloc_0.3", "corloc_0.7", "max_box_acc_v2", "ap50", "instance_recall_at_1_fp")
LEGEND = (
    "Percent: mean ± standard deviation over the seeds. CorLoc at IoU 0.5, and at 0.3 and 0.7. "
    "Recall: true boxes that are found, with at most one false positive per image. Differences in "
    "points of CorLoc with 95 % intervals (paired bootstrap over images of the mean over seeds); * the interval does "
    "not include 0. Same box: images and classes whose best-scored box has IoU 0.98 or more with the baseline's. "
    "Over one scale: compared with the method's own first pyramid."
)


def write_tables(settings: ExperimentSettings) -> list[Row]:
    """Compare the measured cells and write table.md and table.json in the experiment's folder; return the rows."""
    measured = [(cell, figures) for cell in make_cells(settings) if (figures := read_figures(cell)) is not None]
    rows = compare(measured, settings.baseline)
    write_json(settings.out / "table.json", [asdict(row) for row in rows])
    with atomic_write(settings.out / "table.md") as temporary:
        temporary.write_text(markdown(rows), encoding="utf-8")
    return rows


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of the table as text, one tuple per row, in the columns HEADINGS."""
    return [
        (
            row.corpus, row.variant, scales_text(row.scales), str(row.seeds),
            *(_share(row, name) for name in _SHARES),
            _difference(row.over_baseline), _difference(row.over_baseline_strictly),
            "" if row.same_box_as_baseline is None else f"{100 * row.same_box_as_baseline:.1f}",
            _difference(row.over_first_pyramid), _difference(row.over_first_pyramid_strictly),
            f"{row.means['boxes_per_pair']:.2f}", f"{row.train_seconds:.0f}", f"{1000 * row.mine_seconds:.0f}",
        )
        for row in rows
    ]  # fmt: skip


def warnings(rows: Sequence[Row]) -> list[str]:
    """Return the warnings of the runs, each with the row that it is about."""
    return [
        f"{row.corpus}, {row.variant}, {scales_text(row.scales)}: {sentence}"
        for row in rows
        for sentence in row.warnings
    ]


def markdown(rows: Sequence[Row]) -> str:
    """Return the table, its legend and the warnings as Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *table(rows)]
    remarks = "".join(f"- {sentence}\n" for sentence in warnings(rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{LEGEND}\n" + (remarks and f"\n{remarks}")


def _share(row: Row, name: str) -> str:
    spread = row.spreads[name]
    return f"{100 * row.means[name]:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _difference(difference: PairedDifference | None) -> str:
    if difference is None:
        return ""
    low, high = difference.ci95
    mark = "*" if difference.is_clear else ""
    return f"{100 * difference.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}){mark}"
