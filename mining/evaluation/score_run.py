"""Score a run directory against a truth file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mining.arrays import Floats, Ints
from mining.errors import ScoringError, did_you_mean
from mining.evaluation.boxes import Detections, TruthBoxes, overlaps
from mining.evaluation.ground_truth.box_formats import WrittenBoxes, check_box_format
from mining.evaluation.ground_truth.reading import Truth, is_outside, read_truth
from mining.evaluation.metrics.breakdown import breakdown_scores
from mining.evaluation.metrics.chart_data import chart_numbers
from mining.evaluation.metrics.coco import coco_numbers, matches_of
from mining.evaluation.metrics.coco_bootstrap import coco_intervals
from mining.evaluation.metrics.corloc import (
    IOU_THRESHOLD,
    Pairs,
    baseline_scores,
    corloc_scores,
    false_positives,
    pairs_of,
)
from mining.evaluation.metrics.localization import localization_scores
from mining.evaluation.metrics.thresholds import threshold_hits, threshold_scores
from mining.evaluation.metrics.voc import voc_scores
from mining.evaluation.run_reading import (
    RunBoxes,
    curve_blocks,
    curve_thresholds,
    matched_classes,
    matched_images,
    matched_names,
    mined_threshold,
    ranked_classes_of,
    read_run,
)
from mining.storage.files import write_json

SCORES = "scores.json"


@dataclass(frozen=True)
class _Match:
    """A truth cut down to what a run can be scored on, and the run's boxes in its terms.

    image_of, category_of: positions in the truth by the run's image ids and category ids.
    """

    truth: Truth
    predicted: Detections
    sizes: Floats
    image_of: dict[int, int]
    category_of: dict[int, int]
    notes: list[str]


def score_run(run_dir: Path, truth: Path, *, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Score a run's boxes against a COCO truth; gives what scores.json holds.

    Images are matched by file name, classes by name. Shares are in [0, 1]; None where nothing can be counted.
    seed, resamples: of the bootstrap behind the intervals.
    Raises ScoringError when the truth cannot be used or shares no image or class with the run, and RunError when
    the run directory lacks its tables.
    """
    whole, run = read_truth(truth), read_run(run_dir)
    match = _match(whole, run, run_dir)
    boxes, predicted = match.truth.boxes, match.predicted
    found = overlaps(boxes, predicted)
    scored = len(match.truth.file_names)
    corloc = corloc_scores(boxes, predicted, found, match.truth.classes, seed=seed, resamples=resamples)
    if not corloc["pairs"]:
        match.notes.append("The truth has no countable box on the scored images, so CorLoc is not defined.")
    classes = match.truth.classes
    pairs = pairs_of(boxes, predicted, found)
    matches = matches_of(boxes, predicted)
    coco = coco_numbers(boxes, matches, classes)
    ranked = ranked_classes_of(run_dir, match.image_of, match.category_of, scored)
    return {
        "corloc": corloc,
        "thresholds": _threshold_scores(run_dir, match, pairs, seed=seed, resamples=resamples),
        "localization": localization_scores(boxes, predicted, ranked, found=found, seed=seed, resamples=resamples),
        "baselines": baseline_scores(boxes, match.sizes),
        "coco": {**coco, **coco_intervals(boxes, matches, seed=seed, resamples=resamples)},
        "voc": voc_scores(boxes, predicted, classes, seed=seed, resamples=resamples),
        "breakdown": breakdown_scores(boxes, predicted, found, coco, classes, images=scored),
        "charts": chart_numbers(boxes, predicted, found, pairs, match.sizes),
        "false_positives_per_image": float(false_positives(found).sum() / scored),
        "boxes": len(predicted),
        "boxes_left_out": len(run.scores) - len(predicted),
        "images": _image_counts(len(whole.file_names), len(run.file_names), scored),
        "truth": {
            "file": whole.file,
            "sha256": whole.sha256,
            "boxes": len(boxes),
            "ignored": int(boxes.is_ignored.sum()),
        },
        "notes": match.notes,
    }


def _threshold_scores(
    run_dir: Path, match: _Match, pairs: Pairs, *, seed: int, resamples: int
) -> dict[str, Any] | None:
    grid = curve_thresholds(run_dir)
    if grid is None:
        match.notes.append("The run has no curves.parquet, so nothing can be said on other thresholds.")
        return None
    truth = match.truth
    verdicts = threshold_hits(truth.boxes, grid, curve_blocks(run_dir, match.image_of, match.category_of))
    mined = pairs.best_iou >= IOU_THRESHOLD
    return threshold_scores(
        verdicts, mined, truth.classes, mined_at=mined_threshold(run_dir), seed=seed, resamples=resamples
    )


