"""What a listing of images states: image by image, and as a whole."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mining.storage.files import atomic_write


class ListedImage(NamedTuple):
    """One row of a listing; several rows may be of the same image.

    Attributes:
        name: File name, a path relative to the image root.
        labels: Class names; None where they are not known, empty where the image is known to have none of the classes.
        split: Name of its split, e.g. "train".
        source_id: The id that a COCO file gives the image.
        width: Width in pixels.
        height: Height in pixels.
        own_name: Another name that the image may have: that of its own annotation file.
    """

    name: str
    labels: list[str] | None
    split: str | None = None
    source_id: int | None = None
    width: int | None = None
    height: int | None = None
    own_name: str | None = None


@dataclass(frozen=True)
class ListingInfo:
    """What a listing states as a whole.

    Attributes:
        kind: A key of `mining.corpus.summary.KINDS`.
        path: The label file or folder; None where the folders of the images are the listing.
        category_ids: Class name to id, where the listing has ids of its own.
        notes: Sentences for the user on what was ignored, merged or assumed.
    """

    kind: str
    path: Path | None = None
    category_ids: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)


def write_unlabelled_listing(names: Iterable[str], path: Path) -> None:
    """Write a listing of images without labels, a CSV file with the column `file_name`.

    Args:
        names: File names, paths relative to the image root.
        path: The file.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["file_name"], *([name] for name in names)])
