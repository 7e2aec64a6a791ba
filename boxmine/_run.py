"""A run directory as an object."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from boxmine._html import html_table
from boxmine._keywords import AnyPath, ExportKeywords
from boxmine._results import Comparison, Scores
from mining.errors import InputError, did_you_mean
from mining.runs.run import Run as RunDirectory

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mining.export import ExportSummary
    from mining.quality.audit import AuditEstimate
    from mining.quality.calibration import Calibration
    from mining.quality.planning import PlanSummary
    from mining.quality.recording import RecordSummary

Table = Literal["boxes", "signals", "images", "quarantine", "thresholds"]
_TABLES = ("boxes", "signals", "images", "quarantine", "thresholds")


class Run(os.PathLike[str]):
    """A finished run: the boxes that were mined, and what is known of them.

    Args:
        path: Run directory that `boxmine.mine` or the command line wrote.

    Raises:
        RunError: The folder is no run directory, the run is not finished, or a file of it is damaged.

    Example:
        >>> run = boxmine.Run("runs/first")
        >>> run.boxes[["file_name", "category", "score"]].columns.to_list()
        ['file_name', 'category', 'score']
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = Path(path)
        self._directory = RunDirectory.open(self.path, finished=True)

    def __fspath__(self) -> str:
        return str(self.path)

    # --- tables -------------------------------------------------------------------------------------------------------

    @property
    def boxes(self) -> "pd.DataFrame":
        """One row per box, in the order of the images, best score first: annotations.parquet."""
        return _as_pandas(self.to_arrow("boxes"))

    @property
    def signals(self) -> "pd.DataFrame":
        """The boxes with signals of their quality and, after `calibrate`, p_correct and expected_iou.

        They are computed at first use, without a network, and kept in quality.parquet.
        """
        return _as_pandas(self.to_arrow("signals"))

    @property
    def images(self) -> "pd.DataFrame":
        """One row per image with its labels and state: corpus.parquet."""
        return _as_pandas(self.to_arrow("images"))

    @property
    def quarantine(self) -> "pd.DataFrame":
        """One row per image that could not be used, with the reason: quarantine.parquet."""
        return _as_pandas(self.to_arrow("quarantine"))

    @property
    def thresholds(self) -> "pd.DataFrame":
        """The best-scored box per image and class at each of 49 thresholds, where there is one.

        Columns: image_id, category_id, threshold (share of the normalised map), x, y, w, h (px of the image).
        """
        return _as_pandas(self.to_arrow("thresholds"))

    def to_arrow(self, table: Table = "boxes") -> "pa.Table":
        """Read a table as pyarrow.Table; units and meanings stand in the field metadata.

        Args:
            table: boxes, signals, images, quarantine or thresholds.

        Raises:
            RunError: The file is missing; DamagedFileError where it changed after it was written.
            InputError: There is no such table, or the run was mined with `curves=False` and has no thresholds.
        """
        directory = self._directory
        if table == "boxes":
            return directory.read_annotations()
        if table == "signals":
            from mining.quality.table import read_boxes_with_quality

            return read_boxes_with_quality(directory)
        if table == "images":
            return directory.read_corpus()
        if table == "quarantine":
            return directory.read_quarantine()
        if table != "thresholds":
            raise InputError(f"Unknown table {table!r}: {did_you_mean(table, _TABLES)}")
        if not directory.curves.exists():
            raise InputError(f"The run {self.path} has no thresholds; mine it with curves=True.")
        return _boxes_at_thresholds(directory.read_curves())

    # --- what is known of the run -------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run by name, as run.json has them."""
        return dict(self._directory.record["config"])

    @property
    def classes(self) -> list[str]:
        """Class names of the run's model."""
        return self._directory.card.class_names

    @property
    def scores(self) -> Scores | None:
        """The scores of the last `score`; None where the run was not scored."""
        scores = self._directory.read_scores()
        return None if scores is None else Scores(scores)

    @property
    def notes(self) -> list[str]:
        """Sentences about the images and labels that were listed."""
        from mining.corpus import read_summary

        return list(read_summary(self._directory.corpus).notes)

    @property
    def warnings(self) -> list[str]:
        """Sentences about boxes that mean little, or a model that does not localize, with the remedy."""
        return list(self._directory.record["warnings"])

    # --- what to do with it -------------------------------------------------------------------------------------------

    def score(self, truth: AnyPath, *, maps: bool = False) -> Scores:
        """Score the boxes against ground truth and write scores.json; see `boxmine.score`."""
        from boxmine._finished import score

        return score(self, truth, maps=maps)

    def calibrate(
        self, truth: AnyPath | None = None, *, agree_with: AnyPath | None = None, seed: int = 0
    ) -> "Calibration":
        """Calibrate the boxes with ground truth or verdicts; see `boxmine.calibrate`."""
        from boxmine._finished import calibrate

        return calibrate(self, truth, agree_with=agree_with, seed=seed)

    def carry_calibration(self, calibration: "Calibration | AnyPath") -> str | None:
        """Use the calibration of another run, where the signals of this run's boxes are distributed alike.

        Args:
            calibration: What `calibrate` returned, or the calibration.json of the other run.

        Returns:
            A warning where the distribution of one or two signals has moved; None where none has.

        Raises:
            InputError: More signals have moved, or the file cannot be read. Nothing is stored.
        """
        from mining.quality.calibration import Calibration
        from mining.quality.table import carry_calibration

        if not isinstance(calibration, Calibration):
            calibration = Calibration.load(Path(calibration))
        return carry_calibration(self._directory, calibration)

    def plan_audit(
        self, out: AnyPath, *, verdicts: int | None = None, precision_within: float | None = None,
        images: int | None = None, suspicious: bool = False, pictures: AnyPath | None = None, seed: int | None = None,
    ) -> "PlanSummary":  # fmt: skip
        """Draw boxes, or whole images, for a person to judge, and write them to a CSV file.

        Args:
            out: The CSV file; its column verdict is to be filled in.
            verdicts: Number of boxes to draw at random; by default 200, and none with `images`.
            precision_within: Draw as many boxes as a 95 % interval of this half width needs.
            images: Number of images to be looked at whole, for the number of objects and the recall.
            suspicious: Also list as many of the boxes that are least probably correct.
            pictures: Folder for a picture of each row.
            seed: Random seed; by default another draw each time.

        Raises:
            InputError: There is nothing to draw, or a file is in the way.
        """
        from mining.config import parse
        from mining.config.audit import AuditPlanSettings
        from mining.quality.planning import plan_audit
        from mining.reporting.plan_pictures import draw_plan_pictures

        values = {
            "run": self.path, "out": Path(out), "verdicts": verdicts, "precision_within": precision_within,
            "recall": images is not None, "images": images, "suspicious": suspicious,
            "pictures": None if pictures is None else Path(pictures), "seed": seed,
        }  # fmt: skip
        return plan_audit(parse(AuditPlanSettings, values), draw_plan_pictures)

    def record_verdicts(self, verdicts: AnyPath, reviewer: str) -> "RecordSummary":
        """Record a filled-in plan, or what Label Studio or CVAT exported after a review.

        Raises:
            InputError: The file is no such thing, or a value in it is invalid; nothing is recorded then.
        """
        from mining.quality.recording import record_verdicts

        return record_verdicts(self.path, Path(verdicts), reviewer)

    def estimate(self) -> "AuditEstimate":
        """Estimate precision, number of objects and recall from the verdicts so far, with 95 % intervals.

        Without verdicts on boxes drawn at random, `precision` is None; `objects` likewise, without whole images.
        """
        from mining.quality.audit import estimate_audit

        return estimate_audit(self.path)

    def apply_verdicts(self, out: AnyPath | None = None) -> "Run":
        """Write the boxes, corrected by the verdicts, as a new run, by default RUN-corrected; this one is not changed.

        Raises:
            InputError: No verdict changes a box, or the folder is occupied.
        """
        from mining.quality.corrected_run import apply_verdicts

        return Run(apply_verdicts(self.path, None if out is None else Path(out)).out)

    def report(self, truth: AnyPath | None = None, *, against: AnyPath | None = None) -> Path:
        """Write the HTML report; see `boxmine.report`."""
        from boxmine._finished import report

        return report(self, truth, against=against)

    def compare(self, other: AnyPath, truth: AnyPath | None = None, *, out: AnyPath | None = None) -> Comparison:
        """Compare another run with this one; see `boxmine.compare`."""
        from boxmine._finished import compare

        return compare(self, other, truth, out=out)

    def export(self, format: str, out: AnyPath, **options: Unpack[ExportKeywords]) -> "ExportSummary":
        """Write images and boxes as a dataset that a detector trains on; see `boxmine.export`."""
        from boxmine._finished import export

        return export(self, format, out, **options)

    def __repr__(self) -> str:
        counts = self._directory.record["counts"]
        return f"Run({str(self.path)!r}, {counts.get('images', 0)} images, {counts.get('boxes', 0)} boxes)"

    def _repr_html_(self) -> str:
        from mining.corpus.schema import STATES

        counts = self._directory.record["counts"]
        states = counts.get("states", {})
        rows = [("images", counts.get("images", 0), ""), ("boxes", counts.get("boxes", 0), "")]
        rows += [(name, states[name], meaning) for name, meaning in STATES.items() if states.get(name)]
        return html_table(f"Run {self.path}", rows, ("", "count", "meaning"))


