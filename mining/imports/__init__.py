"""Boxes that another tool made, as a finished run: everything that reads runs serves them too."""

from mining.imports.job import import_boxes

__all__ = ["import_boxes"]
