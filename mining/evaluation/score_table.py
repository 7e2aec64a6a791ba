"""Scores in words, for a terminal."""

from collections.abc import Sequence
from typing import Any

_CORLOC = (
    ("macro", "CorLoc, mean over classes", "every class weighs the same"),
    ("at_0.3", "CorLoc at IoU 0.3", "the box is roughly there"),
    ("at_0.7", "CorLoc at IoU 0.7", "the box is tight"),
    ("any_box", "Any box", "pairs for which any predicted box, not only the best-scored, reaches IoU 0.5"),
    ("instance_recall", "Instance recall", "true boxes that some predicted box covers at IoU 0.5"),
)
_THRESHOLDS = (
    ("mined", "Threshold as mined", "CorLoc of the run's own boxes"),
    ("chosen", "Threshold chosen", "cross-validated: what to expect of it on new images like these{over}"),
    ("per_class", "Threshold a class", "cross-validated too, shrunk toward the common one; scores.json has them"),
    ("oracle", "Threshold oracle", "best on these very pairs: it has seen the answers, and is an upper bound"),
    ("otsu", "Threshold of Otsu", "one a map, told by its grey levels without any truth"),
    ("stability", "Threshold stability", "one a map, where its box changes least, without any truth"),
    ("entropy", "Threshold entropy", "one a map, told by its grey levels (Kapur), without any truth"),
)
_BASELINES = (
    ("whole_image", "Baseline: whole image", "CorLoc of one box as large as the image"),
    ("centred_half_area", "Baseline: centred box", "CorLoc of a centred box of half the image's area"),
)
_LOCALIZATION = (
    ("gt_known_loc", "GT-known loc. error", "of an image's classes those whose box misses; mean over images (ILSVRC)"),
    ("top1_loc", "Top-1 loc. error", "those whose box misses, or that the classifier does not rank first"),
    ("top5_loc", "Top-5 loc. error", "those whose box misses, or that it does not rank among the first five"),
    ("top1_cls", "Top-1 class. error", "those that it does not rank first"),
    ("top5_cls", "Top-5 class. error", "those that it does not rank among the first five"),
)
_VOC = (
    ("AP_11_point", "VOC AP, 11 points", "as PASCAL VOC 2007 counted, at IoU 0.5, mean over classes"),
    ("AP_all_point", "VOC AP", "as PASCAL VOC counts since 2010, at IoU 0.5, mean over classes"),
)
_COCO = (
    ("AP", "AP", "COCO average precision, mean over IoU 0.50 to 0.95"),
    ("AP50", "AP50", "COCO average precision at IoU 0.5"),
    ("AP75", "AP75", "COCO average precision at IoU 0.75"),
    ("AR100", "AR100", "COCO average recall with at most 100 boxes an image and class"),
)