def _as_pandas(table: "pa.Table") -> "pd.DataFrame":
    return table.to_pandas()


def _boxes_at_thresholds(curves: "pa.Table") -> "pa.Table":
    """Curves, one row per image and class, as one row per image, class and threshold that gives a box."""
    import numpy as np
    import pyarrow as pa

    from mining.config.mine import CURVE_THRESHOLDS

    steps = len(CURVE_THRESHOLDS)
    columns = {name: curves[name].combine_chunks() for name in curves.column_names}
    xyxy = columns["xyxy"].flatten().to_numpy().reshape(-1, steps, 4).astype(np.float32)
    stretch = [
        columns[side].to_numpy().astype(np.float32) / columns[f"map_{side}"].to_numpy() for side in ("width", "height")
    ]
    xyxy *= np.stack([*stretch, *stretch], axis=1)[:, None, :].astype(np.float32)
    row, step = np.nonzero(xyxy[:, :, 2] > xyxy[:, :, 0])
    x0, y0, x1, y1 = xyxy[row, step].T
    return pa.table(
        {
            "image_id": columns["image_id"].take(pa.array(row)),
            "category_id": columns["category_id"].take(pa.array(row)),
            "threshold": np.asarray(CURVE_THRESHOLDS, np.float32)[step],
            "x": x0,
            "y": y0,
            "w": x1 - x0,
            "h": y1 - y0,
        }
    )
