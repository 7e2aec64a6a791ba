"""Combine the boxes of a run with those of a detector that learned from them.

A detector that learned from the boxes of its own images repeats most of them, moved towards what such objects look like
on the other images, and finds some that were missed. Neither replaces the other:

    a box that a detected box of its class overlaps by at     becomes the mean of the two, with its own score
    least AGREEING_IOU
    a box that none overlaps as much, or that a person made   stays as it is
    a detected box that is confident for its kind and that    is added with ADDED_SCORE of its score, behind most boxes
    no box overlaps as much                                   that were there

Where both agree this is weighted boxes fusion (Solovyev et al., 2021) of two sources of equal weight.
The values were chosen on the training images of voc-mini and on 160 generated images, see docs/benchmarks.md.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Floats, Ints
from mining.boxes.iou import iou_matrix
from mining.engine.detector_miner import confident_score
from mining.errors import RunError
from mining.evaluation.taught_images import has_seen_coco, taught_hashes
from mining.fusion.box_tables import changed_states, rows_by_pair, with_boxes, xyxy_of
from mining.fusion.class_assignment import with_classes
from mining.models.card import OBJECT, SEEN_COCO
from mining.quality.applying import HUMAN
from mining.runs.changed_run import in_corpus_order, write_changed_run
from mining.runs.fused_record import FUSED
from mining.runs.model_warnings import warnings_of_models
from mining.runs.run import TAUGHT_IMAGES, Run
from mining.storage.folders import atomic_folder
from mining.storage.integrity import DIGESTS

AGREEING_IOU = 0.4
ADDED_SCORE = 0.3


@dataclass(frozen=True)
class FusedBoxes:
    """Boxes of a run and of a detector, combined.

    Attributes:
        annotations: Rows of the run's table, image by image, best score first; new rows have new ids.
        moved: Number of the run's boxes that agree with a detected one.
        added: Number of detected boxes that are new.
    """

    annotations: pa.Table
    moved: int
    added: int


def fuse_with_detector(before: Run, detected: Run, out: Path) -> Run:
    """Write the boxes of a run combined with a detector's as a new finished run, unless it exists.

    Boxes of a detector that knows the class `object` alone get classes by `mining.fusion.class_assignment`.

    Args:
        before: The finished run that the detector learned from; it is not changed.
        detected: The finished run of the same images, mined with the detector.
        out: The new run directory.

    Raises:
        RunError: `out` is another run, or a table is missing or damaged.
    """
    sources = {"before": before.record.get(DIGESTS), "detected": detected.record.get(DIGESTS)}
    if out.exists():
        run = Run.open(out, finished=True)
        if run.record.get(FUSED, {}).get("sources") != sources:
            raise RunError(f"{out} was made from other boxes; give another folder, or delete it.")
        return run
    image_ids = before.read_corpus(["image_id"])["image_id"]
    found = detected.read_annotations()
    if detected.card.class_names == [OBJECT] != before.card.class_names:
        found = with_classes(found, before, AGREEING_IOU)
    fused = fuse_with_detected(before.read_annotations(), found, image_ids)
    with atomic_folder(out) as temporary:
        write_changed_run(
            before, temporary, name=out.name, annotations=fused.annotations,
            states=changed_states(before, fused.annotations), labels={}, notes=[],
            description=f"boxes of {before.name}, combined with those of a detector",
            model_warnings=_model_warnings(before, detected),
            record={
                FUSED: {
                    "runs": [before.name, detected.name],
                    "sources": sources,
                    "moved": fused.moved,
                    "added": fused.added,
                },
                TAUGHT_IMAGES: sorted(taught_hashes(before) | taught_hashes(detected)),
                SEEN_COCO: has_seen_coco(before) or has_seen_coco(detected),
            },
        )  # fmt: skip
    return Run.open(out, finished=True)


def _model_warnings(before: Run, detected: Run) -> list[str]:
    """Warnings of both models; those that the detector's model names as its localizer's are named once."""
    of_detector = warnings_of_models(detected)
    own = [one for one in warnings_of_models(before) if not any(other.endswith(one) for other in of_detector)]
    return [*own, *of_detector]


def fuse_with_detected(before: pa.Table, detected: pa.Table, image_ids: pa.ChunkedArray) -> FusedBoxes:
    """Combine two tables of boxes of the same images, see the module.

    Args:
        before: Boxes of a run, rows of ANNOTATION_SCHEMA.
        detected: The detector's.
        image_ids: The images in the order of the result.
    """
    xyxy, other = xyxy_of(before), xyxy_of(detected)
    score = detected["score"].to_numpy().astype(np.float64)
    is_confident = score >= np.array([confident_score(kind) for kind in detected["localizer"].to_pylist()])
    moved = xyxy.copy()
    partner = np.full(len(xyxy), -1, np.int64)
    new: list[int] = []
    own, theirs = rows_by_pair(before), rows_by_pair(detected)
    is_mined = pc.not_equal(before["source"], HUMAN).to_numpy()
    for pair, rows in theirs.items():
        mine = own.get(pair, np.empty(0, np.int64))
        if len(mine):
            overlap = iou_matrix(xyxy[mine], other[rows])
            agreement = np.where(overlap >= AGREEING_IOU, overlap * score[rows], -1.0)
            best = agreement.argmax(axis=1)
            agrees = (agreement.max(axis=1) > 0) & is_mined[mine]
            partner[mine[agrees]] = rows[best[agrees]]
            moved[mine[agrees]] = (xyxy[mine[agrees]] + other[rows[best[agrees]]]) / 2
        new += _new_boxes(other, score, rows[is_confident[rows]], np.concatenate([xyxy[mine], moved[mine]]))
    agreeing = partner >= 0
    merged = np.append(detected["merged_from"].to_numpy(), 0)[partner]  # -1, no partner, reads the appended 0
    kept = with_boxes(before, moved, merged_from=before["merged_from"].to_numpy() + np.where(agreeing, merged, 0))
    table = pa.concat_tables([kept, _added(detected, new, before)])
    return FusedBoxes(in_corpus_order(table, image_ids), int(agreeing.sum()), len(new))


def _new_boxes(other: Floats, score: Floats, rows: Ints, present: Floats) -> list[int]:
    """Rows of confident detected boxes that overlap none of the (n, 4) present ones, and not each other."""
    new: list[int] = []
    for row in rows[np.argsort(-score[rows], kind="stable")]:
        there = np.concatenate([present, other[new]])
        if not len(there) or iou_matrix(other[row], there).max() < AGREEING_IOU:
            new.append(int(row))
    return new


def _added(detected: pa.Table, rows: list[int], before: pa.Table) -> pa.Table:
    """Detected boxes with a lower score and ids behind those of the run."""
    first = 1 + (pc.max(before["annotation_id"]).as_py() or 0)
    values = [
        {**row, "annotation_id": first + place, "score": ADDED_SCORE * row["score"]}
        for place, row in enumerate(detected.take(pa.array(rows, pa.int64())).to_pylist())
    ]
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in before.schema.names} for row in values], schema=before.schema
    )
