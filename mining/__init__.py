"""Weakly supervised object localization: from images with image-level labels to pseudo-annotations.

This is the library below the flows. It does not depend on Prefect: every module can be used from a notebook.
"""

__version__ = "0.1.0"
