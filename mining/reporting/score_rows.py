"""Scores as rows of a table and as sentences: for the terminal, Prefect's artifacts and the report."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from mining.evaluation.scores import (
    Accuracy,
    CorLocScores,
    Interval,
    MapScores,
    ScoreCut,
    Scores,
    ThresholdScores,
    ThresholdWay,
    VocScores,
)

Row = tuple[str, str, str]
HEADINGS = ("figure", "value", "meaning")
CUT_HEADINGS = ("minimum score", "boxes kept", "precision", "recall")
GOOD_PRECISION = 0.7
_BASELINE_NAMES = {"whole_image": "whole image", "centred_half_area": "centred box"}

_CORLOC = (
    ("macro", "CorLoc, mean over classes", "every class has the same weight"),
    ("at_0.3", "CorLoc at IoU 0.3", "the box is roughly in place"),
    ("at_0.7", "CorLoc at IoU 0.7", "the box is tight"),
    ("any_box", "Any box", "pairs of which any predicted box, not only the best-scored, reaches IoU 0.5"),
)
_THRESHOLDS = (
    ("mined", "Threshold as mined", "CorLoc of the run's own boxes"),
    ("chosen", "Threshold chosen", "cross-validated: expected on new images like these{over}"),
    ("per_class", "Threshold per class", "cross-validated, shrunk toward the common one; scores.json lists them"),
    ("oracle", "Threshold oracle", "selected on these very pairs: an upper bound"),
    ("otsu", "Threshold by Otsu", "one per map, from its grey levels, without ground truth"),
    ("stability", "Threshold by stability", "one per map, where its box changes least, without ground truth"),
    ("entropy", "Threshold by entropy", "one per map, from its grey levels (Kapur), without ground truth"),
)
_BASELINES = (
    ("whole_image", "Baseline: whole image", "CorLoc of one box as large as the image"),
    ("centred_half_area", "Baseline: centred box", "CorLoc of a centred box of half the image's area"),
)
_LOCALIZATION = (
    ("gt_known_loc", "GT-known loc. error", "share of an image's classes whose box misses, mean over images (ILSVRC)"),
    ("top1_loc", "Top-1 loc. error", "the box misses, or the classifier does not rank the class first"),
    ("top5_loc", "Top-5 loc. error", "the box misses, or the class is not among the first five"),
    (
        "top5_loc_2_2_1",
        "2 + 2 + 1 loc. error",
        "two boxes of the first and the second class, one of the third (SPG*)",
    ),
    ("top1_cls", "Top-1 class. error", "the classifier does not rank the class first"),
    ("top5_cls", "Top-5 class. error", "the class is not among the first five"),
)
_VOC = (
    ("AP_11_point", "VOC AP, 11 points", "as PASCAL VOC 2007 computes it, at IoU 0.5, mean over classes"),
    ("AP_all_point", "VOC AP", "as PASCAL VOC computes it since 2010, at IoU 0.5, mean over classes"),
)
_VOC_AT_IOU = (
    ("AP_11_point", "VOC AP, 11 points, at {iou}", "the same at IoU {iou}"),
    ("AP_all_point", "VOC AP at {iou}", "the same at IoU {iou}"),
)
_COCO = (
    ("AP", "AP", "COCO average precision, mean over IoU 0.50 to 0.95"),
    ("AP50", "AP50", "COCO average precision at IoU 0.5"),
    ("AP75", "AP75", "COCO average precision at IoU 0.75"),
    ("AR100", "AR100", "COCO average recall with at most 100 boxes per image and class"),
)


def headline_rows(scores: Scores) -> list[Row]:
    """Return the five rows to read first: CorLoc, precision, recall, the best baseline, and what was scored."""
    corloc, images = scores["corloc"], scores["images"]
    precision = scores.get("precision")
    rows = [_corloc_row(scores)]
    if precision is not None:
        meaning = f"of {precision['boxes']:,} mined boxes, share on a true box of their class, each true box once"
        rows.append(("Precision", format_share(precision["value"]) + _interval(precision["ci95"]), meaning))
    rows.append(_recall_row(scores))
    baseline = best_baseline(scores)
    if baseline is not None and corloc["value"] is not None:
        name, share = baseline
        over = 100 * (corloc["value"] - share)
        rows.append(
            ("Over best baseline", f"{over:+.1f} points", f"CorLoc of a {name} in every pair: {_percent(share)}")
        )
    scored = f"on {images['scored']:,} images, of {images['truth']:,} in {scores['truth']['file']}"
    left_out = scores["boxes_left_out"]
    rows.append(
        ("Boxes scored", f"{scores['boxes']:,}", scored + (f"; {left_out:,} boxes left out" if left_out else ""))
    )
    return rows


def score_rows(scores: Scores) -> list[Row]:
    """Return all figures, the most important first."""
    corloc, precision = scores["corloc"], scores.get("precision")
    head = headline_rows(scores)
    counts = [
        ("Boxes per pair", _number(corloc["boxes_per_pair"]), "predicted boxes of a class in an image that shows it"),
        *_froc_rows(corloc),
        ("False positives", _number(scores["false_positives_per_image"]), "boxes per image on nothing of their class"),
    ]
    if precision is not None and precision["ignored"]:
        meaning = "boxes on difficult, ignore or crowd boxes, neither correct nor wrong"
        counts.append(("Boxes not counted", f"{precision['ignored']:,}", meaning))
    return [
        *head[:-1],
        *_share_rows(_CORLOC, corloc),
        *counts,
        *_threshold_rows(scores.get("thresholds")),
        *_error_rows(scores.get("localization")),
        *map_rows(scores.get("maps")),
        *_share_rows(_BASELINES, scores["baselines"]),
        *_voc_rows(scores.get("voc")),
        *_share_rows(_COCO, scores["coco"]),
        head[-1],
    ]


def cut_rows(scores: Scores) -> list[tuple[str, ...]]:
    """Return the rows under CUT_HEADINGS; none for scores of an earlier version."""
    return [
        (format_cut(cut["min_score"]), f"{cut['boxes']:,}", format_share(cut["precision"]), format_share(cut["recall"]))
        for cut in scores.get("precision_by_min_score", [])
    ]


def recommended_cut(scores: Scores) -> ScoreCut | None:
    """Return the minimum score with the highest F1, the harmonic mean of precision and recall.

    Returns:
        A row of `precision_by_min_score`, of equals the lowest; None where F1 is 0 or not defined at every cut.
    """
    best = max(scores.get("precision_by_min_score", []), key=_f1, default=None)
    return best if best is not None and _f1(best) > 0 else None


def verdict(scores: Scores) -> str:
    """Return one sentence on how far the boxes can be trusted."""
    corloc, precision, baseline = scores["corloc"], scores.get("precision"), best_baseline(scores)
    if corloc["value"] is None:
        return "Nothing can be said: the scored images have no countable true box."
    lowest = corloc["value"] if corloc["ci95"] is None else corloc["ci95"][0]
    if baseline is not None and lowest <= baseline[1]:
        return (
            f"No better than guessing: a {baseline[0]} in every pair has a CorLoc of {_percent(baseline[1])}. Check "
            "the labels and the model before using these boxes."
        )
    if precision is None or precision["value"] is None:
        return "Better than guessing."
    correct = f"{round(100 * precision['value'])} of 100 mined boxes are correct"
    if precision["value"] >= GOOD_PRECISION:
        return f"Good: clearly better than guessing, and {correct}."
    return (
        f"Better than guessing, but only {correct}: filter by score, or have boxes reviewed, before training on them."
    )


def best_baseline(scores: Scores) -> tuple[str, float] | None:
    """Return name and CorLoc of the better content-independent baseline; None where neither is defined."""
    shares = cast(Mapping[str, float | None], scores["baselines"])
    known = [(name, share) for key, name in _BASELINE_NAMES.items() if (share := shares[key]) is not None]
    return max(known, key=lambda one: one[1], default=None)


def comparison_rows(summary: dict[str, Any]) -> list[Row]:
    """Return the rows of what `compare_runs` found."""
    images, boxes, pairs, truth = (summary[name] for name in ("images", "boxes", "pairs", "truth"))
    rows = [
        (
            "Images of both runs",
            f"{images['both']:,}",
            f"{images['only_first']:,} in the first run only, {images['only_second']:,} in the second only",
        ),
        ("Boxes", f"{boxes['first']:,} / {boxes['second']:,}", "first run / second run"),
        ("Same box", f"{pairs['same']:,}", "(image, class) pairs whose best-scored boxes have IoU >= 0.95"),
        ("Moved", f"{pairs['moved']:,}", "pairs whose best-scored boxes have a lower IoU"),
        (
            "In one run only",
            f"{pairs['only_first']:,} / {pairs['only_second']:,}",
            "pairs with a box in the first run only / in the second only",
        ),
    ]
    if not truth or not truth["pairs"]:
        return rows
    for iou in ("0.5", "0.7"):
        corloc = truth[f"corloc_{iou}"]
        rows += [
            *_difference_rows(f"CorLoc at IoU {iou}", "first run / second run", corloc),
            (
                "Better, worse",
                f"{corloc['better']:,}, {corloc['worse']:,}",
                "pairs correct in the second run only, in the first only",
            ),
        ]
    meaning = "first run / second run: share of the objects found at one false box per image"
    return [*rows, *_difference_rows("Recall at 1 FP", meaning, truth["instance_recall_at_1_fp"])]


def _difference_rows(name: str, meaning: str, figure: dict[str, Any]) -> list[Row]:
    points = [100 * value for value in (figure["difference"], *figure["ci95"])]
    clear = "clear" if figure["is_clear"] else "not clear: the interval includes 0"
    return [
        (name, f"{format_share(figure['first'])} / {format_share(figure['second'])}", meaning),
        (
            "Difference",
            "{:+.1f} (95 %: {:+.1f} to {:+.1f})".format(*points),
            f"points, second minus first, paired over the same images; {clear}",
        ),
    ]


def format_share(share: float | None) -> str:
    """Format a share of 0-1 in percent."""
    return "not defined" if share is None else _percent(share)


def format_cut(min_score: float) -> str:
    """Format a minimum score with at least two decimals."""
    return max(f"{min_score:.2f}", f"{min_score:g}", key=len)


def _f1(cut: ScoreCut) -> float:
    precision, recall = cut["precision"] or 0.0, cut["recall"] or 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _corloc_row(scores: Scores) -> Row:
    corloc = scores["corloc"]
    meaning = f"of {corloc['pairs']:,} (image, class) pairs, share whose best-scored box hits a true box (IoU >= 0.5)"
    return "CorLoc", format_share(corloc["value"]) + _interval(corloc["ci95"]), meaning


def _recall_row(scores: Scores) -> Row:
    truth = scores["truth"]
    meaning = f"of {truth['boxes'] - truth['ignored']:,} true boxes, share that some mined box covers at IoU 0.5"
    return "Instance recall", _with_interval(scores["corloc"], "instance_recall"), meaning


def _froc_rows(corloc: CorLocScores) -> list[Row]:
    if "instance_recall_at_1_fp" not in corloc:
        return []
    meaning = (
        "of the true boxes, share that the boxes of highest score cover, with at most one false positive per image"
    )
    return [("Recall at 1 FP", _with_interval(corloc, "instance_recall_at_1_fp"), meaning)]


def _threshold_rows(thresholds: ThresholdScores | None) -> list[Row]:
    if thresholds is None:
        return []
    ways = cast(Mapping[str, ThresholdWay], thresholds)
    return [
        (name, _at_threshold(ways[key]), meaning.format(over=_over_mined(ways[key])))
        for key, name, meaning in _THRESHOLDS
    ]


def _over_mined(way: ThresholdWay) -> str:
    if "over_mined" not in way or way["over_mined"]["value"] is None:
        return ""
    ci95 = way["over_mined"]["ci95"]
    interval = "" if ci95 is None else f" (95 %: {100 * ci95[0]:+.1f} to {100 * ci95[1]:+.1f})"
    return f"; {100 * way['over_mined']['value']:+.1f} points{interval} over the mined boxes"


def _at_threshold(way: ThresholdWay) -> str:
    threshold = way.get("threshold")
    at = "" if threshold is None else f" at {threshold:g}"
    return format_share(way["corloc"]) + at + _interval(way["ci95"])


def _error_rows(localization: Any) -> list[Row]:
    if localization is None:
        return []
    figures: list[tuple[Accuracy, str, str]] = [
        (localization[key], name, meaning) for key, name, meaning in _LOCALIZATION if localization.get(key)
    ]
    return [(name, format_share(one["error"]) + _interval(one.get("ci95")), meaning) for one, name, meaning in figures]


def _voc_rows(voc: VocScores | None) -> list[Row]:
    lower = cast(Mapping[str, Mapping[str, float | None]], {} if voc is None else voc.get("at_iou", {}))
    return [
        *_share_rows(_VOC, voc),
        *(
            (name.format(iou=iou), format_share(values[key]), meaning.format(iou=iou))
            for iou, values in lower.items()
            for key, name, meaning in _VOC_AT_IOU
        ),
    ]


def map_rows(maps: MapScores | None) -> list[Row]:
    """Return the figures of the maps; none where they were not drawn again."""
    if maps is None:
        return []
    best = "at its best threshold in hindsight"
    rows = [
        ("MaxBoxAcc", format_share(maps["MaxBoxAcc"]), f"largest contour, IoU 0.5, {best}"),
        ("MaxBoxAccV2", format_share(maps["MaxBoxAccV2"]), f"any contour, mean over IoU 0.3, 0.5, 0.7, each {best}"),
    ]
    if "loc" in maps:
        meaning = "pixels above delta inside the boxes of a class, over those outside plus the boxes' area (MSRD)"
        rows.append((f"Loc({maps['loc']['delta']:g})", format_share(maps["loc"]["value"]), meaning))
    return rows


def _share_rows(rows: Sequence[Row], values: Any) -> list[Row]:
    if values is None:  # scores.json of an earlier version
        return []
    return [(name, _with_interval(values, key), meaning) for key, name, meaning in rows]


def _with_interval(values: Any, key: str) -> str:
    return format_share(values[key]) + _interval(values.get(f"{key}_ci95"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(ci95: Interval | None) -> str:
    return "" if ci95 is None else f" (95 %: {100 * ci95[0]:.1f} to {100 * ci95[1]:.1f})"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"
