"""Columns of quality.parquet: signals per box that need no ground truth, and calibrated probabilities."""

import pyarrow as pa

from mining.runs.schema import described_field


def _signal(name: str, unit: str, meaning: str, kind: pa.DataType | None = None) -> pa.Field:
    return described_field(name, kind or pa.float32(), unit, meaning, nullable=True)


_OFF_CURVE = (
    "null without threshold curves, and where the box is not the one that the curve follows (IoU below 0.5 at the box's "
    "own threshold)"
)

SIGNAL_FIELDS = [
    _signal(
        "threshold_stability",
        "0-1",
        "mean IoU of the box with the best box of its map at the thresholds at most 0.2 below and above its own; " + _OFF_CURVE,
    ),
    _signal("loose_iou", "0-1", "IoU with the map's best box at a threshold 0.2 lower; " + _OFF_CURVE),
    _signal(
        "tight_iou", "0-1", "IoU with the map's best box at a threshold 0.2 higher, at most 0.98; " + _OFF_CURVE
    ),
    _signal(
        "regions_above",
        "",
        "number of regions of the map, after the filters, at a threshold 0.3 higher, at most 0.98; 255 for more; null "
        "without threshold curves",
    ),
    _signal("contrast", "", "peak / mean_activation of the region; null where the mean is 0"),
    _signal(
        "border_contact", "0-4", "number of edges of the image that the box touches, to within 1 % of the image's side"
    ),
    _signal(
        "area_share", "0-1", "area of the box as a share of the image's"
    ),
    _signal(
        "size_deviation",
        "",
        "(log(area_share) - median) / spread over the run's boxes of the class, spread = 1.4826 * median absolute "
        "deviation and at least 0.1, clipped to -5 to 5; null for classes of fewer than 5 boxes",
    ),
    _signal("aspect_deviation", "", "the same of log(w / h)"),
    _signal(
        "class_margin",
        "-1 to 1",
        "class_score - the highest probability of another class that is not given for the image; null without "
        "rankings.parquet, and where every ranked class is given",
    ),
    _signal("other_class_iou", "0-1", "highest IoU with a box of another class in the image; 0 for none"),
    _signal("class_boxes", "", "number of boxes of the class in the image", pa.int32()),
    _signal("class_rank", "", "rank of the box by score among the boxes of its class in the image; 1 = best", pa.int32()),
    _signal(
        "run_agreement",
        "0-1",
        "highest IoU with a box of the same class and image in the run that was given to compare with; 0 for none; null "
        "for images that the other run did not mine, and without another run",
    ),
]  # fmt: skip
SIGNALS = tuple(field.name for field in SIGNAL_FIELDS)

CALIBRATED_FIELDS = [
    _signal("p_correct", "0-1", "calibrated probability that IoU with a true box of the class is at least 0.5; null if uncalibrated"),
    _signal("expected_iou", "0-1", "calibrated mean of the IoU with the best true box of the class; null likewise"),
]  # fmt: skip
CALIBRATED = tuple(field.name for field in CALIBRATED_FIELDS)

QUALITY_SCHEMA = pa.schema(
    [described_field("annotation_id", pa.int64(), "", "as in annotations.parquet"), *SIGNAL_FIELDS, *CALIBRATED_FIELDS]
)
