"""Charts of a scored run as pictures: how CorLoc depends on the threshold, how tight and how complete boxes are.

Drawn from scores.json alone, each as SVG (for the page and for papers) and as PNG.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mining.storage.files import atomic_write

FORMATS = ("svg", "png")
_INK, _ACCENT, _PALE, _WARM = "#3c3c3a", "#1f6fb2", "#a9c9e6", "#c2571a"


def draw_plots(scores: dict[str, Any], folder: Path) -> dict[str, str]:
    """Draw what the scores tell into the folder; gives the words for each plot drawn, by the name of its files.

    Raises StorageError when the disk refuses.
    """
    told: dict[str, str] = {}
    if "charts" not in scores:  # of an earlier version
        return told
    for name, draw in (
        ("threshold", _threshold),
        ("iou", _iou),
        ("size", _size),
        ("precision", _precision),
    ):
        figure, axes = _empty()
        words = draw(axes, scores)
        if words is None:
            continue
        told[name] = words
        for kind in FORMATS:
            with atomic_write(folder / f"{name}.{kind}") as temporary:
                # without a date, so that the same scores give the same file
                figure.savefig(temporary, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return told


def _empty() -> tuple[Any, Any]:
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "boxmine"
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _threshold(axes: Any, scores: dict[str, Any]) -> str | None:
    thresholds = scores["thresholds"]
    if thresholds is None:
        return None
    curve = thresholds["curve"]
    for key, colour, label in (
        ("at_0.3", _PALE, "IoU 0.3"), ("corloc", _ACCENT, "IoU 0.5"), ("at_0.7", _INK, "IoU 0.7"),
    ):  # fmt: skip
        axes.plot(curve["threshold"], _percent(curve[key]), color=colour, label=label)
    chosen, mined = thresholds["chosen"], thresholds["mined"]
    if chosen["corloc"] is not None:
        _point(axes, chosen, "o", _WARM, f"chosen, {chosen['threshold']:g}")
    if mined["threshold"] is not None:
        _point(axes, mined, "s", _INK, f"as mined, {mined['threshold']:g}")
    _label(axes, "threshold: share of the normalised map", "CorLoc, %")
    axes.legend(fontsize="small")
    return (
        "CorLoc by the threshold that maps are cut at. The point chosen stands at what to expect of it on new images "
        "(cross-validated), which is why it may lie below its curve."
    )


def _point(axes: Any, way: dict[str, Any], marker: str, colour: str, label: str) -> None:
    value = 100 * way["corloc"]
    low, high = (100 * one for one in way["ci95"] or (way["corloc"], way["corloc"]))
    axes.errorbar(
        [way["threshold"]], [value], [[value - low], [high - value]],
        marker=marker, color=colour, label=label, capsize=3, linestyle="none", zorder=3,
    )  # fmt: skip


def _iou(axes: Any, scores: dict[str, Any]) -> str | None:
    iou = scores["charts"]["iou"]
    pairs = np.array(iou["pairs"])
    if not pairs.sum():
        return None
    left = np.arange(len(pairs)) * iou["step"]
    colours = [_ACCENT if right > 0.5 + 1e-9 else _PALE for right in left + iou["step"]]
    axes.bar(left, pairs, iou["step"], align="edge", color=colours, edgecolor="white", linewidth=0.6)
    _label(axes, "IoU of the best-scored box with a true one", "pairs of image and class")
    return "How tight boxes are: pairs by the overlap of their best-scored box; right at 0.5 are the dark ones."


def _size(axes: Any, scores: dict[str, Any]) -> str | None:
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
    return "Which objects are found: the share of true boxes that some mined box covers, by size; bars count them."


def _precision(axes: Any, scores: dict[str, Any]) -> str | None:
    curve = scores["charts"]["precision"]
    if curve["precision"] is None:
        return None
    axes.plot(_percent(curve["recall"]), _percent(curve["precision"]), color=_ACCENT)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    _label(axes, "recall, %", "precision, %")
    return (
        "What a higher score is worth: precision at IoU 0.5 where the best-scored boxes up to a recall are kept, mean "
        "over classes."
    )


def _label(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]
