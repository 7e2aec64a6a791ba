"""Experiments: compare variants of training and mining on the same images, over seeds, pair by pair.

ExperimentSettings      the recipe (settings.py)
make_cells(settings)    everything to measure (cells.py)
measure(cell)           train, mine and score one cell, unless it is measured already (measurement.py)
write_tables(settings)  means, spreads and paired differences (comparison.py), as tables (table.py)
"""

from mining.experiments.cells import Cell, make_cells
from mining.experiments.settings import ExperimentSettings

__all__ = ["Cell", "ExperimentSettings", "make_cells"]
