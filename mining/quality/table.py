"""quality.parquet: signals and calibrated probabilities of a finished run's boxes, which are not changed.

The table is made from the run's tables, from calibration.json and, for `run_agreement`, from another run. It is written
atomically, and made again when it is missing, damaged, or made from other files than are there now.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mining.errors import DamagedFileError, InputError, RunError
from mining.quality.calibration import Calibration
from mining.quality.schema import CALIBRATED, QUALITY_SCHEMA
from mining.quality.signals import compute_signals
from mining.runs.run import Run, read_table
from mining.storage.files import sha256_of
from mining.storage.integrity import DIGESTS
from mining.storage.parquet import open_parquet, parquet_writer

_VERSION = 1  # to be raised when a signal is computed otherwise
_MADE_FROM = b"boxmine.made_from"
_ROWS_PER_GROUP = 100_000


def read_quality(run: Run, *, agree_with: Run | None = None) -> pa.Table:
    """Read the signals and calibrated probabilities of a run's boxes; compute and write what is missing.

    Args:
        run: A finished run.
        agree_with: Another finished run of the same images, for `run_agreement`; None for the one that was given
            last, if any.

    Returns:
        The columns of QUALITY_SCHEMA, one row per box, in the order of annotations.parquet.

    Raises:
        RunError: A table of the run is missing or damaged, or the runs share no image.
        InputError: calibration.json is damaged.
        StorageError: The table cannot be written.
    """
    run.require_finished()
    recorded = _read_made_from(run)
    other = agree_with or _last_agreement(run, recorded)
    made_from = _describe_sources(run, other)
    if recorded == made_from:
        try:
            return read_table(run.quality, QUALITY_SCHEMA.names)
        except DamagedFileError:
            pass  # made again
    table = _compute(run, other)
    _write(run.quality, table, made_from)
    return table


def read_boxes_with_quality(run: Run, *, agree_with: Run | None = None) -> pa.Table:
    """Read annotations.parquet with the columns of quality.parquet after its own; see `read_quality`."""
    table, quality = run.read_annotations(), read_quality(run, agree_with=agree_with)
    for field in list(QUALITY_SCHEMA)[1:]:
        table = table.append_column(field, quality[field.name])
    return table


def apply_calibration(run: Run, calibration: Calibration) -> pa.Table:
    """Store a calibration of the run's own boxes as its calibration.json.

    Returns:
        The boxes with signals, p_correct and expected_iou.
    """
    calibration.save(run.calibration)
    return read_boxes_with_quality(run)


def carry_calibration(run: Run, calibration: Calibration) -> str | None:
    """Use a calibration that was made from another run.

    Returns:
        A warning where the distribution of one or two signals has moved; None where none has.

    Raises:
        InputError: More signals have moved, or the calibration is of too few judged boxes. Nothing is stored.
    """
    if not calibration.is_calibrated:
        raise InputError(f"There is nothing to carry: {calibration!r}. Judge more boxes.")
    warning = calibration.check_distribution(read_boxes_with_quality(run))
    apply_calibration(run, calibration)
    return warning


def _compute(run: Run, other: Run | None) -> pa.Table:
    signals = compute_signals(run, other)
    empty = pa.nulls(len(signals), pa.float32())
    values: dict[str, Any] = dict.fromkeys(CALIBRATED, empty)
    if run.calibration.is_file() and len(signals):
        calibration, boxes = Calibration.load(run.calibration), run.read_annotations()
        for name in signals.column_names[1:]:
            boxes = boxes.append_column(name, signals[name])
        predicted = calibration.predict(boxes, boxes["file_name"].to_pylist())
        values = {name: _as_column(getattr(predicted, name)) for name in CALIBRATED}
    for name in CALIBRATED:
        signals = signals.append_column(name, values[name])
    return signals.cast(QUALITY_SCHEMA)


def _as_column(values: Any) -> pa.Array:
    return pa.array(np.asarray(values, np.float32), from_pandas=True)


def _write(path: Path, table: pa.Table, made_from: dict[str, Any]) -> None:
    schema = QUALITY_SCHEMA.with_metadata({_MADE_FROM: json.dumps(made_from, sort_keys=True)})
    with parquet_writer(path, schema) as writer:
        for start in range(0, max(len(table), 1), _ROWS_PER_GROUP):
            writer.write_table(table.slice(start, _ROWS_PER_GROUP).cast(schema))


def _describe_sources(run: Run, other: Run | None) -> dict[str, Any]:
    """What decides the content of the table, as JSON-like values."""
    return {
        "version": _VERSION,
        "run": [_digest(run, file) for file in (run.annotations, run.curves, run.rankings)],
        "calibration": sha256_of(run.calibration) if run.calibration.is_file() else None,
        "agree_with": None if other is None else [str(other.path.resolve()), _digest(other, other.annotations)],
    }


def _digest(run: Run, file: Path) -> str | None:
    listed = run.record.get(DIGESTS, {}).get(file.name)
    return listed or (sha256_of(file) if file.is_file() else None)


def _read_made_from(run: Run) -> dict[str, Any] | None:
    """What the table was made from; None where there is none that can be read."""
    try:
        with open_parquet(run.quality) as file:
            return dict(json.loads((file.schema_arrow.metadata or {})[_MADE_FROM]))
    except (RunError, KeyError, ValueError, TypeError):
        return None


def _last_agreement(run: Run, recorded: dict[str, Any] | None) -> Run | None:
    """The other run that the table, or else the calibration, was made with, if it is still there."""
    path = (recorded or {}).get("agree_with") or [None]
    if path[0] is None and run.calibration.is_file():
        path = [Calibration.load(run.calibration).agree_with]
    if path[0] is None or not Path(path[0]).is_dir():
        return None
    try:
        return Run.open(Path(path[0]), finished=True)
    except RunError:
        return None
