"""The step of an audit that gives boxes their probabilities, from whichever source there is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.quality.calibration import MIN_BOXES_TO_CALIBRATE, MIN_IMAGES, Calibration
from mining.quality.correctness import calibrate_run
from mining.quality.table import carry_calibration
from mining.runs.run import CALIBRATION_FILE, Run


@dataclass(frozen=True)
class CalibrationSummary:
    """What a calibration came to.

    Attributes:
        calibration: The calibration.
        is_carried: Whether it was made from another run.
        warning: What is different in this run, if it was carried.
    """

    calibration: Calibration
    is_carried: bool = False
    warning: str | None = None

    @property
    def state(self) -> str:
        """calibrated, carried, or uncalibrated."""
        return "carried" if self.is_carried else "calibrated" if self.calibration.is_calibrated else "uncalibrated"

    @property
    def reason(self) -> str:
        """Why it is uncalibrated."""
        judged = sum(self.calibration.judged)
        return f"{judged} boxes are judged; at least {MIN_BOXES_TO_CALIBRATE}, on {MIN_IMAGES} images, are needed"

    def to_record(self) -> dict[str, Any]:
        """Return state and figures as JSON values; the figures of a carried calibration are of the run it is from."""
        judged = dict(zip(self.calibration.classes, self.calibration.judged, strict=True))
        return {
            "state": self.state, "warning": self.warning, "judged": judged, "figures": self.calibration.figures,
        }  # fmt: skip


def calibrate_audit(
    run_dir: Path, truth: Path | None = None, *, agree_with: Path | None = None, calibration_from: Path | None = None
) -> CalibrationSummary:
    """Calibrate a finished run from ground truth, from its verdicts, or by the calibration of another run.

    Args:
        run_dir: Run directory.
        truth: COCO JSON, folder of VOC XML, or CUB folder; None for the recorded verdicts.
        agree_with: Another run of the same images, for `run_agreement`.
        calibration_from: Run directory or calibration.json of another run.

    Raises:
        InputError: The other run's calibration cannot be read, does not fit, or is given with other sources.
        RunError: A run is not finished or damaged.
        ScoringError: The ground truth cannot be used, or shares no image with the run.
    """
    if calibration_from is not None and (truth is not None or agree_with is not None):
        raise InputError("Give --calibration-from, or --truth and --agree-with, not both.")
    run = Run.open(run_dir, finished=True)
    if calibration_from is not None:
        file = calibration_from / CALIBRATION_FILE if calibration_from.is_dir() else calibration_from
        calibration = Calibration.load(file)
        return CalibrationSummary(calibration, True, carry_calibration(run, calibration))
    other = None if agree_with is None else Run.open(agree_with, finished=True)
    return CalibrationSummary(calibrate_run(run, truth, agree_with=other))
