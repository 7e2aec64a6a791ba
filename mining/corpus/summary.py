"""The result of a scan: counts, classes and notes."""

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

    Attributes:
        kind: How the images are listed, a key of KINDS.
        images: Rows of the table.
        labelled: Images whose labels are known, including those known to have none of the classes.
        missing: Listed images without a file.
        unlisted: Image files that are not listed, and not used.
        classes: Number of images per class, at least 1, sorted by name.
        category_ids: Class name to category id: the COCO ids if the listing has them (including classes without an
            image), raised so that the lowest is at least 1; else 1, 2, ... in the order of the names.
        single_label: Whether there are labelled images, and each has exactly one class.
        notes: Sentences for the user on what was ignored, merged or assumed.
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
        """Convert to a JSON object, UTF-8."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> "CorpusSummary":
        """Read a summary that `to_json` wrote."""
        fields: dict[str, Any] = orjson.loads(text)
        return cls(**fields)


def select_notes(*conditional: tuple[object, str]) -> list[str]:
    """Select the sentences whose condition is true.

    Args:
        conditional: Pairs of a condition and a sentence.
    """
    return [sentence for is_true, sentence in conditional if is_true]


def format_count(number: int, noun: str) -> str:
    """Begin a sentence with a count: '1 image is' or '2 images are'."""
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"


_MAX_CATEGORY_ID = 2**31 - 1  # what the tables hold


def assign_category_ids(given: Mapping[str, int] | None, classes: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Assign the ids that annotations give to classes, from 1 on, because many trainers use 0 for the background.

    Ids of the listing are kept, or all raised by the same number if the lowest is below 1, so that their order and
    gaps stay. If one is too high for the tables of a run, the classes are numbered 1, 2, ... in the order of the ids.

    Args:
        given: The listing's own ids; None if some class has none: the classes are then numbered in sorted order.
        classes: Names of the classes, used if `given` is None.

    Returns:
        Class name to id; and a note if the ids are not the listing's own.
    """
    if not given:
        return {name: number for number, name in enumerate(sorted(classes), start=1)}, []
    lowest, highest = min(given.values()), max(given.values())
    raised = max(0, 1 - lowest)
    if highest + raised > _MAX_CATEGORY_ID:
        order = sorted(given, key=lambda name: (given[name], name))
        note = f"The category id {highest} is too high: the categories are renumbered from 1 in the order of their ids."
        return {name: number for number, name in enumerate(order, start=1)}, [note]
    if not raised:
        return dict(given), []
    return {name: number + raised for name, number in given.items()}, [
        f"The category ids start at {lowest}: all are raised by {raised}, because many trainers use 0 for the "
        "background."
    ]
