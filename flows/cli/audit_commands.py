"""Commands of an audit: review boxes in a browser, or draw, record and estimate with files."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli.audit_output import (
    print_address,
    print_apply,
    print_calibration,
    print_carried,
    print_estimate,
    print_plan,
    print_record,
)
from flows.cli.common import INPUT, OUTPUT, Json, app, examples
from flows.cli.output import print_json
from mining.config import parse
from mining.config.audit import AuditPlanSettings

audit = App(
    name="audit",
    help="How far to trust the boxes of a run without ground truth: a person judges a random draw of them.",
    default_parameter=app.default_parameter,
)
app.command(audit)
RunDir = Annotated[Path, Parameter(group=INPUT)]


@audit.default
def review(
    source: Annotated[str, Parameter(group=INPUT)],
    /,
    *,
    against: Annotated[Path | None, Parameter(group=INPUT)] = None,
    corpus: Annotated[str | None, Parameter(group=INPUT)] = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = True,
) -> int:
    """Open the review application: look at the boxes of a run in a browser, judge them, and put them right.

    Parameters
    ----------
    source
        Run directory; or label store, whose runs can be chosen, the newest first.
    against
        Another finished run of the same images, shown side by side.
    corpus
        For a label store: only the runs of this corpus.
    host
        Address to listen on. On another than this machine's own, the printed address has a token that is needed.
    port
        Port; by default 8770, or any free one if that is taken.
    browser
        Open the address in a browser.
    """
    from mining.label_store.sources import is_store, refuse_store_options
    from mining.review.reviews import RunToReview
    from mining.review.server import serve_review

    if is_store(source):
        from mining.label_store.runs_to_review import runs_to_review

        runs = [RunToReview(path, title) for path, title in runs_to_review(source, corpus)]
    else:
        refuse_store_options(source, {"corpus": corpus})
        runs = [RunToReview(Path(source), source)]
    serve_review(runs, against=against, host=host, port=port, browse=browser, announce=print_address)
    return 0


@audit.command(
    help_epilogue=examples(
        "boxmine audit plan runs/first --verdicts 200 --out plan.csv",
        "boxmine audit plan runs/first --precision-within 0.03 --out plan.csv",
        "boxmine audit plan runs/first --recall --images 50 --out images.csv",
    )
)
def plan(
    run_dir: RunDir,
    /,
    *,
    out: Annotated[Path, Parameter(group=OUTPUT)],
    verdicts: int | None = None,
    precision_within: float | None = None,
    suspicious: Annotated[bool, Parameter(negative=())] = False,
    recall: Annotated[bool, Parameter(negative=())] = False,
    images: int | None = None,
    pictures: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    seed: int | None = None,
) -> int:
    """Draw boxes for a person to judge, and write them to a CSV file with an empty column `verdict`.

    Fill it in with correct, too_large, too_small, wrong_place, wrong_class, nothing or unsure; a box is correct if it
    and the object have an IoU of at least 0.5. A corrected box may be written into x, y, w, h, and a class into
    category. Then: boxmine audit record RUN PLAN.csv --reviewer NAME.

    With --recall, each drawn image has rows for all of its boxes and one for itself. Copy that row for every object
    without a correct box, with its class and the verdict missed (x, y, w, h if you know them), and write complete into
    the row itself.

    Parameters
    ----------
    run_dir
        Run directory.
    out
        CSV file to write.
    verdicts
        Number of boxes to draw at random; by default 200.
    precision_within
        Draw as many boxes as a 95 % interval of this half width needs, e.g. 0.03.
    suspicious
        Also list as many of the boxes that are least probably correct: by the calibration if the run has one, else by
        the score. No estimate uses them.
    recall
        Draw images to be looked at whole, those with many boxes more often, for the number of objects and the share of
        them that was found. Alone, no single boxes are drawn.
    images
        With --recall: number of images, by default 50.
    pictures
        New folder for a picture of each row, and index.html with all of them.
    seed
        Random seed; by default another draw each time.
    """
    from mining.quality.planning import plan_audit
    from mining.reporting.plan_pictures import draw_plan_pictures

    values = {
        "run": run_dir, "out": out, "verdicts": verdicts, "precision_within": precision_within,
        "suspicious": suspicious, "recall": recall, "images": images, "pictures": pictures, "seed": seed,
    }  # fmt: skip
    settings = parse(AuditPlanSettings, values)
    print_plan(plan_audit(settings, draw_plan_pictures), settings.pictures)
    return 0


@audit.command(
    help_epilogue=examples(
        "boxmine audit record runs/first plan.csv --reviewer Ada",
        "boxmine audit record runs/first project.json --reviewer Ada",
        "boxmine audit record runs/second runs/first",
    )
)
def record(
    run_dir: RunDir,
    verdicts: Annotated[Path, Parameter(group=INPUT)],
    /,
    *,
    reviewer: str | None = None,
    min_score: float = 0.0,
) -> int:
    """Record the verdicts of a filled-in plan in the run; boxes without a verdict are left for later.

    Verdicts of another run of the same images are carried over to boxes that are nearly the same, or that are on an
    object whose box a person drew; no estimate uses them, but later plans have them filled in.

    Parameters
    ----------
    run_dir
        Run directory.
    verdicts
        CSV file of `boxmine audit plan`, filled in; or the file that Label Studio (JSON) or CVAT (CVAT for images 1.1)
        exported after all of the plan's images were reviewed there; or the directory of another run with verdicts.
    reviewer
        Name of the person who judged. Not for another run, whose verdicts have names.
    min_score
        For a file of CVAT: the --min-score of the export that was reviewed, so that boxes that were not shown do not
        count as deleted.
    """
    from mining.quality.recording import record_carried, record_verdicts

    if verdicts.is_dir():
        print_carried(record_carried(run_dir, verdicts))
    else:
        print_record(record_verdicts(run_dir, verdicts, reviewer or "", min_score))
    return 0


@audit.command(help_epilogue=examples("boxmine audit estimate runs/first", "boxmine audit estimate runs/first --json"))
def estimate(run_dir: RunDir, /, *, as_json: Json = False) -> int:
    """Estimate precision, number of objects and recall of a run, with 95 % intervals, from the verdicts so far.

    Parameters
    ----------
    run_dir
        Run directory.
    as_json
        Print the estimates as JSON on stdout.
    """
    from mining.quality.audit import estimate_audit

    found = estimate_audit(run_dir)
    print_json(found.to_record()) if as_json else print_estimate(found)
    return 0


@audit.command(
    help_epilogue=examples("boxmine audit apply runs/first", "boxmine audit apply runs/first --out runs/second")
)
def apply(run_dir: RunDir, /, *, out: Annotated[Path | None, Parameter(group=OUTPUT)] = None) -> int:
    """Write the boxes of a run, corrected by the verdicts on them, as a new run; the run itself is not changed.

    Rejected boxes are left out; corrected boxes, and added ones on objects that were missed, have the source human. The
    objects of images that were looked at whole are ground truth: give the new run to --truth.

    Parameters
    ----------
    run_dir
        Run directory.
    out
        The new run directory, by default RUN-corrected.
    """
    from mining.quality.corrected_run import apply_verdicts

    print_apply(apply_verdicts(run_dir, out))
    return 0


@audit.command(
    help_epilogue=examples(
        "boxmine audit calibrate runs/first",
        "boxmine audit calibrate runs/first --truth truth.json --chart reliability.svg",
        "boxmine audit calibrate runs/next --calibration-from runs/first",
    )
)
def calibrate(
    run_dir: RunDir,
    /,
    *,
    truth: Annotated[Path | None, Parameter(group=INPUT)] = None,
    agree_with: Annotated[Path | None, Parameter(group=INPUT)] = None,
    calibration_from: Annotated[Path | None, Parameter(group=INPUT)] = None,
    chart: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    as_json: Json = False,
) -> int:
    """Give each box the probability that it is correct, from verdicts, ground truth, or the calibration of another run.

    The probabilities are columns of quality.parquet in the run directory. At least 50 boxes must be judged.

    Parameters
    ----------
    run_dir
        Run directory.
    truth
        Ground truth of all or some of the images, instead of the verdicts: COCO JSON, folder of VOC XML, or CUB folder.
    agree_with
        Another run of the same images: agreement with its boxes is one more signal.
    calibration_from
        Another run, or its calibration.json: its calibration is used if the signals are distributed alike.
    chart
        File for the reliability diagram, .svg or .png.
    as_json
        Print the calibration's figures as JSON on stdout.
    """
    from mining.quality.audit_calibration import calibrate_audit
    from mining.reporting.reliability_chart import check_chart_name, draw_reliability

    if chart is not None:
        check_chart_name(chart)
    found = calibrate_audit(run_dir, truth, agree_with=agree_with, calibration_from=calibration_from)
    if chart is not None and found.calibration.figures is not None:
        draw_reliability(found.calibration.figures, chart)
    print_json(found.to_record()) if as_json else print_calibration(found)
    return 0
