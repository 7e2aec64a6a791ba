"""Import the boxes that another tool made."""

from pathlib import Path

from mining.runs.summaries import MineSummary
from tasks.progress import Stage


def import_boxes(coco: Path, images: Path, out: Path, dataset: Path | None = None) -> MineSummary:
    """Write the boxes of a COCO file as a finished run; see `mining.imports.import_boxes`."""
    from mining.imports import import_boxes as import_coco

    stages: list[Stage] = []

    def reach(done: int, total: int) -> None:
        if not stages:
            stages.append(Stage("import", total))
        stages[0].reach(done)

    return import_coco(coco, images, out, dataset=dataset, progress=reach)
