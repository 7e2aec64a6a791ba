"""Assign each image of a dataset to a part: train, val or test."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mining.corpus.splits import TEST, TRAIN, VAL, canonical_split
from mining.runs.rows import ImageRow

_MOVED = (
    "Identical or near-duplicate images that are listed in several splits: {number} were moved to another part, so "
    "that no image is used both for training and for validation."
)
_TOO_LARGE = (
    "Groups of near-duplicates that have more images than the validation share, and so are all in train: {number}, the "
    "largest with {largest} images."
)


@dataclass(frozen=True)
class Split:
    """A rule that assigns each image to one of `parts`.

    Attributes:
        parts: (train, val), and test if the corpus lists all three.
        listed: Part by the corpus' name for it; empty if the split is drawn by hash.
        val_share: Share of validation images of a drawn split.
        seed: Seed of a drawn split.
        lowest: Lowest draw of all images, which is always in val, so that val is not empty.
        highest: Highest draw of all images, which is always in train, so that train is not empty.
        copies: From the name of an image that has copies or near-duplicates to the name of the first of its group.
        part_of_copies: If the corpus lists the parts, the part of all images of a group, by that first name.
        too_large: If the split is drawn, the first names of groups that are always in train.
        notes: Remarks for a person.
    """

    parts: tuple[str, ...]
    listed: dict[str, str]
    val_share: float
    seed: int
    lowest: float
    highest: float
    copies: Mapping[str, str] = field(default_factory=dict)
    part_of_copies: Mapping[str, str] = field(default_factory=dict)
    too_large: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def part_of(self, image: ImageRow) -> str:
        """Return the part of the image; those of a group of copies are in the same part."""
        first = self.copies.get(image.file_name, image.file_name)
        if self.listed:
            return self.part_of_copies.get(first) or _listed_part(image, self.listed)
        if first in self.too_large:
            return TRAIN
        draw = _draw(first, self.seed)
        is_val = draw < self.val_share or (self.val_share > 0 and draw == self.lowest)
        return VAL if is_val and draw != self.highest else TRAIN


def find_split(
    images: Iterable[ImageRow], *, val_share: float, seed: int, copies: Mapping[str, str] | None = None
) -> Split:
    """Return the corpus' own split if it lists train and val or test; else one drawn by hash of the file name.

    Listed test images serve as val if no val is listed; images of any other listed name are train. A draw depends on
    seed and file name alone, so that images added later do not move the others. Of two or more images at least one is
    val (unless val_share is 0) and one is train. A group of copies that is larger than the validation set is train.

    Args:
        images: The images.
        val_share: Share of validation images of a drawn split; in [0, 1).
        seed: Seed of a drawn split.
        copies: Groups of copies or near-duplicates (see `mining.corpus.near_duplicates`), which are assigned together.
            If the corpus lists some of a group as train and some as val or test, all are val or test.
    """
    copies = copies or {}
    found, lowest, highest = set[str | None](), 1.0, 0.0
    copied: list[ImageRow] = []
    single = 0
    for image in images:
        found.add(canonical_split(image.split))
        if image.file_name in copies:
            copied.append(image)
            continue
        draw = _draw(image.file_name, seed)
        single += 1
        lowest, highest = min(lowest, draw), max(highest, draw)
    sizes = Counter(copies[image.file_name] for image in copied)
    smallest = 1 if single or not sizes else min(sizes.values())
    most = max(smallest, val_share * (single + len(copied)))
    too_large = frozenset(first for first, size in sizes.items() if size > most)
    draws = [_draw(first, seed) for first in sizes if first not in too_large]
    lowest, highest = min([lowest, *draws]), 2.0 if too_large else max([highest, *draws])
    listed: dict[str, str] = {}
    parts: tuple[str, ...] = (TRAIN, VAL)
    if {TRAIN, VAL, TEST} <= found:
        listed, parts = {VAL: VAL, TEST: TEST}, (TRAIN, VAL, TEST)
    elif TRAIN in found and found & {VAL, TEST}:
        listed = {VAL: VAL, TEST: VAL}
    part_of_copies = _parts_of_copies(copied, copies, listed)
    moved = sum(_listed_part(one, listed) != part_of_copies[copies[one.file_name]] for one in copied) if listed else 0
    notes = (_MOVED.format(number=moved),) if moved else ()
    if too_large and not listed and val_share > 0:
        largest = max(sizes[first] for first in too_large)
        notes = (*notes, _TOO_LARGE.format(number=len(too_large), largest=largest))
    return Split(parts, listed, val_share, seed, lowest, highest, copies, part_of_copies, too_large, notes)


def _parts_of_copies(
    copied: Iterable[ImageRow], copies: Mapping[str, str], listed: Mapping[str, str]
) -> dict[str, str]:
    """The part of an image's copies: of those in which they are listed, the one furthest from training."""
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
