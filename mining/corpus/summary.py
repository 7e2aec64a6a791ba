"""What a scan tells about a corpus."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

KINDS = {
    "folder": "a folder of images, no labels",
    "classes": "one folder of images per class",
    "csv": "a CSV listing",
    "coco": "a COCO JSON",
    "voc": "a folder of VOC XML",
    "cub": "CUB list files",
}


@dataclass(frozen=True)
class CorpusSummary:
    """The counts of a corpus table; all numbers are images.

    kind: a key of KINDS. images: rows of the table. labelled: those whose labels are known (none at all included).
    missing: named by the labels, but there is no such file. unlisted: image files that the labels do not name and that
    are left out. classes: name -> number of images, at least 1, sorted by name.
    category_ids: name -> id, the COCO ids where the listing has them (classes without an image included), raised
    where the lowest is below 1, else 1, 2, ... in sorted order.
    single_label: there are labelled images and each has exactly one class. notes: sentences for a person.
    """

    kind: str
    images: int
    labelled: int
    missing: int
    unlisted: int
    classes: dict[str, int]
    category_ids: dict[str, int]
    single_label: bool
    notes: list[str]

    def to_json(self) -> bytes:
        """The summary as one JSON object, UTF-8."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> "CorpusSummary":
        """The summary that `to_json` wrote."""
        fields: dict[str, Any] = orjson.loads(text)
        return cls(**fields)


def select_notes(*said: tuple[object, str]) -> list[str]:
    """The sentences of those pairs whose first part is true."""
    return [sentence for is_true, sentence in said if is_true]


def format_count(number: int, noun: str) -> str:
    """'1 image is' or '2 images are', for a sentence that begins with a count."""
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"


_HIGHEST = 2**31 - 1  # what the tables hold


def assign_category_ids(given: Mapping[str, int] | None, classes: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Class name to id, and a sentence where the ids are not those that were given.

    given: the listing's own ids; None where it has none for some class: the classes, sorted, are then 1, 2, ... Given
    ids are kept, or all raised by the same number where the lowest is below 1, so that their order and their gaps
    stay. Where one is more than a table holds, they are numbered anew in their order.
    """
    if not given:
        return {name: number for number, name in enumerate(sorted(classes), start=1)}, []
    lowest, highest = min(given.values()), max(given.values())
    raised = max(0, 1 - lowest)
    if highest + raised > _HIGHEST:
        order = sorted(given, key=lambda name: (given[name], name))
        sentence = (
            f"The category id {highest} is too high: the categories are numbered anew, from 1 on, in their order."
        )
        return {name: number for number, name in enumerate(order, start=1)}, [sentence]
    if not raised:
        return dict(given), []
    return {name: number + raised for name, number in given.items()}, [
        f"The category ids begin at {lowest}: all are raised by {raised}, because many trainers take 0 for background."
    ]
