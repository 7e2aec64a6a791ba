"""The command that imports boxes of another tool."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.common import INPUT, OUTPUT, Json, Strict, app, examples
from flows.cli.output import print_mine_summary
from flows.cli.terminal import ProgressView


@app.command(
    name="import",
    help_epilogue=examples(
        "boxmine import --coco detections.json --images photos --out runs/imported",
        "boxmine import --coco results.json --dataset instances.json --images photos --out runs/imported",
    ),
)
def import_boxes(
    *,
    coco: Annotated[Path, Parameter(group=INPUT)],
    images: Annotated[Path, Parameter(group=INPUT)],
    out: Annotated[Path, Parameter(group=OUTPUT)],
    dataset: Annotated[Path | None, Parameter(group=INPUT)] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Import boxes that another tool made, as a finished run for `score`, `report`, `compare` and `export`.

    Parameters
    ----------
    coco
        COCO data set, whose annotations may have a score from 0 to 1; or COCO results: a list of image_id, category_id,
        bbox and score, with --dataset.
    images
        Folder of the images.
    out
        Run directory to write, a new or empty folder.
    dataset
        COCO data set with the images and categories that COCO results refer to; its annotations are not used.
    """
    from tasks.importing import import_boxes as import_coco

    with ProgressView():
        summary = import_coco(coco, images, out, dataset)
    return print_mine_summary(summary, as_json=as_json, strict=strict)
