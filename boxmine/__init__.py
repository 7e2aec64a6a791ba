"""Generate COCO pseudo-labels for object detection from images that have image-level labels, or none.

Example:
    Train a localizer, mine boxes, look at them:

        import boxmine

        model = boxmine.train("photos", labels="labels.csv", out="models/mine")
        run = boxmine.mine("photos", model=model, out="runs/first")
        run.boxes          # pandas.DataFrame, one row per box
        run.report()       # an HTML page

Importing this package is quick: PyTorch and pandas are imported by the first function that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mining import __version__

if TYPE_CHECKING:
    from boxmine._finished import calibrate, compare, export, export_model, fuse, report, score
    from boxmine._functions import import_boxes, label, maps, mine, train
    from boxmine._localizer import Localizer, load_model
    from boxmine._results import Comparison, Scores, TrainedModel
    from boxmine._run import Run
    from mining.errors import (
        BoxmineError,
        CorpusError,
        DamagedFileError,
        DamagedPartError,
        ImageError,
        ImageReplacedError,
        InputError,
        MapError,
        ModelError,
        ProcessLostError,
        RunError,
        RunStoppedError,
        ScoringError,
        StorageError,
        StoreMissingError,
    )

__all__ = [
    "BoxmineError",
    "Comparison",
    "CorpusError",
    "DamagedFileError",
    "DamagedPartError",
    "ImageError",
    "ImageReplacedError",
    "InputError",
    "Localizer",
    "MapError",
    "ModelError",
    "ProcessLostError",
    "Run",
    "RunError",
    "RunStoppedError",
    "Scores",
    "ScoringError",
    "StorageError",
    "StoreMissingError",
    "TrainedModel",
    "__version__",
    "calibrate",
    "compare",
    "export",
    "export_model",
    "fuse",
    "import_boxes",
    "label",
    "load_model",
    "maps",
    "mine",
    "report",
    "score",
    "train",
]

_MODULES = {
    **dict.fromkeys(("import_boxes", "label", "maps", "mine", "train"), "boxmine._functions"),
    **dict.fromkeys(("calibrate", "compare", "export", "export_model", "fuse", "report", "score"), "boxmine._finished"),
    **dict.fromkeys(("Comparison", "Scores", "TrainedModel"), "boxmine._results"),
    **dict.fromkeys(("Localizer", "load_model"), "boxmine._localizer"),
    "Run": "boxmine._run",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'boxmine' has no attribute {name!r}")
    value = getattr(import_module(_MODULES.get(name, "mining.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
