"""Which part of a dataset an image belongs to: train, val or test."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mining.corpus.splits import TEST, TRAIN, VAL, canonical_split
from mining.runs.reading import ImageRow

_MOVED = (
    "Images that are listed in several splits, as copies of one photo: {number} were moved out of their split, so that "
    "no photo is both trained on and validated with."
)


@dataclass(frozen=True)
class Split:
    """A rule that puts each image into one of `parts`.

    parts: (train, val), and test where the corpus lists all three.
    listed: part by the corpus' own name for it; empty where the split is drawn by hash.
    lowest, highest: the extreme draws, which make sure that neither part is empty.
    copies: from the name of an image that has copies to the name of the first of them.
    part_of_copies: where the corpus lists the parts, the part of all copies of an image, by that name.
    notes: sentences for a person.
    """

    parts: tuple[str, ...]
    listed: dict[str, str]
    val_share: float
    seed: int
    lowest: float
    highest: float
    copies: Mapping[str, str] = field(default_factory=dict)
    part_of_copies: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def part_of(self, image: ImageRow) -> str:
        """The part of the image; copies of one image are all in the same."""
        first = self.copies.get(image.file_name, image.file_name)
        if self.listed:
            return self.part_of_copies.get(first) or _listed_part(image, self.listed)
        draw = _draw(first, self.seed)
        is_val = draw < self.val_share or (self.val_share > 0 and draw == self.lowest)
        return VAL if is_val and draw != self.highest else TRAIN


def find_split(
    images: Iterable[ImageRow], *, val_share: float, seed: int, copies: Mapping[str, str] | None = None
) -> Split:
    """The corpus' own split where `images` hold train and val or test; else one drawn by hash of the file name.

    Listed test images serve as val where no val is listed; images of any other listed name are train.
    The draw depends on seed and file name only: images added later do not move the others. Of two or more
    images at least one is val (unless val_share is 0) and one is train.
    copies: see `identical_images`. The copies of an image are drawn together. Where the corpus lists some of
    them as train and some as val or test, all are val or test.
    """
    copies = copies or {}
    found, lowest, highest = set[str | None](), 1.0, 0.0
    copied: list[ImageRow] = []
    for image in images:
        if image.file_name in copies:
            copied.append(image)
        draw = _draw(copies.get(image.file_name, image.file_name), seed)
        found.add(canonical_split(image.split))
        lowest, highest = min(lowest, draw), max(highest, draw)
    listed: dict[str, str] = {}
    parts: tuple[str, ...] = (TRAIN, VAL)
    if {TRAIN, VAL, TEST} <= found:
        listed, parts = {VAL: VAL, TEST: TEST}, (TRAIN, VAL, TEST)
    elif TRAIN in found and found & {VAL, TEST}:
        listed = {VAL: VAL, TEST: VAL}
    part_of_copies = _parts_of_copies(copied, copies, listed)
    moved = sum(_listed_part(one, listed) != part_of_copies[copies[one.file_name]] for one in copied) if listed else 0
    notes = (_MOVED.format(number=moved),) if moved else ()
    return Split(parts, listed, val_share, seed, lowest, highest, copies, part_of_copies, notes)


def _parts_of_copies(
    copied: Iterable[ImageRow], copies: Mapping[str, str], listed: Mapping[str, str]
) -> dict[str, str]:
    """The part that is furthest from training of those that the copies of an image are listed in."""
    parts: dict[str, str] = {}
    for image in copied if listed else ():
        first = copies[image.file_name]
        parts[first] = max(parts.get(first, TRAIN), _listed_part(image, listed), key=(TRAIN, VAL, TEST).index)
    return parts


def _listed_part(image: ImageRow, listed: Mapping[str, str]) -> str:
    return listed.get(canonical_split(image.split) or TRAIN, TRAIN)


def _draw(file_name: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}|{file_name}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
