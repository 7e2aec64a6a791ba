"""Functions compiled by Numba."""

from typing import Any

from numba import njit


def compiled(function: Any) -> Any:
    """The function compiled at its first call, to run without Python's lock; kept on disk where there is a place.

    A read-only installation without a home has none; there it is compiled in every process.
    """
    try:
        return njit(function, cache=True, nogil=True)
    except RuntimeError:
        return njit(function, nogil=True)
