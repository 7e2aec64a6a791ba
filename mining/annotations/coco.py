"""A COCO folder: annotations/instances.json beside the images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mining
from mining.annotations.coco_json import annotation_entry, image_entry, write_document
from mining.annotations.contract import ExportOptions, Written, exported_images
from mining.annotations.placing import place_image
from mining.annotations.reading import FinishedRun


def export_coco(run: FinishedRun, out: Path, options: ExportOptions) -> Written:
    """Write annotations/instances.json and images/, which torchvision's CocoDetection and pycocotools read.

    Images keep their names and sub-folders below images/; ids are the run's.
    """
    placed = _Placed(run, out / "images", options)
    boxes = write_document(
        out / "annotations" / "instances.json",
        info={"description": f"boxmine pseudo-annotations of run {run.name}", "version": mining.__version__},
        categories=[{"id": number, "name": name} for number, name in run.classes],
        images=placed,
        annotations=(annotation_entry(box) for boxed in exported_images(run, options) for box in boxed.boxes),
    )
    return Written(placed.count, boxes)


class _Placed:
    """The entries of images/; each image is brought there as its entry is asked for."""

    def __init__(self, run: FinishedRun, folder: Path, options: ExportOptions) -> None:
        self.run, self.folder, self.options = run, folder, options
        self.count = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.folder.mkdir(parents=True)
        for image, _ in exported_images(self.run, self.options):
            source = self.run.source_of(image)
            size = (image.width, image.height)
            place_image(source, self.folder / image.file_name, size=size, copy=self.options.copy)
            self.count += 1
            yield image_entry(image)
