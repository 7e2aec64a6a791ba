"""Array types that several packages share, and compilation with Numba."""

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
    """Compile a function with Numba at its first call.

    The compiled function releases the GIL and is cached on disk. A read-only installation without a home folder has no
    place for the cache; there each process compiles again.
    """
    from numba import njit  # slow to import; most commands need no compiled function

    try:
        return njit(function, cache=True, nogil=True)
    except RuntimeError:
        return njit(function, nogil=True)
