"""The folder of what is kept between commands to save time, and may be deleted at any time."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder(name: str) -> Path:
    """Return a folder in BOXMINE_CACHE, or in boxmine's folder of the user's cache.

    Args:
        name: What is kept there.
    """
    chosen = os.environ.get("BOXMINE_CACHE")
    return (Path(chosen) if chosen else user_cache_path("boxmine", appauthor=False)) / name
