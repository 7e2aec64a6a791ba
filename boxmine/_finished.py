"""What can be done with finished runs and detectors: score, calibrate, report, compare, fuse, export."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from boxmine._keywords import AnyPath, ExportKeywords
from boxmine._progress import progress_bar
from boxmine._results import Comparison, Scores
from boxmine._settings import check_settings, path_values
from mining.config import CompareSettings, FuseSettings, ScoreSettings, parse

if TYPE_CHECKING:
    from boxmine._run import Run
    from mining.detection.onnx_export import ModelExportSummary
    from mining.export import ExportSummary
    from mining.quality.calibration import Calibration


def score(
    run: AnyPath,
    truth: AnyPath,
    *,
    maps: bool = False,
    engine: Literal["boxmine", "pycocotools"] = "boxmine",
    classes_from: AnyPath | None = None,
    progress: bool | None = None,
) -> Scores:
    """Score a finished run against ground truth and write scores.json.

    Args:
        run: Run or run directory.
        truth: COCO JSON with boxes, folder of VOC XML, or CUB folder.
        maps: Draw the maps again, which takes as long as mining, for MaxBoxAcc, MaxBoxAccV2 and Loc(delta).
        engine: What computes COCO's figures; both give the same numbers, pycocotools far more slowly.
        classes_from: Run directory, or CSV (file_name,labels) with the most probable label first, whose classes are
            taken for localization and classification errors instead of those that the run's model ranks first.
        progress: Whether to show a progress bar while maps are drawn.

    Raises:
        RunError: The run is not finished or damaged.
        ScoringError: The ground truth cannot be read, or shares no image or class with the run.
    """
    from mining.evaluation.job import score as score_run

    values = {"run": Path(run), "truth": Path(truth), "maps": maps, "engine": engine, "classes_from": classes_from}
    settings = parse(ScoreSettings, values)
    check_settings(settings)
    with progress_bar("maps", progress if maps else False) as report_progress:
        return Scores(score_run(settings, lambda done, total: report_progress(done, total, "")))


def calibrate(
    run: AnyPath, truth: AnyPath | None = None, *, agree_with: AnyPath | None = None, seed: int = 0
) -> "Calibration":
    """Calibrate the boxes of a finished run: p_correct and expected_iou of each, which `Run.signals` then has.

    Ground truth or verdicts of 50 boxes, on 10 images, are enough. The predictions are cross-fitted over images, and
    stored in the run directory (calibration.json, quality.parquet).

    Args:
        run: Run or run directory.
        truth: COCO JSON with boxes, folder of VOC XML, or CUB folder; of all or of some of the images. By default the
            verdicts that `boxmine audit record` recorded on boxes drawn at random; then only p_correct is known.
        agree_with: Another run of the same images; the boxes' agreement with its boxes is one more signal.
        seed: Decides which images share a fold.

    Returns:
        The calibration. With fewer than 50 judged boxes it is not `is_calibrated`, and nothing is stored.

    Raises:
        RunError: A run is not finished or damaged, or the two share no image.
        ScoringError: The ground truth cannot be read, or shares no image with the run.
    """
    from mining.quality.correctness import calibrate_run
    from mining.runs.run import Run

    directory = Run.open(Path(run), finished=True)
    other = None if agree_with is None else Run.open(Path(agree_with), finished=True)
    return calibrate_run(directory, None if truth is None else Path(truth), agree_with=other, seed=seed)


def report(run: AnyPath, truth: AnyPath | None = None, *, against: AnyPath | None = None) -> Path:
    """Write the HTML report of a finished run.

    Args:
        run: Run or run directory.
        truth: Ground truth whose boxes are drawn too; by default the one that the run was scored against.
        against: An earlier run: the page says which of its figures differ by more than chance.

    Returns:
        Path of the page, report/index.html in the run directory.

    Raises:
        RunError: A run is not finished or damaged.
        ScoringError: The ground truth cannot be read.
    """
    from mining.preflight import check_truth
    from mining.reporting.report_page import write_report

    truth = None if truth is None else Path(truth)
    check_truth(truth)
    return write_report(Path(run), truth, against=None if against is None else Path(against))


def compare(first: AnyPath, second: AnyPath, truth: AnyPath | None = None, *, out: AnyPath | None = None) -> Comparison:
    """Compare two finished runs: which boxes changed and, with ground truth, whether they got better.

    Args:
        first: Run or run directory to compare with.
        second: Run or run directory that is compared with it.
        truth: True boxes; by default those that one of the runs was scored against.
        out: Page to write; by default report/against-FIRST.html of the second run.

    Raises:
        RunError: A run is not finished, or the runs have no image in common.
        ScoringError: The ground truth cannot be read.
    """
    from mining.reporting.comparison_page import compare as compare_runs

    settings = parse(CompareSettings, path_values(first=first, second=second, truth=truth, out=out))
    check_settings(settings)
    return Comparison(*compare_runs(settings))


def fuse(runs: Sequence[AnyPath], out: AnyPath, *, min_runs: int = 1) -> "Run":
    """Combine the boxes of several finished runs of the same images, e.g. of localizers with different backbones.

    Args:
        runs: Two or more runs or run directories; they are not changed.
        out: The new run directory; if it holds these combined boxes already, nothing is done.
        min_runs: Fewest runs that a box must have been found by.

    Returns:
        The new run.

    Raises:
        InputError: There are fewer than two runs, or `out` holds other things.
        RunError: A run is not finished or damaged, or they have different images or classes.
    """
    from boxmine._run import Run
    from mining.fusion.run_fusion import fuse_runs

    settings = parse(FuseSettings, {"runs": [Path(run) for run in runs], "out": Path(out), "min_runs": min_runs})
    check_settings(settings)
    return Run(fuse_runs(settings.runs, settings.out, settings.min_runs).run)


def export(run: AnyPath, format: str, out: AnyPath, **options: Unpack[ExportKeywords]) -> "ExportSummary":
    """Write a finished run, with its images, as a dataset that a detector trains on or that people check.

    Args:
        run: Run or run directory.
        format: coco, yolo, voc, hf, labelstudio or cvat.
        out: New or empty folder; it appears complete or not at all.
        **options: min_score, min_precision, copy, val_share, seed, include_empty, val_truth, used_classes, plan,
            license, near_duplicates: see `boxmine export`.

    Raises:
        InputError: The format is unknown, a value is out of range, or `out` is not empty.
        RunError: The run is not finished, or its images are gone or changed.
        StorageError: The disk refused.
    """
    from mining.export import export as export_run

    values: dict[str, Any] = dict(options)
    for name in ("val_truth", "plan"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    with progress_bar("near-duplicates", None) as report:
        return export_run(Path(run), format, Path(out), **values, progress=lambda done, total: report(done, total, ""))


def export_model(
    model: AnyPath,
    out: AnyPath,
    *,
    size: tuple[int, int] | None = None,
    min_score: float = 0.05,
    merge_iou: float = 0.5,
    max_boxes: int = 100,
) -> "ModelExportSummary":
    """Write a detector as one ONNX file that takes an image and returns its boxes, checked with ONNX Runtime.

    Args:
        model: Model folder of a detector, or that of a run that was mined with one.
        out: File to write, an .onnx file; an existing one is replaced.
        size: Height and width of all images in px; None for a file that takes images of any size.
        min_score: Boxes below this score are left out.
        merge_iou: Of two boxes of a class that overlap by more than this IoU, the better one is kept.
        max_boxes: Greatest number of boxes per image.

    Raises:
        InputError: A value is out of range.
        ModelError: `model` is no detector, a package of the extra `onnx` is missing, or the network cannot be exported.
        StorageError: The disk refused.
    """
    from mining.config.model_export import ModelExportSettings
    from mining.detection.onnx_export import export_detector

    values = {
        **path_values(model=model, out=out), "size": None if size is None else f"{size[0]}x{size[1]}",
        "min_score": min_score, "merge_iou": merge_iou, "max_boxes": max_boxes,
    }  # fmt: skip
    return export_detector(parse(ModelExportSettings, values))
