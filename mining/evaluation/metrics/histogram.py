"""The one histogram: values of 0-1 counted in equal cells."""

import numpy as np

from mining.arrays import Floats, Ints


def cell_index(values: Floats, cells: int) -> Ints:
    """Return the cell of 0-1 that each value falls into.

    Args:
        values: (n,) values; those outside 0-1 fall into the first or the last cell.
        cells: Number of equal cells.

    Returns:
        (n,) int in 0 to cells - 1; a value on a border belongs to the upper cell.
    """
    # a value computed as 0.3 may lie just below 0.3
    return np.clip((values * cells + 1e-9).astype(np.int64), 0, cells - 1)


def count_per_cell(values: Floats, cells: int) -> Ints:
    """Return (cells,) how many of the values fall into each cell of 0-1; see `cell_index`."""
    return np.bincount(cell_index(values, cells), minlength=cells).astype(np.int64)
