"""How good the boxes are, where there is a truth to compare with.

    score_run(run_dir, truth)       everything scores.json holds
    write_scores(run_dir, scores)   writes it
    table_rows(scores)              the same in words

and on arrays: `TruthBoxes`, `Detections`, `corloc`, `coco_scores`; `read_truth` reads a COCO file.
"""

from mining.scoring.boxes import Detections, TruthBoxes
from mining.scoring.coco import coco_scores
from mining.scoring.corloc import corloc
from mining.scoring.score import score_run, write_scores
from mining.scoring.table import table_rows
from mining.scoring.truth import Truth, read_truth

__all__ = [
    "Detections",
    "Truth",
    "TruthBoxes",
    "coco_scores",
    "corloc",
    "read_truth",
    "score_run",
    "table_rows",
    "write_scores",
]
