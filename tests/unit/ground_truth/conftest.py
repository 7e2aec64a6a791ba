"""The small run directory and its ground truth that the tests of scores use."""

from tests.unit.evaluation.conftest import world

__all__ = ["world"]
