"""Which method for these photos? Variants trained and mined alike, over seeds, and compared pair by pair.

ExperimentSettings      what a recipe says (settings.py)
cells(settings)         everything there is to measure (cells.py)
measure(cell)           one of them; what was measured is not measured again (measuring.py)
write_tables(settings)  means, spreads and paired differences (comparing.py), as tables (table.py)
"""

from mining.experiments.cells import Cell, cells
from mining.experiments.settings import ExperimentSettings

__all__ = ["Cell", "ExperimentSettings", "cells"]
