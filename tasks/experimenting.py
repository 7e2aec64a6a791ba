"""Measure the cells of an experiment and compare them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mining.experiments import Cell, ExperimentSettings, cells
from mining.experiments.comparison import Row
from tasks.orchestration import step
from tasks.progress import Stage
from tasks.training import train_in_suitable_process


@contextmanager
def lock_experiment(settings: ExperimentSettings) -> Iterator[None]:
    """Keep other experiments off the folder."""
    from mining.experiments.folder import hold_experiment

    with hold_experiment(settings):
        yield


@step(name="plan")
def plan_cells(settings: ExperimentSettings) -> list[Cell]:
    """All there is to measure; refused as a whole where a part of it cannot be."""
    from mining.experiments.measurement import validate_cells

    every = cells(settings)
    validate_cells(every)
    return every


@step(name="measure")
def measure_cell(cell: Cell, stage: Stage | None = None) -> Path:
    """Train, mine and score one cell, unless its figures are there; gives their file."""
    from mining.experiments.measurement import measure

    measure(cell, train_in_suitable_process)
    if stage:
        stage.advance(1, str(cell))
    return cell.figures


@step(name="compare")
def compare_cells(settings: ExperimentSettings) -> list[Row]:
    """The rows of the experiment's table, which is written as Markdown and JSON."""
    from mining.experiments.table import write_tables

    return write_tables(settings)


def experiment_table(rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]], str]:
    """Headings, lines and legend for a terminal."""
    from mining.experiments.table import HEADINGS, LEGEND, table

    return HEADINGS, table(rows), LEGEND