def best_iou_of_pairs(run_dir: Path, truth: Path) -> list[tuple[str, str, float]]:
    """The pairs behind CorLoc: file name and class, as the truth has them, and the IoU of the best-scored box.

    Raises what `score_run` raises.
    """
    match = _match(read_truth(truth), read_run(run_dir), run_dir)
    files, classes = match.truth.file_names, match.truth.classes
    pairs = pairs_of(match.truth.boxes, match.predicted)
    rows = zip(pairs.image, pairs.category, pairs.best_iou, strict=True)
    return [(files[image], classes[category], float(iou)) for image, category, iou in rows]


def write_scores(run_dir: Path, scores: dict[str, Any]) -> Path:
    """Write scores.json into the run directory, whole or not at all; gives its path."""
    path = run_dir / SCORES
    write_json(path, scores)
    return path


def _image_counts(truth: int, corpus: int, scored: int) -> dict[str, Any]:
    return {
        "truth": truth,
        "corpus": corpus,
        "scored": scored,
        "share_of_truth": scored / truth,
        "share_of_corpus": scored / corpus,
    }


def _match(whole: Truth, run: RunBoxes, run_dir: Path) -> _Match:
    matched = matched_images(whole, run.file_names, run_dir)
    images = np.flatnonzero(matched.position >= 0)
    if not len(images):
        raise ScoringError(" ".join([_no_image_shared(whole, run, run_dir), *matched.notes]))
    classes, notes = _shared_classes(whole, run)
    corpus_row = matched.position[images]
    corpus_sizes = run.sizes[corpus_row]
    truth, size_notes = _sized(whole.subset(images, classes), corpus_sizes)
    sizes = truth.sizes
    predicted, box_notes = _predicted(truth, run, corpus_row)
    first = _image_notes(len(whole.file_names), len(run.file_names), len(images))
    image_of = {int(one): place for place, one in enumerate(run.image_ids[corpus_row])}
    model_classes = run.classes or {}
    places = matched_classes(tuple(model_classes.values()), truth.classes).tolist()
    category_of = {one: place for one, place in zip(model_classes, places, strict=True) if place >= 0}
    all_notes = [*first, *whole.notes, *matched.notes, *notes, *size_notes, *_ignored_note(truth.boxes), *box_notes]
    return _Match(truth, predicted, sizes, image_of, category_of, all_notes)


def _no_image_shared(whole: Truth, run: RunBoxes, run_dir: Path) -> str:
    theirs = f"the corpus names {run.file_names[0]!r}" if run.file_names else "the corpus is empty"
    return (
        f"No image of {whole.file} is in the corpus of {run_dir}: the truth names {whole.file_names[0]!r}, {theirs}. "
        "Give the truth of these images; file names must agree, or the path of one end in the other."
    )


def _shared_classes(whole: Truth, run: RunBoxes) -> tuple[Ints, list[str]]:
    """Positions of the truth's classes that the run can name, and a note on the others.

    Raises ScoringError when there are none.
    """
    names = run.box_classes if run.classes is None else tuple(run.classes.values())
    known = matched_classes(whole.classes, names) >= 0
    unknown = [whole.classes[i] for i in np.flatnonzero(~known)]
    if names and not known.any():
        raise ScoringError(
            f"No class of {whole.file} is a class of the run; rename the truth's categories as the run names them. "
            f"The truth has {unknown[0]!r}: {did_you_mean(unknown[0], names)}"
        )
    if run.classes is None:
        return np.arange(len(whole.classes)), ["The run has no model/model.json: every class of the truth is scored."]
    boxes = int((~known)[whole.boxes.category].sum())
    note = f"The truth's {_classes_told(unknown)} ({boxes} boxes) is unknown to the run's model; left out."
    return np.flatnonzero(known), [note, *_case_notes(unknown, names)] if unknown else []


