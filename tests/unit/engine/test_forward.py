"""The batch size of the forward pass."""

import pytest

from mining.engine.forward import BATCH_ON_GPU, batch_that_fits

MEGABYTE = 2**20


@pytest.mark.parametrize(
    ("needed", "free", "size"),
    [
        (MEGABYTE, 1000 * MEGABYTE, BATCH_ON_GPU),
        (MEGABYTE, 45 * MEGABYTE, 16),
        (MEGABYTE, MEGABYTE, 1),
        (0, 0, BATCH_ON_GPU),
    ],
)
def test_the_batch_size_fits_into_free_memory(needed: int, free: int, size: int) -> None:
    assert batch_that_fits(needed, free) == size
