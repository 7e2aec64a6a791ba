"""Find photos that are near-duplicates: changed copies of one photo, or shots that hardly differ.

Pairs whose perceptual hashes are close are candidates; each is compared by aligned thumbnails (`thumbnail_match`).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Any, NamedTuple

import numpy as np

from mining.arrays import Bytes, Float32s, Ints, jit
from mining.corpus.thumbnails import BYTES, SIDE, Thumbnail, iter_thumbnails
from mining.errors import ImageError
from mining.storage.files import storage_errors

MAX_BITS = 16  # of 64 in which the hashes of candidates differ
MAX_CANDIDATES = 16  # per image, those that correlate best at LOW_SIDE
MIN_LOW_CORRELATION = 0.75
LOW_SIDE = 8  # px
_BLOCK_ROWS = 64

Progress = Callable[[int, int], None]


class Pair(NamedTuple):
    """Two near-duplicates: the names of the earlier and of the later image."""

    first: str
    second: str


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates among some images.

    Attributes:
        pairs: The pairs that were found, in the order of the later image.
        copies: From the name of an image that has identical copies to the name of the first of them.
        unreadable: Why an image could not be compared, by name.
    """

    pairs: tuple[Pair, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def groups(self, names: Iterable[str]) -> dict[str, str]:
        """Map each image that has near-duplicates or copies to the first one of its group.

        Images are in one group if a chain of pairs leads from one to the other, so that no pair is in two groups. The
        first and the last of a chain may be unlike.

        Args:
            names: File names in the order by which one is the first.
        """
        above = dict(self.copies)

        def top_of(name: str) -> str:
            while (next_above := above.setdefault(name, name)) != name:
                above[name] = above.get(next_above, next_above)
                name = next_above
            return name

        for first, second in self.pairs:
            above[top_of(second)] = top_of(first)
        first_of: dict[str, str] = {}
        return {name: first_of.setdefault(top_of(name), name) for name in names if name in above}

    def representatives(self) -> dict[str, str]:
        """Map each image that need not be looked at to a near-duplicate of it that stands for it.

        Each one is a near-duplicate of its representative itself: these groups have no chains.
        """
        stands_for: dict[str, str] = {}
        for first, second in self.pairs:
            if first not in stands_for:
                stands_for.setdefault(second, first)
        copies = {name: first for name, first in self.copies.items() if name != first}
        return stands_for | {name: stands_for.get(first, first) for name, first in copies.items()}


def find_near_duplicates(
    root: Path,
    names: Sequence[str],
    *,
    copies: Mapping[str, str] | None = None,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> NearDuplicates:
    """Find the near-duplicates among images; the same images in the same order give the same result.

    An image is compared with the MAX_CANDIDATES earlier ones that are most like it. Images of low contrast are never
    near-duplicates. Mirrored copies are. Memory: about 300 bytes per image, and a temporary file of BYTES per image.

    Args:
        root: The folder of the images.
        names: File names relative to it.
        copies: Identical copies (see `identical_images`), of which only the first one is read.
        workers: Threads; by default one per core, at most eight.
        progress: Called with the number of images that were compared, and their total.

    Raises:
        StorageError: The temporary file cannot be written.
    """
    copies = copies or {}
    distinct = [name for name in names if copies.get(name, name) == name]
    unreadable: dict[str, str] = {}
    pairs: list[Pair] = []
    workers = workers or min(8, os.cpu_count() or 1)
    with TemporaryFile() as file, ThreadPoolExecutor(workers) as pool:
        store = _Store(file, len(distinct))
        progress(0, len(distinct))
        for batch in iter_thumbnails(root, distinct, workers=workers):
            start = len(store)
            for one in batch:
                if isinstance(one, ImageError):
                    name = distinct[len(store)]
                    unreadable[name] = str(one).removeprefix(f"{root / name}: ")
                store.append(None if isinstance(one, ImageError) else one)
            pairs += [Pair(distinct[first], distinct[second]) for first, second in _pairs_from(store, start, pool)]
            progress(len(store), len(distinct))
    return NearDuplicates(tuple(pairs), copies, unreadable)


class _Store:
    """The thumbnails of n images in a file, and what candidates are found by in memory.

    Attributes:
        hashes: (n, 2) uint64.
        low: (n, LOW_SIDE^2) float32 grey values, of zero mean and norm 1; 0 for an image without contrast.
    """

    def __init__(self, file: Any, count: int) -> None:
        self._file = file
        self._count = 0
        self.hashes = np.zeros((count, 2), np.uint64)
        self.low = np.zeros((count, LOW_SIDE * LOW_SIDE), np.float32)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Thumbnail:
        return Thumbnail.from_bytes(os.pread(self._file.fileno(), BYTES, place * BYTES))

    def append(self, thumbnail: Thumbnail | None) -> None:
        """Add the next image; None for one that could not be read, which is no candidate."""
        if thumbnail is not None:
            with storage_errors(Path(gettempdir())):
                os.pwrite(self._file.fileno(), thumbnail.to_bytes(), self._count * BYTES)
            self.hashes[self._count] = thumbnail.hashes
            self.low[self._count] = _low(thumbnail.luma)
        self._count += 1


def _low(luma: Bytes) -> Float32s:
    step = SIDE // LOW_SIDE
    means = luma.reshape(LOW_SIDE, step, LOW_SIDE, step).mean(axis=(1, 3), dtype=np.float32).ravel()
    means -= means.mean()
    norm = float(np.linalg.norm(means))
    return means / norm if norm > LOW_SIDE else np.zeros_like(means)  # a standard deviation of a grey level


def _pairs_from(store: _Store, start: int, pool: ThreadPoolExecutor) -> Iterator[tuple[int, int]]:
    """Yield the near-duplicates of the images from a place on, with earlier ones."""
    from mining.corpus.thumbnail_match import show_same_photo

    def check(candidate: tuple[int, int, bool]) -> bool:
        first, second, is_mirrored = candidate
        return show_same_photo(store[second], store[first], is_mirrored=is_mirrored)

    def candidates_of(first: int) -> list[tuple[int, int, bool]]:
        return list(_candidates(store, first, min(_BLOCK_ROWS, len(store) - first)))

    blocks = pool.map(candidates_of, range(start, len(store), _BLOCK_ROWS))
    candidates = [one for block in blocks for one in block]
    last = None
    for (first, second, _), is_same in zip(candidates, pool.map(check, candidates), strict=True):
        if is_same and (first, second) != last:  # an image may fit a symmetric one both ways
            yield first, second
            last = first, second


def _candidates(store: _Store, start: int, rows: int) -> Iterator[tuple[int, int, bool]]:
    """Places of an earlier and a later image, and whether the earlier one is mirrored; the later ones of a block."""
    places = np.full((rows, MAX_CANDIDATES), -1, np.int64)
    _nearest(store.hashes, store.low, start, places, np.zeros((rows, MAX_CANDIDATES), np.float32))
    for row in range(rows):
        for code in sorted(places[row][places[row] >= 0].tolist()):
            yield code // 2, start + row, bool(code % 2)


@jit
def _nearest(hashes: Any, low: Float32s, start: int, places: Ints, scores: Float32s) -> None:
    """Find, for each image from `start` on, the earlier ones that are most like it: 2 x place, plus 1 if mirrored."""
    side = LOW_SIDE
    for row in range(places.shape[0]):
        own = start + row
        kept = 0
        worst = 0
        for place in range(own):
            for mirrored in range(2):
                bits = hashes[own, 0] ^ hashes[place, mirrored]
                bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
                bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
                bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                if (bits * np.uint64(0x0101010101010101)) >> np.uint64(56) > np.uint64(MAX_BITS):
                    continue
                score = np.float32(0.0)
                for cell in range(side * side):
                    other = cell // side * side + side - 1 - cell % side if mirrored else cell
                    score += low[own, cell] * low[place, other]
                if score < MIN_LOW_CORRELATION:
                    continue
                if kept < places.shape[1]:
                    places[row, kept] = 2 * place + mirrored
                    scores[row, kept] = score
                    kept += 1
                elif score > scores[row, worst]:
                    places[row, worst] = 2 * place + mirrored
                    scores[row, worst] = score
                if kept == places.shape[1]:
                    worst = 0
                    for slot in range(1, kept):
                        if scores[row, slot] < scores[row, worst]:
                            worst = slot


def count_groups(groups: Mapping[str, str], names: Iterable[str]) -> tuple[int, int]:
    """Count groups of which two or more of the named images are members.

    Args:
        groups: See `NearDuplicates.groups`.
        names: Names of images.

    Returns:
        Number of such groups, and of the named images in them.
    """
    members: dict[str, int] = {}
    for name in names:
        if name in groups:
            members[groups[name]] = members.get(groups[name], 0) + 1
    several = [number for number in members.values() if number > 1]
    return len(several), sum(several)