def _predicted(truth: Truth, run: RunBoxes, corpus_row: Ints) -> tuple[Detections, list[str]]:
    """The run's boxes that can be scored, and a note for each kind of box that cannot."""
    image_of_row = np.full(len(run.file_names) + 1, -1, np.int64)
    image_of_row[corpus_row] = np.arange(len(corpus_row))
    image = image_of_row[matched_names(run.box_files, run.file_names)][run.box_file]
    category = matched_classes(run.box_classes, truth.classes)[run.box_class]
    is_box = np.isfinite(run.xywh).all(axis=1) & (run.xywh[:, 2:] > 0).all(axis=1) & np.isfinite(run.scores)
    no_image, no_class = image < 0, (image >= 0) & (category < 0)
    keep = ~no_image & ~no_class & is_box
    unknown = sorted({run.box_classes[i] for i in np.unique(run.box_class[no_class])})
    told = [
        (no_image, "are on images that are not in the truth"),
        (no_class, f"are of {_classes_told(unknown)} that the truth and the run do not share"),
        (~no_image & ~no_class & ~is_box, "have no area or no finite score"),
    ]
    notes = [
        f"{int(flags.sum())} of {len(keep)} predicted boxes {why}; left out." for flags, why in told if flags.any()
    ]
    return Detections(image[keep], category[keep], run.xywh[keep], run.scores[keep]), notes


def _image_notes(truth: int, corpus: int, scored: int) -> list[str]:
    notes = [f"{scored} of the truth's {truth} images ({scored / truth:.1%}) are in the run's corpus, and are scored."]
    if corpus > scored:
        notes.append(f"{corpus - scored} of the corpus' {corpus} images are not in the truth, and are not scored.")
    return notes


def _case_notes(unknown: list[str], names: Sequence[str]) -> list[str]:
    """A hint on classes that the run knows in other letter case."""
    known = {name.casefold(): name for name in names}
    alike = [f"{one!r} (the run has {known[one.casefold()]!r})" for one in unknown if one.casefold() in known]
    if not alike:
        return []
    return [f"Class names that differ in upper and lower case only: {', '.join(alike[:5])}; rename to score them."]


def _ignored_note(boxes: TruthBoxes) -> list[str]:
    number = int(boxes.is_ignored.sum())
    if not number:
        return []
    return [
        f"{number} of {len(boxes)} true boxes are marked difficult, ignore or crowd: neither to be found nor wrong to "
        "find."
    ]


def _sized(truth: Truth, decoded: Floats) -> tuple[Truth, list[str]]:
    """The truth with the sizes of the decoded images, (N, 2), without boxes that lie outside of these; and notes.

    Raises ScoringError where its boxes are not x, y, width, height in pixels.
    """
    sizes = np.where(np.isfinite(decoded), decoded, truth.sizes)
    boxes = truth.boxes
    of_boxes = sizes[boxes.image]
    check_box_format(truth.file, WrittenBoxes(boxes.xywh, of_boxes))
    outside = is_outside(boxes.xywh, of_boxes)
    notes = _size_notes(truth, decoded, sizes)
    if outside.any():
        first = truth.file_names[boxes.image[outside][0]]
        notes.append(
            f"{int(outside.sum())} of {len(boxes)} true boxes lie wholly outside of their decoded image, first in "
            f"{first!r}; left out."
        )
    return replace(truth, sizes=sizes, boxes=boxes.where(~outside)), notes


def _size_notes(truth: Truth, corpus_sizes: Floats, sizes: Floats) -> list[str]:
    notes = []
    is_turned = (truth.sizes[:, ::-1] == corpus_sizes).all(axis=1) & (truth.sizes[:, 0] != truth.sizes[:, 1])
    if is_turned.any():
        notes.append(
            f"{int(is_turned.sum())} images have width and height exchanged in the truth, first "
            f"{truth.file_names[np.flatnonzero(is_turned)[0]]!r}: the decoded images decide which boxes lie outside."
        )
    differs = np.flatnonzero((np.abs(truth.sizes - corpus_sizes) > 0.5).any(axis=1) & ~is_turned)
    if len(differs):
        i = differs[0]
        theirs, ours = ("{:g} x {:g}".format(*size[i]) for size in (truth.sizes, corpus_sizes))
        notes.append(
            f"{len(differs)} images have another size in the truth than in the corpus (e.g. {truth.file_names[i]!r}: "
            f"{theirs} against {ours} px); their boxes are compared as they stand, which cannot be right."
        )
    unknown = int((~np.isfinite(sizes)).any(axis=1).sum())
    if unknown:
        notes.append(f"{unknown} images have no size in truth or corpus; the baselines leave them out.")
    return notes


def _classes_told(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"class{'' if len(names) == 1 else 'es'} {shown}{more}"
