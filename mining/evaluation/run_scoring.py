"""Score a run directory against a ground truth."""

from pathlib import Path
from typing import Literal

from mining.errors import ModelError
from mining.evaluation.boxes import compute_overlaps
from mining.evaluation.class_predictions import note_on_unranked, read_class_predictions
from mining.evaluation.metrics.breakdown import CocoEngine, breakdown_scores
from mining.evaluation.metrics.chart_data import chart_data
from mining.evaluation.metrics.coco import coco_scores, match_detections, summarize_matches
from mining.evaluation.metrics.coco_bootstrap import coco_intervals
from mining.evaluation.metrics.corloc import baseline_scores, corloc_scores, pair_results
from mining.evaluation.metrics.hits import IOU_THRESHOLD, PairResults
from mining.evaluation.metrics.instance_recall import is_false_positive
from mining.evaluation.metrics.localization import localization_scores
from mining.evaluation.metrics.precision import precision_by_min_score, precision_by_score, precision_scores
from mining.evaluation.metrics.thresholds import threshold_hits, threshold_scores
from mining.evaluation.metrics.voc import rank_matches, voc_scores
from mining.evaluation.run_matching import RunMatch, match_run
from mining.evaluation.run_reading import (
    RunBoxes,
    iter_curve_blocks,
    read_curve_thresholds,
    read_mined_threshold,
    read_ranked_classes,
    read_run_boxes,
    read_warnings,
)
from mining.evaluation.scores import CocoScores, ImageCounts, Scores, ThresholdScores
from mining.evaluation.taught_images import has_seen_coco, note_on_coco, taught_images
from mining.ground_truth.reading import read_ground_truth
from mining.runs.run import Run

Engine = Literal["boxmine", "pycocotools"]


