"""A COCO folder: annotations/instances.json beside the images."""

from collections.abc import Iterator
from pathlib import Path

import mining
from mining.export.base import ExportOptions, Written
from mining.export.exported_set import ExportedSet, PartImage
from mining.export.image_files import place_image
from mining.runs.coco_json import annotation_entry, image_entry, write_document


def export_coco(exported: ExportedSet, out: Path, options: ExportOptions) -> Written:
    """Write annotations/*.json and images/, which torchvision's CocoDetection and pycocotools read.

    instances.json has all images, instances_train.json and instances_val.json (and instances_test.json where the
    corpus lists all three) those of each part; there are no parts where no image is held out. Images keep their names
    and sub-folders below images/; ids are the run's. True boxes that are not to be counted have iscrowd 1.
    """
    place = _Placing(exported, out / "images", copy=options.copy)
    boxes = _write(exported, out / "annotations" / "instances.json", place(exported), None)
    parts = exported.parts if len(exported.parts) > 1 else ()
    for part in parts:
        images = (one for one in exported if one.part == part)
        _write(exported, out / "annotations" / f"instances_{part}.json", images, part)
    return Written(place.count, boxes)


def _write(exported: ExportedSet, path: Path, images: Iterator[PartImage], part: str | None) -> int:
    run = exported.run
    return write_document(
        path,
        info={"description": f"boxmine pseudo-annotations of run {run.name}", "version": mining.__version__},
        categories=[{"id": number, "name": name} for number, name in run.classes],
        images=(image_entry(one.image) for one in images),
        annotations=(
            annotation_entry(box) for one in exported if part in (None, one.part) for box in one.boxes
        ),
    )  # fmt: skip


class _Placing:
    """Brings each image to its folder as it goes by."""

    def __init__(self, exported: ExportedSet, folder: Path, *, copy: bool) -> None:
        self.run, self.folder, self.copy = exported.run, folder, copy
        self.count = 0

    def __call__(self, images: ExportedSet) -> Iterator[PartImage]:
        self.folder.mkdir(parents=True)
        for one in images:
            image = one.image
            size = (image.width, image.height)
            place_image(self.run.source_of(image), self.folder / image.file_name, size=size, copy=self.copy)
            self.count += 1
            yield one
