"""How good the boxes are, where there is a truth to compare with.

    score_run(run_dir, truth)       everything scores.json holds
    write_scores(run_dir, scores)   writes it
    table_rows(scores)              the same in words

and on arrays: `TruthBoxes`, `Detections`, `corloc`, `coco_scores`; `read_truth` reads a COCO file. Other protocols,
each defined in the module of its name: `localization` (GT-known, Top-1, Top-5), `voc` (AP), `wsoleval` (MaxBoxAcc,
PxAP), `explanation` (MSRD's Loc(delta)), `mldfr` and `nlccam` (their released code), `breakdown` (by size and by
instances). `sweep` has the regions of a map at all thresholds at once.
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