def table_rows(scores: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (name, value, meaning) of a terminal table, the most telling first."""
    corloc, images = scores["corloc"], scores["images"]
    meaning = f"of {corloc['pairs']:,} (image, class) pairs, those whose best-scored box has IoU >= 0.5 with a true box"
    head = [("CorLoc", _percent(corloc["value"]) + _interval(corloc["ci95"]), meaning)]
    middle = [
        ("Boxes per pair", _number(corloc["boxes_per_pair"]), "predicted boxes of a class in an image that shows it"),
        ("False positives", _number(scores["false_positives_per_image"]), "an image: boxes on nothing of their class"),
    ]
    tail = [
        ("Boxes", f"{scores['boxes']:,}", f"predicted and scored; {scores['boxes_left_out']:,} left out"),
        ("Images", f"{images['scored']:,}", f"scored, of {images['truth']:,} in the truth {scores['truth']['file']}"),
    ]
    parts = ((_CORLOC, "corloc"), (_BASELINES, "baselines"), (_VOC, "voc"), (_COCO, "coco"))
    # scores.json of an earlier version lacks some parts
    shares = {part: _shares(rows, scores[part]) if part in scores else [] for rows, part in parts}
    return [
        *head,
        *shares["corloc"],
        *middle,
        *_threshold_rows(scores.get("thresholds")),
        *_error_rows(scores.get("localization")),
        *_map_rows(scores.get("maps")),
        *shares["baselines"],
        *shares["voc"],
        *shares["coco"],
        *tail,
    ]


def comparison_rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows (name, value, meaning) of what `compare_runs` found."""
    images, boxes, pairs, truth = (summary[name] for name in ("images", "boxes", "pairs", "truth"))
    rows = [
        (
            "Images of both runs",
            f"{images['both']:,}",
            f"{images['only_first']:,} of the first alone, {images['only_second']:,} of the second alone",
        ),
        ("Boxes", f"{boxes['first']:,} / {boxes['second']:,}", "in the first run, in the second"),
        ("Same box", f"{pairs['same']:,}", "pairs of image and class whose best-scored boxes have IoU >= 0.95"),
        ("Moved", f"{pairs['moved']:,}", "pairs whose best-scored boxes have less"),
        (
            "In one run alone",
            f"{pairs['only_first']:,} / {pairs['only_second']:,}",
            "pairs with a box in the first, in the second",
        ),
    ]
    if not truth or not truth["pairs"]:
        return rows
    for iou in ("0.5", "0.7"):
        found = truth[f"corloc_{iou}"]
        clear = "clear" if found["is_clear"] else "not clear: the interval holds 0"
        rows += [
            (
                f"CorLoc at IoU {iou}",
                f"{_percent(found['first'])} / {_percent(found['second'])}",
                "of the first run, of the second",
            ),
            (
                "Difference",
                "{:+.1f} (95 %: {:+.1f} to {:+.1f})".format(
                    *(100 * one for one in (found["difference"], *found["ci95"]))
                ),
                f"points, paired over the same images; {clear}",
            ),
            (
                "Better, worse",
                f"{found['better']:,}, {found['worse']:,}",
                "pairs right in the second alone, in the first alone",
            ),
        ]
    return rows


def _threshold_rows(thresholds: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if thresholds is None:
        return []
    return [
        (name, _at_threshold(thresholds[key]), meaning.format(over=_over_mined(thresholds[key])))
        for key, name, meaning in _THRESHOLDS
    ]


def _over_mined(way: dict[str, Any]) -> str:
    if "over_mined" not in way:
        return ""
    over, ci95 = way["over_mined"]["value"], way["over_mined"]["ci95"]
    interval = "" if ci95 is None else f" (95 %: {100 * ci95[0]:+.1f} to {100 * ci95[1]:+.1f})"
    return f"; {100 * over:+.1f} points{interval} over as mined"


def _at_threshold(way: dict[str, Any]) -> str:
    at = f" at {way['threshold']:g}" if way.get("threshold") is not None else ""
    return _percent(way["corloc"]) + at + _interval(way["ci95"])


def _error_rows(localization: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if localization is None:
        return []
    told = [(localization[key], name, meaning) for key, name, meaning in _LOCALIZATION if localization[key]]
    return [(name, _percent(one["error"]) + _interval(one["ci95"]), meaning) for one, name, meaning in told]


def _map_rows(maps: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if maps is None:
        return []
    return [
        ("MaxBoxAcc", _percent(maps["MaxBoxAcc"]), "largest contour at its best threshold, which has seen the answers"),
        (
            "MaxBoxAccV2",
            _percent(maps["MaxBoxAccV2"]),
            "any contour, mean over IoU 0.3, 0.5, 0.7, each at its own best",
        ),
    ]


def _shares(rows: Sequence[tuple[str, str, str]], values: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (name, _percent(values[key]) + _interval(values.get(f"{key}_ci95")), meaning) for key, name, meaning in rows
    ]


def _percent(share: float | None) -> str:
    return "not defined" if share is None else f"{100 * share:.1f} %"


def _interval(ci95: list[float] | None) -> str:
    return "" if ci95 is None else f" (95 %: {100 * ci95[0]:.1f} to {100 * ci95[1]:.1f})"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"