def score_run(
    run_dir: Path,
    truth: Path,
    *,
    engine: Engine = "boxmine",
    classes_from: Path | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Scores:
    """Score the boxes of a run.

    Images are matched by file name, classes by name.

    Args:
        run_dir: Run directory.
        truth: Ground truth: COCO JSON, folder of VOC XML, or CUB folder.
        engine: What computes COCO's figures; both give the same numbers, pycocotools far more slowly.
        classes_from: Run directory or CSV with the ranked classes of another classifier, see `read_class_predictions`;
            None for the run's own.
        seed: Seed of the bootstrap and of the folds.
        resamples: Number of bootstrap resamples; 0 for no intervals.

    Returns:
        The content of scores.json. Shares are in [0, 1]; None where nothing can be counted.

    Raises:
        ScoringError: The ground truth cannot be used, or shares no image or class with the run.
        RunError: The run directory lacks its tables.
    """
    whole, run = read_ground_truth(truth), read_run_boxes(run_dir)
    match = match_run(whole, run, run_dir)
    match.notes.extend([*_note_on_taught_images(run_dir, run, match), *note_on_coco(has_seen_coco(Run(run_dir)))])
    boxes, predicted, classes = match.truth.boxes, match.predicted, match.truth.classes
    overlaps = compute_overlaps(boxes, predicted)
    images = len(match.truth.file_names)
    corloc = corloc_scores(boxes, predicted, overlaps, classes, images=images, seed=seed, resamples=resamples)
    if not corloc["pairs"]:
        match.notes.append("The truth has no countable box on the scored images, so CorLoc is not defined.")
    pairs = pair_results(boxes, predicted, overlaps)
    matches = rank_matches(boxes, predicted)
    coco, coco_engine = _coco_scores(match, engine, seed=seed, resamples=resamples)
    if classes_from is None:
        ranked = read_ranked_classes(run_dir, match.image_positions, match.class_positions, images)
        match.notes.extend(note_on_unranked(ranked))
    else:
        ranked, notes = read_class_predictions(classes_from, match.truth)
        match.notes.extend(notes)
    localization = localization_scores(boxes, predicted, ranked, overlaps=overlaps, seed=seed, resamples=resamples)
    localization["classes_from"] = None if classes_from is None else str(classes_from)
    return {
        "corloc": corloc,
        "precision": precision_scores(predicted, matches, classes, seed=seed, resamples=resamples),
        "precision_by_min_score": precision_by_min_score(boxes, predicted, matches),
        "precision_by_score": precision_by_score(predicted, matches),
        "thresholds": _threshold_scores(run_dir, match, pairs, seed=seed, resamples=resamples),
        "localization": localization,
        "baselines": baseline_scores(boxes, match.truth.sizes),
        "coco": coco,
        "voc": voc_scores(boxes, predicted, classes, seed=seed, resamples=resamples),
        "breakdown": breakdown_scores(boxes, predicted, overlaps, coco, classes, images=images, engine=coco_engine),
        "charts": chart_data(boxes, predicted, overlaps, pairs, matches, match.truth.sizes),
        "false_positives_per_image": float(is_false_positive(overlaps).sum() / images),
        "boxes": len(predicted),
        "boxes_left_out": len(run.scores) - len(predicted),
        "images": _image_counts(len(whole.file_names), len(run.file_names), images),
        "truth": {
            "file": whole.file,
            "path": str(truth.resolve()),
            "sha256": whole.sha256,
            "boxes": len(boxes),
            "ignored": int(boxes.is_ignored.sum()),
        },
        "notes": match.notes,
        "warnings": read_warnings(run_dir),
    }


def best_iou_of_pairs(run_dir: Path, truth: Path) -> list[tuple[str, str, float]]:
    """Return the pairs behind CorLoc.

    Args:
        run_dir: Run directory.
        truth: Ground truth, as for `score_run`.

    Returns:
        File name and class of each pair, as the ground truth names them, and the IoU of its best-scored box.

    Raises:
        ScoringError: As for `score_run`.
        RunError: As for `score_run`.
    """
    return best_iou_of_match(match_run(read_ground_truth(truth), read_run_boxes(run_dir), run_dir))


def best_iou_of_match(match: RunMatch) -> list[tuple[str, str, float]]:
    """Return the pairs behind CorLoc of a run that is matched with its ground truth, see `best_iou_of_pairs`."""
    files, classes = match.truth.file_names, match.truth.classes
    pairs = pair_results(match.truth.boxes, match.predicted)
    rows = zip(pairs.image, pairs.category, pairs.best_iou, strict=True)
    return [(files[image], classes[category], float(iou)) for image, category, iou in rows]


def _note_on_taught_images(run_dir: Path, run: RunBoxes, match: RunMatch) -> list[str]:
    """A sentence if the model learned from true boxes of scored images."""
    try:
        taught = taught_images(run_dir)
    except ModelError:  # boxes can be scored without their model's record
        return []
    images = zip(run.image_ids.tolist(), run.file_names, strict=True)
    number = sum(name in taught and image in match.image_positions for image, name in images)
    if not number:
        return []
    return [
        f"The model learned from true boxes of {number} of the {len(match.image_positions)} scored images: the figures "
        "are too good for other images. Score against ground truth of others."
    ]


def _coco_scores(match: RunMatch, engine: Engine, *, seed: int, resamples: int) -> tuple[CocoScores, CocoEngine]:
    """COCO's figures with their intervals, and the function that computed the figures."""
    boxes, predicted, classes = match.truth.boxes, match.predicted, match.truth.classes
    matches = match_detections(boxes, predicted)
    if engine == "pycocotools":
        from mining.evaluation.metrics.pycocotools_engine import engine_note, pycocotools_scores

        figures, function = pycocotools_scores(boxes, predicted, classes), pycocotools_scores
        match.notes.append(engine_note())
    else:
        figures, function = summarize_matches(boxes, matches, classes), coco_scores
    ap_ci95, ap50_ci95 = coco_intervals(boxes, matches, seed=seed, resamples=resamples)
    return {**figures, "AP_ci95": ap_ci95, "AP50_ci95": ap50_ci95}, function


def _threshold_scores(
    run_dir: Path, match: RunMatch, pairs: PairResults, *, seed: int, resamples: int
) -> ThresholdScores | None:
    grid = read_curve_thresholds(run_dir)
    if grid is None:
        match.notes.append("The run has no curves.parquet, so other thresholds cannot be scored.")
        return None
    blocks = iter_curve_blocks(run_dir, match.image_positions, match.class_positions)
    hits = threshold_hits(match.truth.boxes, grid, blocks)
    mined = pairs.best_iou >= IOU_THRESHOLD
    return threshold_scores(
        hits, mined, match.truth.classes, mined_at=read_mined_threshold(run_dir), seed=seed, resamples=resamples
    )


def _image_counts(truth: int, corpus: int, scored: int) -> ImageCounts:
    return {
        "truth": truth,
        "corpus": corpus,
        "scored": scored,
        "share_of_truth": scored / truth,
        "share_of_corpus": scored / corpus,
    }
