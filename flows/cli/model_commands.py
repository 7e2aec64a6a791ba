"""The command that exports models for other runtimes."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from flows.cli.common import INPUT, OUTPUT, Json, app, examples
from flows.cli.output import print_json
from flows.cli.terminal import err
from mining.config import parse
from mining.config.model_export import ModelExportSettings

DETECTIONS = Group("Detections", sort_key=3)


@app.command(
    name="export-model",
    help_epilogue=examples(
        "boxmine export-model runs/bootstrap/detector-1 --out detector.onnx",
        "boxmine export-model runs/bootstrap/detector-1 --size 480x640 --out detector-480x640.onnx",
    ),
)
def export_model(
    model: Annotated[Path, Parameter(group=INPUT)],
    /,
    *,
    out: Annotated[Path, Parameter(group=OUTPUT)],
    size: Annotated[str | None, Parameter(group=INPUT)] = None,
    min_score: Annotated[float, Parameter(group=DETECTIONS)] = 0.05,
    merge_iou: Annotated[float, Parameter(group=DETECTIONS)] = 0.5,
    max_boxes: Annotated[int, Parameter(group=DETECTIONS)] = 100,
    as_json: Json = False,
) -> int:
    """Export a detector as one ONNX file that takes an image and returns its boxes, checked with ONNX Runtime.

    Needs the extra `onnx`: pip install "boxmine[onnx]".

    Parameters
    ----------
    model
        Model folder of a detector, or that of a run that was mined with one.
    out
        File to write, an .onnx file; an existing one is replaced.
    size
        Height and width of all images in px, e.g. 480x640, for runtimes that need a fixed input; by default the file
        takes images of any size.
    min_score
        Leave out boxes below this score.
    merge_iou
        Of two boxes of a class that overlap by more than this IoU, keep the better one.
    max_boxes
        Greatest number of boxes per image.
    as_json
        Print the result as JSON on stdout.
    """
    from tasks.exporting import export_model as export

    values = {
        "model": model, "out": out, "size": size, "min_score": min_score, "merge_iou": merge_iou, "max_boxes": max_boxes
    }  # fmt: skip
    summary = export(parse(ModelExportSettings, values))
    if as_json:
        print_json(asdict(summary))
        return 0
    err.print(
        f"{summary.out} ({summary.megabytes:g} MB) takes an image and returns its boxes. ONNX Runtime finds the same "
        f"boxes as PyTorch ({summary.checked_boxes} boxes in {summary.checked_images} test images).",
        soft_wrap=True,
    )
    return 0
