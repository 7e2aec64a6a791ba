"""Activation maps of a run's boxes, computed with the run's own model when somebody asks for one."""

import threading
from typing import TYPE_CHECKING

from mining.errors import InputError
from mining.review.run_index import ImageInfo
from mining.runs.run import Run

if TYPE_CHECKING:
    from mining.reporting.thumbnails import Painter

_KEPT = 200  # maps


class Maps:
    """The maps of a run; the model is loaded with the first one, which takes seconds."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()  # one map at a time: a model is not made for several threads
        self._painter: Painter | None = None
        self._kept: dict[tuple[str, str], bytes] = {}

    def png(self, image: ImageInfo, category: str) -> bytes:
        """Return the map of an image for a class as a small PNG, transparent where it is low.

        Raises:
            InputError: The run has no model for the class, or the map is empty.
            ImageError: The image cannot be read, or is another one than was mined.
        """
        from mining.reporting.picture_layers import heat_png
        from mining.reporting.thumbnails import Painter

        key = image.file_name, category
        with self._lock:
            if key not in self._kept:
                if self._painter is None:
                    names = self._run.read_corpus(["file_name"])["file_name"].to_pylist()
                    self._painter = Painter(self._run, names)
                level = self._painter.map_of(*key)
                if level is None:
                    raise InputError(self._painter.no_maps or f"There is no map of {category!r} for this image.")
                self._kept[key] = heat_png(level)
                while len(self._kept) > _KEPT:
                    del self._kept[next(iter(self._kept))]
            return self._kept[key]
