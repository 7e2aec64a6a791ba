"""The folder that Ultralytics trains on: data.yaml, images/ and labels/, one text file an image."""

from itertools import chain, count
from pathlib import Path, PurePosixPath

import yaml

from mining.annotations.contract import ExportOptions, Written, exported_images
from mining.annotations.placing import place_image
from mining.annotations.reading import BoxedImage, BoxRow, FinishedRun, ImageRow
from mining.annotations.splits import find_split
from mining.errors import RunError

_SUFFIXES = {".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
_HEADER = "# No `path`: the folders are found beside this file, wherever it is moved to.\n"


def export_yolo(run: FinishedRun, out: Path, options: ExportOptions) -> Written:
    """Write images/{train,val}/, labels/{train,val}/*.txt and data.yaml.

    A label line is `class cx cy w h`: the class counts from 0 in the order of the model's classes, the rest are shares
    of the image's width and height. Sub-folders and names are kept but for what Ultralytics would not find: a folder
    named `images` or a name with a leading dot takes a `_`, a file whose suffix it does not know becomes a PNG, and
    where two images would share a label file (1.jpg and 1.png) the later one becomes 1_png.png.

    Images without a box have an empty label file and are exported only when they are known to be empty, or with
    include_empty; see `exported_images`.
    """
    images = (boxed.image for boxed in exported_images(run, options))
    split = find_split(images, val_share=options.val_share, seed=options.seed)
    for part in split.parts:
        (out / "images" / part).mkdir(parents=True)
        (out / "labels" / part).mkdir(parents=True)
    written = Written(0, 0)
    for boxed in exported_images(run, options):
        _write_image(run, out, split.part_of(boxed.image), boxed, copy=options.copy)
        written = Written(written.images + 1, written.boxes + len(boxed.boxes))
    _write_data_yaml(out / "data.yaml", run, split.parts)
    return written


def _write_image(run: FinishedRun, out: Path, part: str, boxed: BoxedImage, *, copy: bool) -> None:
    image, boxes = boxed
    source = run.source_of(image)
    name = _free_name(out / "labels" / part, _findable(image.file_name))
    size = (image.width, image.height)
    only = () if PurePosixPath(image.file_name).suffix.lower() in _SUFFIXES else ("PNG",)
    place_image(source, out / "images" / part / name, size=size, copy=copy, only=only)
    label = (out / "labels" / part / name).with_suffix(".txt")
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text("".join(_line(_index_of(box, run), box, image) for box in boxes), encoding="utf-8")


def _findable(file_name: str) -> PurePosixPath:
    """The name with what Ultralytics' search and its images -> labels replacement would miss spelt otherwise."""
    *folders, name = PurePosixPath(file_name).parts
    folders = ["images_" if folder == "images" else folder for folder in folders]
    path = PurePosixPath(*("_" + part if part.startswith(".") else part for part in (*folders, name)))
    return path if path.suffix.lower() in _SUFFIXES else path.with_name(path.name + ".png")


def _free_name(labels: Path, name: PurePosixPath) -> PurePosixPath:
    """`name`, or a variant of it whose label file is not taken yet; the labels on disk are the memory."""
    with_suffix = f"{name.stem}_{name.suffix.lstrip('.').lower()}"
    stems = chain([name.stem, with_suffix], (f"{with_suffix}_{number}" for number in count(2)))
    return next(
        name.with_name(stem + name.suffix) for stem in stems if not (labels / name.with_name(stem + ".txt")).exists()
    )


def _index_of(box: BoxRow, run: FinishedRun) -> int:
    if box.category_id not in run.class_indices:
        raise RunError(
            f"{run.annotations}: class {box.category!r} has id {box.category_id}, not in model/model.json. "
            "They are of different runs; mine again into a new folder."
        )
    return run.class_indices[box.category_id]


def _line(index: int, box: BoxRow, image: ImageRow) -> str:
    cx, w = (box.x0 + box.x1) / 2 / image.width, (box.x1 - box.x0) / image.width
    cy, h = (box.y0 + box.y1) / 2 / image.height, (box.y1 - box.y0) / image.height
    return f"{index} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}\n"


def _write_data_yaml(path: Path, run: FinishedRun, parts: tuple[str, ...]) -> None:
    value = {part: f"images/{part}" for part in parts} | {"names": {i: name for i, (_, name) in enumerate(run.classes)}}
    path.write_text(_HEADER + yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
