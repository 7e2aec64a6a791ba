"""The content of scores.json: its types, the one writer and the one checked reader.

Shares are in [0, 1]; None stands where nothing can be counted. Intervals are [low, high], 95 % bootstraps
over images: percentiles, of average precision corrected for bias (see `mining.evaluation.bootstrap`). Parts marked
NotRequired are missing from files of earlier versions.
"""

from functools import cache
from pathlib import Path
from typing import Any, NotRequired, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mining.errors import RunError
from mining.runs.run import SCORES_FILE, Run
from mining.storage.files import write_json

Interval = list[float]


class ClassCorLoc(TypedDict):
    """CorLoc of one class, over its pairs."""

    value: float
    pairs: int


_CorLocByIou = TypedDict(
    "_CorLocByIou",
    {
        "at_0.3": float | None,
        "at_0.7": float | None,
        "at_0.3_ci95": NotRequired[Interval | None],
        "at_0.7_ci95": NotRequired[Interval | None],
    },
)


class CorLocScores(_CorLocByIou):
    """CorLoc and the figures read beside it; see metrics.corloc."""

    value: float | None
    ci95: Interval | None
    definition: str
    macro: float | None
    macro_ci95: NotRequired[Interval | None]
    pairs: int
    any_box: float | None
    any_box_ci95: NotRequired[Interval | None]
    instance_recall: float | None
    instance_recall_ci95: NotRequired[Interval | None]
    instance_recall_at_1_fp: NotRequired[float | None]
    instance_recall_at_1_fp_ci95: NotRequired[Interval | None]
    boxes_per_pair: float | None
    per_class: dict[str, ClassCorLoc]


class ClassPrecision(TypedDict):
    """Precision of the boxes of one class; `boxes` counts those that are right or wrong."""

    value: float | None
    boxes: int


class PrecisionScores(TypedDict):
    """Precision of the mined boxes; `boxes` counts those that are right or wrong."""

    value: float | None
    ci95: Interval | None
    definition: str
    boxes: int
    correct: int
    ignored: int
    per_class: dict[str, ClassPrecision]


class ScoreCut(TypedDict):
    """What is left of the boxes when those that score below `min_score` are dropped."""

    min_score: float
    boxes: int
    precision: float | None
    recall: float | None


class ScoreBin(TypedDict):
    """Boxes that score `low` to `high`: their number, mean score and precision."""

    low: float
    high: float
    boxes: int
    predicted: float
    observed: float


class OverMined(TypedDict):
    """Difference in CorLoc to the boxes as they were mined, on the same pairs."""

    value: float | None
    ci95: Interval | None


class ThresholdWay(TypedDict):
    """CorLoc of one way to choose the threshold."""

    corloc: float | None
    ci95: Interval | None
    threshold: NotRequired[float | None]
    thresholds: NotRequired[dict[str, float]]
    fold_thresholds: NotRequired[list[float]]
    mean_threshold: NotRequired[float | None]
    over_mined: NotRequired[OverMined]


class ThresholdScores(TypedDict):
    """CorLoc at other thresholds than the mined one; see metrics.thresholds."""

    definition: str
    pairs: int
    mined: ThresholdWay
    oracle: ThresholdWay
    chosen: ThresholdWay
    per_class: ThresholdWay
    stability: ThresholdWay
    otsu: ThresholdWay
    entropy: ThresholdWay
    curve: dict[str, list[float]]


class Accuracy(TypedDict):
    """One figure of ILSVRC's kind; the interval is of the error."""

    accuracy: float | None
    error: float | None
    ci95: NotRequired[Interval | None]


class LocalizationScores(TypedDict):
    """ILSVRC's localization and classification figures; see metrics.localization.

    Top-1 and Top-5 figures are over `images_ranked` of the images, gt_known_loc over all. `classes_from` is the run or
    the CSV whose class predictions were used instead of the run's own.
    """

    definition: str
    iou_threshold: float
    iou_rule: str
    images: int
    images_ranked: NotRequired[int]
    gt_known_loc: Accuracy
    top1_loc: Accuracy | None
    top5_loc: Accuracy | None
    top5_loc_2_2_1: NotRequired[Accuracy | None]
    top1_cls: Accuracy | None
    top5_cls: Accuracy | None
    classes_from: NotRequired[str | None]
    false_positives_per_image: float | None


class BaselineScores(TypedDict):
    """CorLoc of content-independent boxes."""

    whole_image: float | None
    centred_half_area: float | None


class CocoFigures(TypedDict):
    """COCO's twelve figures, and AP50 by class."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR1: float | None
    AR10: float | None
    AR100: float | None
    ARs: float | None
    ARm: float | None
    ARl: float | None
    per_class_AP50: dict[str, float]


class CocoScores(CocoFigures):
    """COCO's figures with intervals of the first two."""

    AP_ci95: NotRequired[Interval | None]
    AP50_ci95: NotRequired[Interval | None]


