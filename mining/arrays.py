"""Array types that several rooms share, and compilation by Numba."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
FloatMap = NDArray[np.float32]  # (H, W)


def jit(function: Any) -> Any:
    """Compile a function with Numba at its first call; it runs without Python's lock and is cached on disk.

    A read-only installation without a home folder has no place for the cache; there each process compiles anew.
    """
    from numba import njit  # its import takes longer than most commands that need none of these functions

    try:
        return njit(function, cache=True, nogil=True)
    except RuntimeError:
        return njit(function, nogil=True)
