"""Measure the cells of an experiment."""

from pathlib import Path

from mining.experiments import Cell
from tasks.orchestration import step
from tasks.progress import Stage
from tasks.training import train_in_suitable_process


@step(name="measure")
def measure_cell(cell: Cell, stage: Stage | None = None) -> Path:
    """Train, mine and score one cell, unless its figures exist already; return the file of its figures."""
    from mining.experiments.measurement import measure

    measure(cell, train_in_suitable_process)
    if stage:
        stage.advance(1, str(cell))
    return cell.figures
