"""How good the boxes are, where there is a truth to compare with.

    score_run(run_dir, truth)       everything scores.json holds
    write_scores(run_dir, scores)   writes it
    table_rows(scores)              the same in words

and on arrays: `TruthBoxes`, `Detections`, `corloc`, `coco_scores`; `read_truth` reads a COCO file. Other protocols,
each defined in the module of its name: `localization` (GT-known, Top-1, Top-5), `voc` (AP), `wsoleval` (MaxBoxAcc,
PxAP), `explanation` (MSRD's Loc(delta)), `mldfr` and `nlccam` (their released code), `breakdown` (by size and by
instances). `sweep` has the regions of a map at all thresholds at once.
"""

from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.ground_truth.reading import Truth, read_truth
from mining.evaluation.metrics.coco import coco_scores
from mining.evaluation.metrics.corloc import corloc
from mining.evaluation.score_run import score_run, write_scores
from mining.evaluation.score_table import table_rows

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
