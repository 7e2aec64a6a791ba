"""Export as the folder that Ultralytics trains on: data.yaml, images/, and labels/ with one text file per image."""

import csv
from itertools import chain, count
from pathlib import Path, PurePosixPath

import yaml

from mining.corpus.splits import TRAIN, VAL
from mining.errors import RunError
from mining.export.base import ExportOptions, Written
from mining.export.croissant_parts import (
    CSV,
    FLOAT,
    INTEGER,
    PLAIN,
    TEXT,
    YAML,
    CroissantParts,
    class_list,
    column,
    file_object,
    file_set,
    image_set,
    record_set,
)
from mining.export.exported_set import ExportedSet
from mining.export.image_files import place_image
from mining.runs.rows import BoxedImage, BoxRow, ImageRow

# what Ultralytics decodes, in Pillow's names: most by content, some only by their suffix
_BY_CONTENT = ("JPEG", "MPO", "PNG", "BMP", "WEBP")
_FORMATS_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".bmp", ".webp"), _BY_CONTENT),
    ".mpo": ("MPO", "JPEG"),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".avif": ("AVIF",),
    ".jp2": ("JPEG2000",),
}
_HEADER = "# Without `path` the folders are found beside this file, wherever it is moved.\n"
_NO_VAL = "# No image is held out. Ultralytics does not start without `val`, so it names the training images again.\n"

_TRAINING = (
    "With Ultralytics, in this folder:",
    "",
    "    yolo detect train data=$PWD/data.yaml model=yolo11n.pt",
)


def export_yolo(exported: ExportedSet, out: Path, options: ExportOptions) -> Written:
    """Write images/{train,val}/, labels/{train,val}/*.txt and data.yaml.

    A line of a label file is `class cx cy w h`: the class counts from 0 in the order of the exported classes, the
    others are shares of the image's width and height. Ultralytics refuses a sixth column, so scores.csv has the scores:
    label file, line (from 1), id of the box in the run, score.

    Sub-folders and names are kept except for what Ultralytics would
    not find: a folder named `images` or a name with a leading dot is given a `_`, a file with an unknown suffix becomes
    a PNG, and if two images would share a label file (1.jpg and 1.png) the later one becomes 1_png.png. A file whose
    content Ultralytics does not decode under its suffix (a GIF named .jpg) is re-encoded in the suffix's format.

    Images without a box have an empty label file and are exported only if they are known to be empty, or with
    include_empty; see `ExportedSet`. Ground truth boxes that are to be ignored are left out. If no image is held out
    for validation, `val` names the training images.
    """
    for folder in ("images", "labels"):
        (out / folder / TRAIN).mkdir(parents=True)
    written = Written(0, 0)
    with (out / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        scores = csv.writer(file, lineterminator="\n")
        scores.writerow(("label_file", "line", "annotation_id", "score"))
        for one in exported:
            boxed = BoxedImage(one.image, tuple(box for box in one.boxes if not box.is_ignored))
            label = _write_image(exported, out, one.part, boxed, copy=options.copy)
            name = label.relative_to(out).as_posix()
            scores.writerows((name, line, box.annotation_id, box.score) for line, box in enumerate(boxed.boxes, 1))
            written = Written(written.images + 1, written.boxes + len(boxed.boxes))
    _write_data_yaml(out / "data.yaml", exported)
    notes = () if set(exported.parts) - {TRAIN} else (_NO_VAL.strip("# \n"),)
    return written._replace(
        notes=(*notes, *exported.class_notes()),
        class_numbers=exported.class_indices,
        croissant=_describe(out, exported),
        training=_TRAINING,
    )


def _describe(out: Path, exported: ExportedSet) -> CroissantParts:
    """Croissant cannot read the lines of label files, so that the boxes themselves are described as files only."""
    scores = "scores.csv"
    parts = exported.parts or (TRAIN,)
    files = [
        file_object(out, "data.yaml", YAML, "folders of the parts, and names of the classes"),
        file_object(out, scores, CSV, "score of each line of the label files"),
        *(image_set(out, f"images/{part}") for part in parts),
        *(file_set(f"labels/{part}", ["*.txt"], [PLAIN], "one line per box: class, centre and size") for part in parts),
    ]
    fields = {
        "label_file": column(scores, "label_file", TEXT, "name of the label file"),
        "line": column(scores, "line", INTEGER, "line of the label file, from 1"),
        "annotation_id": column(scores, "annotation_id", INTEGER, "id of the box in the run"),
        "score": column(scores, "score", FLOAT, "by which boxes are ranked; not a probability"),
    }
    classes = class_list(((number, name) for number, (_, name) in enumerate(exported.classes)), "number")
    return CroissantParts(files, [classes, record_set("scores", "One row per box.", fields, "annotation_id")])


def _write_image(exported: ExportedSet, out: Path, part: str, boxed: BoxedImage, *, copy: bool) -> Path:
    """Place an image and write its label file, whose path is returned."""
    image, boxes = boxed
    source = exported.run.source_of(image)
    name = _free_name(out / "labels" / part, _findable(image.file_name))
    size = (image.width, image.height)
    only = _FORMATS_OF.get(PurePosixPath(image.file_name).suffix.lower(), ("PNG",))
    place_image(source, out / "images" / part / name, size=size, copy=copy, only=only)
    label = (out / "labels" / part / name).with_suffix(".txt")
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text("".join(_line(_index_of(box, exported), box, image) for box in boxes), encoding="utf-8")
    return label


def _findable(file_name: str) -> PurePosixPath:
    """The name, changed where Ultralytics' search or its replacement of images by labels would not find it."""
    *folders, name = PurePosixPath(file_name).parts
    folders = ["images_" if folder == "images" else folder for folder in folders]
    path = PurePosixPath(*("_" + part if part.startswith(".") else part for part in (*folders, name)))
    return path if path.suffix.lower() in _FORMATS_OF else path.with_name(path.name + ".png")


def _free_name(labels: Path, name: PurePosixPath) -> PurePosixPath:
    """`name`, or a variant whose label file does not exist yet; the files on disk show which are taken."""
    with_suffix = f"{name.stem}_{name.suffix.lstrip('.').lower()}"
    stems = chain([name.stem, with_suffix], (f"{with_suffix}_{number}" for number in count(2)))
    return next(
        name.with_name(stem + name.suffix) for stem in stems if not (labels / name.with_name(stem + ".txt")).exists()
    )


def _index_of(box: BoxRow, exported: ExportedSet) -> int:
    index = exported.class_indices.get(box.category_id)
    if index is None:
        raise RunError(
            f"{exported.run.annotations}: class {box.category!r} has id {box.category_id}, which is not in "
            "model/model.json. The files belong to different runs; mine again into a new folder."
        )
    return index


def _line(index: int, box: BoxRow, image: ImageRow) -> str:
    cx, w = (box.x0 + box.x1) / 2 / image.width, (box.x1 - box.x0) / image.width
    cy, h = (box.y0 + box.y1) / 2 / image.height, (box.y1 - box.y0) / image.height
    return f"{index} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}\n"


def _write_data_yaml(path: Path, exported: ExportedSet) -> None:
    parts = {TRAIN: f"images/{TRAIN}", VAL: f"images/{TRAIN}"}
    parts |= {part: f"images/{part}" for part in exported.parts}
    value = parts | {"names": {i: name for i, (_, name) in enumerate(exported.classes)}}
    header = _HEADER if set(exported.parts) - {TRAIN} else _HEADER + _NO_VAL
    path.write_text(header + yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
