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
_BASELINES = (
    ("whole_image", "Baseline: whole image", "CorLoc of one box as large as the image"),
    ("centred_half_area", "Baseline: centred box", "CorLoc of a centred box of half the image's area"),
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
    parts = ((_CORLOC, "corloc"), (_BASELINES, "baselines"), (_COCO, "coco"))
    shares = {part: _shares(rows, scores[part]) for rows, part in parts}
    return [*head, *shares["corloc"], *middle, *shares["baselines"], *shares["coco"], *tail]


def _shares(rows: Sequence[tuple[str, str, str]], values: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(name, _percent(values[key]), meaning) for key, name, meaning in rows]


def _percent(share: float | None) -> str:
    return "not defined" if share is None else f"{100 * share:.1f} %"


def _interval(ci95: list[float] | None) -> str:
    return "" if ci95 is None else f" (95 %: {100 * ci95[0]:.1f} to {100 * ci95[1]:.1f})"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"
