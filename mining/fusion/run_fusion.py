"""Combine the boxes of several runs of the same images, none of which learned from another.

Localizers with different backbones err in different places. Where several find the same box, it is more often right;
what only one of them finds is an object that the others missed, or an error. Both show in the score.

    boxes of one class in one image, from different     become one box: their mean, weighted by their scores; its score
    runs, that overlap by at least SAME_IOU             is the sum of theirs over the number of runs
    a box that no other run has                         is kept, with its score over the number of runs
    a box that a person made                            stays as it is, and takes in those that overlap it

The score of a box that all runs found is the mean of theirs, that of a box of one among three a third of its own. So
the best box of an image and class is mostly one that several runs agree on.

Reference:
    Solovyev, Wang, Gabruseva: Weighted boxes fusion: Ensembling boxes from different object detection models, Image and
    Vision Computing 107, 2021. There, too, a score is rescaled by the share of models that found the box.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import iou_matrix
from mining.corpus.image_root import check_output_outside_images
from mining.corpus.schema import QUARANTINED
from mining.errors import RunError, did_you_mean
from mining.evaluation.taught_images import has_seen_coco, taught_hashes
from mining.fusion.box_tables import changed_states, rows_by_pair, with_boxes, with_columns, xyxy_of
from mining.models.card import SEEN_COCO
from mining.quality.applying import HUMAN
from mining.runs.changed_run import in_corpus_order, write_changed_run
from mining.runs.fused_record import FUSED
from mining.runs.model_warnings import warnings_of_models
from mining.runs.run import TAUGHT_IMAGES, Run
from mining.runs.schema import ANNOTATION_SCHEMA
from mining.storage.folders import atomic_folder, refuse_occupied_folder
from mining.storage.integrity import DIGESTS

SAME_IOU = 0.5
_LEAST_WEIGHT = 1e-6  # of a box with score 0 in a mean


@dataclass(frozen=True)
class FusedRuns:
    """A run made of several.

    Attributes:
        run: The new run directory.
        boxes: Number of its boxes.
        found_by: Number of its boxes by how many of the runs found them: (1 run, 2 runs, ...).
        notes: Sentences on what was left out.
    """

    run: Path
    boxes: int
    found_by: tuple[int, ...]
    notes: list[str] = field(default_factory=list)


def fuse_runs(paths: Sequence[Path], out: Path, min_runs: int = 1) -> FusedRuns:
    """Write the boxes of several runs of the same images, combined, as a new finished run, unless it exists.

    The new run has the model, curves and rankings of the first one.

    Args:
        paths: Two or more finished runs; they are not changed.
        out: The new run directory.
        min_runs: Fewest runs that a box must have been found by; boxes that a person made are always kept.

    Returns:
        What was written, or what `out` holds already of the same boxes.

    Raises:
        RunError: A run is not finished or damaged, the runs have different images or classes, or `out` is another run.
        InputError: `out` holds other things, or is in the image folder.
    """
    runs = [Run.open(path, finished=True) for path in paths]
    sources = [run.record.get(DIGESTS) for run in runs]
    if (out / "run.json").is_file():
        done = Run.open(out, finished=True).record
        fused = done.get(FUSED, {})
        if not {"sources", "min_runs", "found_by", "notes"} <= fused.keys():
            raise RunError(f"{out} is another run, whose boxes were not combined by this command; give a new folder.")
        if (fused["sources"], fused["min_runs"]) != (sources, min_runs):
            raise RunError(f"{out} was made from other boxes, or another way; give another folder, or delete it.")
        return FusedRuns(out, done["counts"]["boxes"], tuple(fused["found_by"]), fused["notes"])
    refuse_occupied_folder(out)
    for run in runs:
        check_output_outside_images(out, run.image_root)
    tables, notes = _tables_of(runs)
    corpus = runs[0].read_corpus(["image_id"])
    table, found_by = fuse_tables(tables, corpus["image_id"])
    is_kept = (found_by >= min_runs) | pc.equal(table["source"], HUMAN).to_numpy()
    if not is_kept.all():
        notes.append(f"{int((~is_kept).sum())} boxes that fewer than {min_runs} runs found are left out.")
        table, found_by = table.filter(pa.array(is_kept)), found_by[is_kept]
    counts = tuple(np.bincount(found_by, minlength=len(runs) + 1)[1:].tolist())
    names = [run.name for run in runs]
    record: dict[str, Any] = {
        "runs": names, "sources": sources, "min_runs": min_runs, "found_by": list(counts), "notes": notes,
    }  # fmt: skip
    with atomic_folder(out) as temporary:
        write_changed_run(
            runs[0], temporary, name=out.name, annotations=table, states=changed_states(runs[0], table), labels={},
            notes=notes, description=f"combined boxes of the runs {', '.join(names)}",
            model_warnings=[sentence for run in runs for sentence in warnings_of_models(run)],
            record={
                FUSED: record, TAUGHT_IMAGES: sorted(frozenset().union(*(taught_hashes(run) for run in runs))),
                SEEN_COCO: any(map(has_seen_coco, runs)),
            },
        )  # fmt: skip
    return FusedRuns(out, len(table), counts, notes)


def fuse_tables(tables: Sequence[pa.Table], image_ids: pa.ChunkedArray) -> tuple[pa.Table, Ints]:
    """Combine the boxes of several runs, see the module.

    Args:
        tables: Boxes of each run, rows of ANNOTATION_SCHEMA, with the same image and category ids.
        image_ids: The images in the order of the result.

    Returns:
        The n combined boxes, image by image, best score first, numbered from 1; and (n,) by how many runs each was
        found. Other columns than those of the box, its score and `merged_from` are of its best-scored member.
    """
    every = pa.concat_tables(
        [table.select(ANNOTATION_SCHEMA.names).cast(ANNOTATION_SCHEMA) for table in tables]
    ).combine_chunks()
    run = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    xyxy, score = xyxy_of(every), every["score"].to_numpy().astype(np.float64)
    is_human = pc.equal(every["source"], HUMAN).to_numpy()
    merged_from = every["merged_from"].to_numpy()
    clusters: list[list[int]] = []
    boxes = [np.zeros((0, 4))]
    for rows in rows_by_pair(every).values():
        found, means = _group(rows, xyxy, score, run, is_human)
        clusters += found
        boxes.append(means)
    first = np.array([cluster[0] for cluster in clusters], np.int64)
    found_by = np.array([len(set(run[cluster].tolist())) for cluster in clusters], np.int64)
    sums = np.array([score[cluster].sum() / len(tables) for cluster in clusters])
    columns = {
        "score": np.where(is_human[first], score[first], sums),
        "merged_from": np.array([merged_from[cluster].sum() for cluster in clusters], np.int64),
        "annotation_id": np.arange(len(clusters)),  # the number of the cluster, to find its place after sorting
    }
    table = in_corpus_order(with_boxes(every.take(pa.array(first)), np.concatenate(boxes), **columns), image_ids)
    order = table["annotation_id"].to_numpy()
    numbers = pa.array(np.arange(1, len(table) + 1), ANNOTATION_SCHEMA.field("annotation_id").type)
    return table.set_column(0, ANNOTATION_SCHEMA.field("annotation_id"), numbers), found_by[order]


def _group(rows: Ints, xyxy: Floats, score: Floats, run: Ints, is_human: Bools) -> tuple[list[list[int]], Floats]:
    """Group the boxes of one class in one image: each group has at most one box of a run.

    Boxes join, best score first, the group whose mean they overlap most, by at least SAME_IOU. Those that people made
    come before all others.

    Returns:
        The rows of each of k groups, and (k, 4) its box in px.
    """
    clusters: list[list[int]] = []
    means = np.zeros((0, 4))
    for row in rows[np.lexsort((rows, -score[rows], ~is_human[rows]))].tolist():
        overlap = iou_matrix(xyxy[row : row + 1], means)[0] if clusters else np.zeros(0)
        for place, cluster in enumerate(clusters):
            if run[row] in run[cluster]:
                overlap[place] = 0.0
        if len(overlap) and overlap.max() >= SAME_IOU:
            place = int(overlap.argmax())
            clusters[place].append(row)
            means[place] = _mean_box(xyxy, score, clusters[place], is_human)
        else:
            clusters.append([row])
            means = np.concatenate([means, xyxy[row : row + 1]])
    return clusters, means


def _mean_box(xyxy: Floats, score: Floats, cluster: list[int], is_human: Bools) -> Floats:
    """The score-weighted mean of a group, (4,); the first box if a person made it."""
    if is_human[cluster[0]]:
        return np.asarray(xyxy[cluster[0]])
    return np.asarray(np.average(xyxy[cluster], axis=0, weights=np.maximum(score[cluster], _LEAST_WEIGHT)))


# --- runs of the same images ------------------------------------------------------------------------------------------


def _tables_of(runs: Sequence[Run]) -> tuple[list[pa.Table], list[str]]:
    """The boxes of each run with the image and category ids of the first one, and notes on boxes that were left out.

    Raises:
        RunError: The runs have different images or classes.
    """
    first = runs[0].read_corpus(["image_id", "file_name", "content_hash", "state"])
    names = first["file_name"].to_pylist()
    ids = dict(zip(names, first["image_id"].to_pylist(), strict=True))
    hashes = dict(zip(names, first["content_hash"].to_pylist(), strict=True))
    unusable = first.filter(pc.equal(first["state"], QUARANTINED))["image_id"]
    tables, notes = [], []
    for run in runs:
        corpus = run.read_corpus(["image_id", "file_name", "content_hash"])
        others = dict(zip(corpus["file_name"].to_pylist(), corpus["content_hash"].to_pylist(), strict=True))
        _check_same_images(runs[0], run, hashes, others)
        own = {number: ids[name] for number, name in zip(corpus["image_id"].to_pylist(), others, strict=True)}
        classes = _class_ids(runs[0], run)
        table = run.read_annotations()
        table = with_columns(
            table, image_id=[own[number] for number in table["image_id"].to_pylist()],
            category_id=[classes[number] for number in table["category_id"].to_pylist()],
        )  # fmt: skip
        is_usable = pc.invert(pc.is_in(table["image_id"], value_set=unusable.combine_chunks()))
        if left_out := len(table) - (pc.sum(is_usable).as_py() or 0):
            notes.append(f"{left_out} boxes of {run.path} are on images that {runs[0].path} could not use; left out.")
        tables.append(table.filter(is_usable))
    return tables, notes


def _check_same_images(first: Run, run: Run, hashes: dict[str, str | None], others: dict[str, str | None]) -> None:
    """Raise RunError unless two runs have the same images with the same content."""
    missing, further = sorted(set(hashes) - set(others)), sorted(set(others) - set(hashes))
    if missing or further:
        name, (has, lacks) = (missing or further)[0], (first, run) if missing else (run, first)
        raise RunError(
            f"The runs have different images: {name} is in {has.path}, but not in {lacks.path}. Combine runs of the "
            "same images, mined with the same `--images` and `--labels`."
        )
    for name, content in others.items():
        if None not in (content, hashes[name]) and content != hashes[name]:
            raise RunError(
                f"{name} has changed between {first.path} and {run.path}, so that boxes of one may not be on the "
                "other; mine again what is older."
            )


def _class_ids(first: Run, run: Run) -> dict[int, int]:
    """The category ids of a run to those of the first one, by name. Raises RunError for a class that is not there."""
    known = {name: number for number, name in first.classes}
    found = {}
    for number, name in run.classes:
        if name not in known:
            raise RunError(
                f"{run.path} has a class {name!r} that {first.path} does not have; combine runs of the same classes. "
                f"{did_you_mean(name, list(known))}".rstrip()
            )
        found[number] = known[name]
    return found
