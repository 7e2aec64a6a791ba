"""The reliability diagram of a calibration, as SVG or PNG."""

from pathlib import Path
from typing import Any

from mining.errors import InputError, did_you_mean
from mining.quality.calibration import CalibrationFigures
from mining.quality.reliability import ReliabilityBin
from mining.reporting.plots import FORMATS
from mining.storage.files import atomic_write

_INK, _ACCENT = "#3c3c3a", "#1f6fb2"
_MAX_POINT = 260  # area in points^2 of the bin with the most boxes


def check_chart_name(path: Path) -> None:
    """Raise InputError for a file name that ends neither in .svg nor in .png."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"The chart {path} must end in .svg or .png: {did_you_mean(kind, FORMATS)}")


def draw_reliability(figures: CalibrationFigures, path: Path) -> None:
    """Draw mean predictions against outcomes, by bin; the area of a point grows with the boxes of its bin.

    One panel is of p_correct, and another of expected_iou where it is known.

    Args:
        figures: Of a calibration.
        path: File to write, .svg or .png.

    Raises:
        InputError: The name has another ending.
        StorageError: The file cannot be written.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    check_chart_name(path)
    rcParams["svg.hashsalt"] = "boxmine"
    panels = [("p_correct", "share of correct boxes", figures["reliability"])]
    if figures["reliability_iou"]:
        panels.append(("expected_iou", "mean IoU", figures["reliability_iou"]))
    figure = Figure(figsize=(3.8 * len(panels), 3.8), layout="constrained")
    for axes, (name, outcome, bins) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, name, outcome, bins)
    kind = path.suffix.lower().removeprefix(".")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)


def _draw_panel(axes: Any, name: str, outcome: str, bins: list[ReliabilityBin]) -> None:
    most = max(one["boxes"] for one in bins)
    axes.plot((0, 1), (0, 1), color=_INK, linewidth=0.8, linestyle="--")
    predicted, observed = [one["predicted"] for one in bins], [one["observed"] for one in bins]
    axes.plot(predicted, observed, color=_ACCENT, linewidth=1)
    axes.scatter(predicted, observed, s=[_MAX_POINT * one["boxes"] / most for one in bins], color=_ACCENT, alpha=0.6)
    axes.set(xlabel=f"mean {name}", ylabel=outcome, xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
