"""A scan: the listing, sorted and matched with the disk, written as the corpus table."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Literal

from mining.config import NO_LABELS, CorpusSettings, ListedCorpus
from mining.corpus import image_lookup, readers
from mining.corpus.content_hashes import HashCache, open_hash_cache
from mining.corpus.counts import CorpusCounts
from mining.corpus.formats.notes import two_sizes_message
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage
from mining.corpus.schema import PENDING
from mining.corpus.shards import corpus_writer, rows_to_table, write_shard, write_summary
from mining.corpus.splits import match_split
from mining.corpus.sqlite_index import CorpusIndex, open_index
from mining.corpus.summary import CorpusSummary
from mining.errors import CorpusError, did_you_mean

Row = tuple[Any, ...]


def scan(
    images: Path,
    labels: Path | Literal["none"] | None,
    out: Path,
    *,
    split: str | None = None,
    shard_size: int = 256,
    hashes: bool = False,
    hashes_kept: Path | None = None,
    check_files: bool = True,
    min_present: float = 0.0,
    remarks: Sequence[str] = (),
) -> CorpusSummary:
    """List the images and write them to `out` as the corpus table, in constant memory.

    images: the root that file names are relative to. labels: a CSV, a COCO JSON, a folder of VOC XML or of CUB list
    files, which then is the listing; None = class folders where the images lie so; 'none' = no labels at all.
    split: keep only the rows of it. shard_size: rows per row group, the last one may be shorter; shard i is row
    group i. hashes: read every file and fill content_hash. hashes_kept: a file that keeps them, so that next time only
    files that changed are read. check_files: False trusts a label file and looks at no
    image file, so that `bytes` stays null and nothing counts as missing or unlisted. min_present: raise CorpusError
    where a smaller share of the listed images (of the split) is there. remarks: notes to begin with.
    Rows are sorted by file_name; image_id is the COCO id where all rows have one, else 1, 2, ...; all are pending.
    Raises CorpusError for what cannot be used, StorageError when the disk refuses; `out` is there whole or not at all.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1, got {shard_size}")
    root = ImageRoot(images)
    listing = None if labels is None or labels == "none" else Path(labels)
    if listing is not None:
        readers.detect_kind(listing)
    with open_index(out) as table:
        source = readers.read_listing(labels, root, table, split)
        split = _known_split(table, split, listing or root.given)
        notes, unlisted = [*remarks, *source.notes], 0
        if listing is not None and check_files:
            notes += image_lookup.locate_images(table, root, listing, split, min_present)
            unlisted = table.unlisted()
        tally = CorpusCounts()
        rows = _rows(table, root if listing is None or check_files else None, split, tally)
        with corpus_writer(out) as writer, open_hash_cache(root.real, hashes_kept) as known:
            for batch in _batches(rows, shard_size):
                write_shard(writer, rows_to_table(_hashed(batch, known) if hashes else batch))
            summary = tally.summary(source, root, unlisted, notes)
            write_summary(writer, summary)
    return summary


def _known_split(table: CorpusIndex, split: str | None, listing: Path) -> str | None:
    """The split as the listing spells it."""
    if table.is_empty():
        raise CorpusError(f"{listing} names no image. Fill it, or leave --labels out to take every image.")
    if name := table.name_of_two_sizes():
        raise CorpusError(two_sizes_message(listing.name, name))
    if split is None:
        return None
    known = table.splits()
    if not known:
        raise CorpusError(f"{listing} names no splits; leave out --split {split}.")
    found = match_split(split, known)
    if found is None:
        raise CorpusError(f"{listing} has no split {split!r}; {did_you_mean(split, known)}")
    return found


def _rows(table: CorpusIndex, root: ImageRoot | None, split: str | None, tally: CorpusCounts) -> Iterator[Row]:
    """The rows of the corpus table, duplicates merged; root: None = do not look at the files."""
    keeps_ids = table.has_ids()
    by_name = groupby(table.rows(split), key=lambda found: found[0].name)
    for number, (name, same) in enumerate(by_name, start=1):
        (first, is_present), *others = same
        image = _merged(first, [other for other, _ in others], tally) if others else first
        size = root.size_of(name) if root and is_present else None
        tally.add(image, is_missing=root is not None and size is None)
        identity = image.source_id if keeps_ids else number
        yield (identity, name, image.width, image.height, image.labels, image.split, size, None, PENDING)


def _merged(first: ListedImage, others: list[ListedImage], tally: CorpusCounts) -> ListedImage:
    rows = [first, *others]
    known = [row.labels for row in rows if row.labels is not None]
    labels = sorted(set(chain.from_iterable(known)))
    # 'none of them' holds only where every row says so
    is_known = bool(labels) or (bool(known) and len(known) == len(rows))
    sized = next((row for row in rows if row.width is not None), first)
    splits = [row.split for row in rows if row.split is not None]
    tally.repeated += 1
    tally.in_two_splits += len(set(splits)) > 1
    return first._replace(
        labels=labels if is_known else None,
        split=splits[0] if splits else None,
        width=sized.width,
        height=sized.height,
    )


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    stream = iter(rows)
    while batch := list(islice(stream, size)):
        yield batch


def _hashed(batch: list[Row], known: HashCache) -> list[Row]:
    # 7 = content_hash; a file that cannot be read keeps null and is quarantined when it is mined
    digests = known.of([row[1] for row in batch])
    return [(*row[:7], digest, row[8]) for row, digest in zip(batch, digests, strict=True)]


def scan_from_settings(
    settings: CorpusSettings,
    out: Path,
    labels: Path | None,
    shard_size: int = 256,
    hashes_kept: Path | None = None,
    remarks: Sequence[str] = (),
) -> CorpusSummary:
    listing: Path | Literal["none"] | None = "none" if labels == NO_LABELS else labels
    return scan(
        settings.images, listing, out, split=settings.split, shard_size=shard_size,
        hashes=hashes_kept is not None, hashes_kept=hashes_kept, remarks=remarks,
        min_present=settings.min_present if isinstance(settings, ListedCorpus) else 0.0,
    )  # fmt: skip
