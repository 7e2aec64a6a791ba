"""Write a synthetic corpus to disk: images, image-level labels, and ground truth as COCO JSON."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mining.errors import InputError
from mining.runs.run import Run
from mining.storage.files import atomic_write, write_json
from mining.storage.locks import lock_folder
from mining.storage.ownership import delete_temporaries, foreign_entries, mark_folder, token_of
from mining.synthetic.objects import CLASSES
from mining.synthetic.scenes import DEFAULT_SIZE, MAX_OBJECTS, Scene, compose

JPEG_QUALITY = 90
_KIND = "generated corpus"


@dataclass(frozen=True)
class SyntheticSummary:
    """Counts of a synthetic corpus.

    Attributes:
        images: Number of images.
        boxes: Number of ground truth boxes.
        classes: Names of the classes.
        boxes_per_class: Number of boxes by class name, including classes without a box.
    """

    images: int
    boxes: int
    classes: tuple[str, ...]
    boxes_per_class: dict[str, int]


def generate(
    out: Path, *, images: int = 160, seed: int = 0, size: tuple[int, int] = DEFAULT_SIZE, start: int = 0
) -> SyntheticSummary:
    """Write scenes `start` to `start + images - 1` of the corpus with this seed.

    Writes out/images/000000.jpg and so on, out/labels.csv (`file_name,labels`, joined by `|`) and out/truth.json (COCO;
    boxes of the visible pixels, with ids that do not depend on the pieces in which a corpus is generated).

    Args:
        out: The folder to write to: new, empty, or one that holds a synthetic corpus.
        images: Number of images.
        seed: Seed of the corpus.
        size: Smallest and largest side of an image, in pixels.
        start: Number of the first scene.

    Raises:
        InputError: An argument is out of range, or `out` holds anything else, or images of another call.
        StorageError: The disk is full, read-only or not writable.
    """
    if images < 1 or start < 0:
        raise InputError(f"{images} images from number {start} on: give at least 1 image, and a start of at least 0.")
    check_output_folder(out)
    compose(start, seed=seed, size=size)  # raises for impossible arguments before anything is written
    with lock_folder(out):
        return _generate(out, range(start, start + images), seed, size)


@contextmanager
def lock_demo(out: Path) -> Iterator[None]:
    """Lock the folder of a demo: a generated corpus in `out/corpus` and a run in `out/run`.

    Raises:
        InputError: One of the two folders holds other things, or another process uses `out`.
    """
    with lock_folder(out):
        check_output_folder(out / "corpus")
        run = Run(out / "run")
        run.refuse_foreign_folder(run.model)
        yield


def _generate(out: Path, numbers: range, seed: int, size: tuple[int, int]) -> SyntheticSummary:
    _claim(out, {file_name(number) for number in numbers})
    rows: list[tuple[str, str]] = []
    truth: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number in numbers:
        scene = compose(number, seed=seed, size=size)
        _write_jpeg(out / "images" / file_name(number), scene.rgb)
        height, width = scene.rgb.shape[:2]
        truth["images"].append({"id": number + 1, "file_name": file_name(number), "width": width, "height": height})
        truth["annotations"].extend(_annotations(number, scene))
        rows.append((file_name(number), "|".join(_names(scene))))
    _write_labels(out / "labels.csv", rows)
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, 1)]
    write_json(out / "truth.json", {**truth, "categories": categories})
    return _summary(len(numbers), truth["annotations"])


def file_name(number: int) -> str:
    """File name of an image by its number."""
    return f"{number:06d}.jpg"


def check_output_folder(out: Path) -> None:
    """Check that a folder is new, empty, or holds a synthetic corpus.

    Raises:
        InputError: It holds anything else.
    """
    for path in (out, out / "images"):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file. Give a folder for the generated corpus.")
    foreign = foreign_entries(out)
    if foreign and token_of(out, _KIND) is None:
        raise InputError(
            f"{out} holds other files (e.g. {foreign[0]!r}) and is not a corpus that boxmine generated. Give a new or "
            "an empty folder. Nothing in it was changed."
        )


def _claim(out: Path, own: set[str]) -> None:
    """Mark the folder, and check that it holds no images of another corpus, which would have no ground truth."""
    check_output_folder(out)
    mark_folder(out, _KIND)
    folder = out / "images"
    delete_temporaries(out, ("images",))
    others = sorted({path.name for path in folder.iterdir()} - own) if folder.is_dir() else []
    if others:
        raise InputError(
            f"{folder} holds {len(others)} files that do not belong to this corpus, such as {others[0]}. Give an empty "
            "folder, or delete them."
        )


def _names(scene: Scene) -> list[str]:
    return sorted({CLASSES[truth.category] for truth in scene.objects})


def _annotations(number: int, scene: Scene) -> Iterator[dict[str, Any]]:
    for slot, truth in enumerate(scene.objects):
        x0, y0, x1, y1 = (float(edge) for edge in truth.box)
        yield {
            "id": MAX_OBJECTS * number + slot + 1,
            "image_id": number + 1,
            "category_id": truth.category + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": float(np.count_nonzero(truth.mask)),
            "iscrowd": 0,
        }


def _write_jpeg(path: Path, rgb: NDArray[np.uint8]) -> None:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _write_labels(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file_name", "labels"))
        writer.writerows(rows)


def _summary(images: int, annotations: list[dict[str, Any]]) -> SyntheticSummary:
    counts = Counter(CLASSES[annotation["category_id"] - 1] for annotation in annotations)
    return SyntheticSummary(images, len(annotations), CLASSES, {name: counts[name] for name in CLASSES})
