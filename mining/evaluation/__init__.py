"""Score mined boxes against ground truth.

    score_run(run_dir, truth)        everything scores.json holds (types in `scores`)
    write_scores, read_scores        the writer and the checked reader of scores.json
    read_ground_truth(path)          COCO JSON, VOC XML or CUB, as arrays
    corloc, coco_scores              metrics of `TruthBoxes` and `Detections`

The other metrics are in the modules of their names in `metrics`; `protocols` holds MaxBoxAcc of activation
maps as their released code defines them. The names are imported on first use: the types of scores.json need no Numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mining.evaluation.boxes import Detections, TruthBoxes
    from mining.evaluation.metrics.coco import coco_scores
    from mining.evaluation.metrics.corloc import corloc
    from mining.evaluation.run_scoring import score_run
    from mining.evaluation.scores import Scores, read_scores, write_scores
    from mining.ground_truth.reading import GroundTruth, read_ground_truth

__all__ = [
    "Detections",
    "GroundTruth",
    "Scores",
    "TruthBoxes",
    "coco_scores",
    "corloc",
    "read_ground_truth",
    "read_scores",
    "score_run",
    "write_scores",
]

_MODULES = {
    "Detections": "mining.evaluation.boxes",
    "GroundTruth": "mining.ground_truth.reading",
    "Scores": "mining.evaluation.scores",
    "TruthBoxes": "mining.evaluation.boxes",
    "coco_scores": "mining.evaluation.metrics.coco",
    "corloc": "mining.evaluation.metrics.corloc",
    "read_ground_truth": "mining.ground_truth.reading",
    "read_scores": "mining.evaluation.scores",
    "score_run": "mining.evaluation.run_scoring",
    "write_scores": "mining.evaluation.scores",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
