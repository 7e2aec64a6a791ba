"""Which method for these photos?"""

from mining.experiments import ExperimentSettings
from mining.experiments.comparison import Row
from tasks.experimenting import compare_cells, lock_experiment, measure_cell, plan_cells
from tasks.progress import Stage


def experiment(settings: ExperimentSettings) -> list[Row]:
    """Measure every cell that is not measured yet, then compare them; tables stand in the experiment's folder."""
    every = plan_cells(settings)
    with lock_experiment(settings):
        stage = Stage("cells", len(every))
        for _ in measure_cell.each(every, stage):
            pass
        return compare_cells(settings)
