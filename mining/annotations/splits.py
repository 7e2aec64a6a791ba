"""Which part of a dataset an image belongs to: train, val or test."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from mining.annotations.reading import ImageRow
from mining.corpus.splits import TEST, TRAIN, VAL, split_part


@dataclass(frozen=True)
class Split:
    """A rule that puts each image into one of `parts`.

    parts: (train, val), and test where the corpus lists all three.
    listed: part by the corpus' own name for it; empty where the split is drawn by hash.
    lowest, highest: the extreme draws, which make sure that neither part is empty.
    """

    parts: tuple[str, ...]
    listed: dict[str, str]
    val_share: float
    seed: int
    lowest: float
    highest: float

    def part_of(self, image: ImageRow) -> str:
        if self.listed:
            return self.listed.get(split_part(image.split) or TRAIN, TRAIN)
        draw = _draw(image.file_name, self.seed)
        is_val = draw < self.val_share or (self.val_share > 0 and draw == self.lowest)
        return VAL if is_val and draw != self.highest else TRAIN


def find_split(images: Iterable[ImageRow], *, val_share: float, seed: int) -> Split:
    """The corpus' own split where `images` hold train and val or test; else one drawn by hash of the file name.

    Listed test images serve as val where no val is listed; images of any other listed name are train.
    The draw depends on seed and file name only: images added later do not move the others. Of two or more
    images at least one is val (unless val_share is 0) and one is train.
    """
    found, lowest, highest = set[str | None](), 1.0, 0.0
    for image in images:
        draw = _draw(image.file_name, seed)
        found.add(split_part(image.split))
        lowest, highest = min(lowest, draw), max(highest, draw)
    listed: dict[str, str] = {}
    parts: tuple[str, ...] = (TRAIN, VAL)
    if {TRAIN, VAL, TEST} <= found:
        listed, parts = {VAL: VAL, TEST: TEST}, (TRAIN, VAL, TEST)
    elif TRAIN in found and found & {VAL, TEST}:
        listed = {VAL: VAL, TEST: VAL}
    return Split(parts, listed, val_share, seed, lowest, highest)


def _draw(file_name: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}|{file_name}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
