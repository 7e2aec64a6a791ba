"""TODO mining.corpus.listing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class ListingInfo:
    """A listing as a whole.

    kind: a key of KINDS. path: the label file or folder, None where the image folder itself is the listing.
    category_ids: class name -> id where the listing numbers its classes. notes: sentences for a person.
    """

    kind: str
    path: Path | None = None
    category_ids: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)


class ListedImage(NamedTuple):
    """One row of a listing: an image and what the listing says of it; several rows may name one image.

    labels: None = not known, empty = known to have none. width, height: pixels. own_name: another name the image may
    have, that of its own annotation file.
    """

    name: str
    labels: list[str] | None
    split: str | None = None
    source_id: int | None = None
    width: int | None = None
    height: int | None = None
    own_name: str | None = None