class ClassAveragePrecision(TypedDict):
    """PASCAL VOC's average precision of one class."""

    AP_11_point: float
    AP_all_point: float
    objects: int


class AveragePrecision(TypedDict):
    """PASCAL VOC's average precision, mean over classes."""

    AP_11_point: float | None
    AP_all_point: float | None


class VocScores(TypedDict):
    """PASCAL VOC's average precision, and at lower IoU thresholds; see metrics.voc."""

    definition: str
    iou_threshold: float
    iou_rule: str
    AP_11_point: float | None
    AP_all_point: float | None
    AP_all_point_ci95: NotRequired[Interval | None]
    at_iou: NotRequired[dict[str, AveragePrecision]]
    per_class: dict[str, ClassAveragePrecision]


class SizeRow(TypedDict):
    """Figures of objects of one range of sizes."""

    objects: int
    AP: float | None
    AR: float | None
    instance_recall: float | None
    false_positives_per_image: float


class InstancesRow(TypedDict):
    """Figures of pairs with so many instances."""

    pairs: int
    objects: int
    boxes: int
    AP: float | None
    AP50: float | None
    AR: float | None
    corloc: float | None
    any_box: float | None
    instance_recall: float | None
    false_positives_per_image: float


class BreakdownScores(TypedDict):
    """Figures by size of the object and by number of instances; see metrics.breakdown."""

    definition: str
    by_size: dict[str, SizeRow]
    by_instances: dict[str, InstancesRow]


class IouHistogram(TypedDict):
    """Pairs by the IoU of their best-scored box, in equal steps of 0-1."""

    step: float
    pairs: list[int]


class FoundBySize(TypedDict):
    """True boxes by size, and the share of them that is found, in equal steps of 0-1."""

    step: float
    objects: list[int]
    found: list[float | None]


class PrecisionCurve(TypedDict):
    """Precision at each recall."""

    recall: list[float]
    precision: list[float] | None


class ChartData(TypedDict):
    """Numbers behind the charts; see metrics.chart_data."""

    iou: IouHistogram
    size: FoundBySize
    precision: PrecisionCurve


class ImageCounts(TypedDict):
    """Images of the ground truth and of the corpus, and those in both."""

    truth: int
    corpus: int
    scored: int
    share_of_truth: float
    share_of_corpus: float


class ScoredTruth(TypedDict):
    """The ground truth that was scored against. `file` is its name; `path` is where it was."""

    file: str
    path: NotRequired[str]
    sha256: str
    boxes: int
    ignored: int


class OwnMapScores(TypedDict):
    """Map scores of the regions that boxmine extracts."""

    MaxBoxAcc: float
    MaxBoxAcc_peak: float
    MaxBoxAccV2: float


class LocScores(TypedDict):
    """Loc(delta) of the run's maps; `curve` lists it at further values of delta; see protocols.explanation."""

    definition: str
    delta: float
    value: float
    curve: dict[str, list[float]]


class MapScores(TypedDict):
    """MaxBoxAcc, MaxBoxAccV2 and Loc(delta) of the run's maps; see map_scores."""

    definition: str
    pairs: int
    pairs_without_map: int
    MaxBoxAcc: float
    MaxBoxAccV2: float
    best_thresholds: dict[str, list[float]]
    own: OwnMapScores
    loc: NotRequired[LocScores]


class Scores(TypedDict):
    """Everything that scores.json holds."""

    corloc: CorLocScores
    precision: NotRequired[PrecisionScores]
    precision_by_min_score: NotRequired[list[ScoreCut]]
    precision_by_score: NotRequired[list[ScoreBin]]
    thresholds: NotRequired[ThresholdScores | None]
    localization: NotRequired[LocalizationScores]
    baselines: BaselineScores
    coco: CocoScores
    voc: NotRequired[VocScores]
    breakdown: NotRequired[BreakdownScores]
    charts: NotRequired[ChartData]
    false_positives_per_image: float
    boxes: int
    boxes_left_out: int
    images: ImageCounts
    truth: ScoredTruth
    notes: list[str]
    warnings: NotRequired[list[str]]
    maps: NotRequired[MapScores | None]
    sha256: NotRequired[str]


def write_scores(run_dir: Path, scores: Scores) -> Path:
    """Write scores.json into the run directory atomically, and return its path."""
    path = run_dir / SCORES_FILE
    write_json(path, cast(dict[str, Any], scores))
    return path


def read_scores(run: Run) -> Scores | None:
    """Read and check scores.json of a run.

    Args:
        run: The run.

    Returns:
        The scores; None where the run has not been scored.

    Raises:
        RunError: The file is damaged or was changed by hand.
    """
    content = run.read_scores()
    if content is None:
        return None
    try:
        _adapter().validate_python(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise RunError(
            f"{run.scores} is damaged ({where}: {fault['msg']}); run the `boxmine score` command again."
        ) from None
    return cast(Scores, content)


@cache
def _adapter() -> TypeAdapter[Scores]:
    return TypeAdapter(Scores)
