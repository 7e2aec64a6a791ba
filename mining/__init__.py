"""Boxes from photos that have class names at most: the library under the flows.

Nothing here knows of Prefect: every module can be used from a notebook.
"""

__version__ = "0.1.0"
