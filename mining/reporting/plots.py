"""Charts of a scored run: CorLoc by threshold, how tight the boxes are, which objects are found, precision and recall.

They are drawn from scores.json alone, each as SVG (for the page and for papers) and as PNG.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mining.evaluation.scores import Scores, ThresholdWay
from mining.storage.files import atomic_write

FORMATS = ("svg", "png")
_INK, _ACCENT, _PALE, _WARM = "#3c3c3a", "#1f6fb2", "#a9c9e6", "#c2571a"


def draw_plots(scores: Scores, folder: Path) -> dict[str, str]:
    """Draw the charts of a run's scores.

    Args:
        scores: Content of scores.json.
        folder: Where the SVG and PNG files go.

    Returns:
        Caption of each chart that was drawn, by the name of its files.

    Raises:
        StorageError: The disk is full or read-only.
    """
    captions: dict[str, str] = {}
    if "charts" not in scores:  # of an earlier version
        return captions
    for name, draw in (
        ("threshold", _threshold),
        ("iou", _iou),
        ("size", _size),
        ("precision", _precision),
    ):
        figure, axes = _new_figure()
        caption = draw(axes, scores)
        if caption is None:
            continue
        captions[name] = caption
        for kind in FORMATS:
            with atomic_write(folder / f"{name}.{kind}") as temporary:
                # without a date, so that the same scores give the same file
                figure.savefig(temporary, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return captions


def _new_figure() -> tuple[Any, Any]:
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "boxmine"
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _threshold(axes: Any, scores: Scores) -> str | None:
    thresholds = scores.get("thresholds")
    if thresholds is None:
        return None
    curve = thresholds["curve"]
    for key, colour, label in (
        ("at_0.3", _PALE, "IoU 0.3"), ("corloc", _ACCENT, "IoU 0.5"), ("at_0.7", _INK, "IoU 0.7"),
    ):  # fmt: skip
        axes.plot(curve["threshold"], _percent(curve[key]), color=colour, label=label)
    _point(axes, thresholds["chosen"], "o", _WARM, "chosen")
    _point(axes, thresholds["mined"], "s", _INK, "as mined")
    _label(axes, "threshold, as a share of the normalised map's range", "CorLoc, %")
    axes.legend(fontsize="small")
    return (
        "CorLoc by threshold. The chosen threshold is shown at the CorLoc to expect on new images (cross-validated), "
        "so it may lie below its curve."
    )


def _point(axes: Any, way: ThresholdWay, marker: str, colour: str, label: str) -> None:
    threshold, corloc = way.get("threshold"), way["corloc"]
    if threshold is None or corloc is None:
        return
    low, high = (100 * end for end in way["ci95"] or (corloc, corloc))
    axes.errorbar(
        [threshold], [100 * corloc], [[100 * corloc - low], [high - 100 * corloc]],
        marker=marker, color=colour, label=f"{label}, {threshold:g}", capsize=3, linestyle="none", zorder=3,
    )  # fmt: skip


def _iou(axes: Any, scores: Scores) -> str | None:
    iou = scores["charts"]["iou"]
    pairs = np.array(iou["pairs"])
    if not pairs.sum():
        return None
    left = np.arange(len(pairs)) * iou["step"]
    colours = [_ACCENT if end > 0.5 + 1e-9 else _PALE for end in left + iou["step"]]
    axes.bar(left, pairs, iou["step"], align="edge", color=colours, edgecolor="white", linewidth=0.6)
    _label(axes, "IoU of the best-scored box with a true box", "(image, class) pairs")
    return "How tight the boxes are: pairs by the IoU of their best-scored box. Dark bars are correct at IoU 0.5."


def _size(axes: Any, scores: Scores) -> str | None:
    size = scores["charts"]["size"]
    objects = np.array(size["objects"])
    if not objects.sum():
        return None
    middle = (np.arange(len(objects)) + 0.5) * size["step"]
    found = np.array([np.nan if share is None else 100 * share for share in size["found"]])
    axes.plot(middle, found, marker="o", color=_ACCENT, zorder=3)
    axes.set_ylim(0, 100)
    other = axes.twinx()
    other.bar(middle, objects, size["step"] * 0.9, color=_PALE, alpha=0.6)
    other.set_ylabel("true boxes (bars)")
    other.spines[["top"]].set_visible(False)
    axes.set_zorder(other.get_zorder() + 1)
    axes.patch.set_visible(False)
    _label(axes, "size: square root of the share of the image's area", "found at IoU 0.5, %")
    return "Which objects are found: the share of true boxes that a mined box covers, by size. Bars count true boxes."


def _precision(axes: Any, scores: Scores) -> str | None:
    curve = scores["charts"]["precision"]
    if curve["precision"] is None:
        return None
    axes.plot(_percent(curve["recall"]), _percent(curve["precision"]), color=_ACCENT)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    _label(axes, "recall, %", "precision, %")
    return (
        "How well scores rank boxes: precision at IoU 0.5 of the best-scored boxes that reach a recall, mean over "
        "classes."
    )


def _label(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]
