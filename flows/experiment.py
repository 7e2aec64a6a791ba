"""Compare methods of training and mining on the same images."""

from mining.experiments import ExperimentSettings
from mining.experiments.comparison import Row
from tasks.experimenting import measure_cell
from tasks.orchestration import step
from tasks.progress import Stage


def experiment(settings: ExperimentSettings) -> list[Row]:
    """Measure every cell that has no figures yet, then compare all; tables are written to the experiment's folder."""
    from mining.experiments.folder import lock_experiment
    from mining.experiments.measurement import plan_cells
    from mining.experiments.table import write_tables

    cells = step(name="plan")(plan_cells)(settings)
    with lock_experiment(settings):
        stage = Stage("cells", len(cells))
        for _ in measure_cell.each(cells, stage):
            pass
        return step(name="compare")(write_tables)(settings)
