"""Scan the images: read a listing, sort it, match it with the files, and write the corpus table."""

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
from mining.corpus.listing import ListedImage, ListingInfo
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
    """List the images and write the corpus table, atomically and in constant memory.

    Rows are sorted by file name. The image ids are those of a COCO file if all rows have one, else 1, 2, ... All images
    are in the state "pending".

    Args:
        images: The folder that file names are relative to.
        labels: A CSV, a COCO JSON, or a folder of VOC XML or CUB list files, which then is the listing. None lists the
            files below `images`, with folder names as classes where the images lie in class folders; 'none' does so
            without classes.
        out: The Parquet file to write.
        split: Keep only the rows of this split.
        shard_size: Rows per shard, which is a row group; the last shard may be shorter.
        hashes: Compute the SHA-256 of each file for the column content_hash.
        hashes_kept: A file that caches the hashes, so that the next scan reads only files that changed.
        check_files: False trusts the label file and reads no folder: `bytes` stays null, and no image counts as missing
            or unlisted.
        min_present: Smallest share of the listed images (of the split) that must have a file, in 0-1.
        remarks: Notes to put before those of the scan.

    Returns:
        The counts and notes, which are also stored in the table.

    Raises:
        CorpusError: The images or labels cannot be used.
        StorageError: The disk is full, read-only or not writable.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1, got {shard_size}")
    root = ImageRoot(images)
    listing = None if labels is None or labels == "none" else Path(labels)
    if listing is not None:
        readers.detect_kind(listing)
    with open_index(out) as index:
        source = readers.read_listing(labels, root, index, split)
        split = _check_split(index, split, listing or root.given)
        notes, unlisted = [*remarks, *source.notes], 0
        if listing is not None and check_files:
            notes += image_lookup.locate_images(index, root, listing, split, min_present)
            unlisted = index.unlisted()
        counts = CorpusCounts()
        rows = _rows(index, root if listing is None or check_files else None, split, counts)
        with corpus_writer(out) as writer, open_hash_cache(root.real, hashes_kept) as cache:
            for batch in _batches(rows, shard_size):
                write_shard(writer, rows_to_table(_add_hashes(batch, cache) if hashes else batch))
            summary = counts.summarize(source, root, unlisted, notes)
            write_summary(writer, summary)
    return summary


def scan_listed(
    images: Path, listed: Iterable[ListedImage], source: ListingInfo, out: Path, *, shard_size: int = 256
) -> CorpusSummary:
    """Write the corpus table of images that were listed already, as `scan` does.

    Args:
        images: The folder that file names are relative to.
        listed: The images.
        source: The file that lists them, `source.path`, and what was noted while it was read.
        out: The Parquet file to write.
        shard_size: Rows per shard.

    Raises:
        CorpusError: No listed image exists.
        StorageError: The disk is full, read-only or not writable.
    """
    root, listing = ImageRoot(images), source.path
    assert listing is not None
    with open_index(out) as index, corpus_writer(out) as writer:
        index.add_listed(listed)
        _check_split(index, None, listing)
        notes = [*source.notes, *image_lookup.locate_images(index, root, listing, None)]
        counts = CorpusCounts()
        for batch in _batches(_rows(index, root, None, counts), shard_size):
            write_shard(writer, rows_to_table(batch))
        summary = counts.summarize(source, root, index.unlisted(), notes)
        write_summary(writer, summary)
    return summary


def _check_split(index: CorpusIndex, split: str | None, listing: Path) -> str | None:
    """Check the listing as a whole, and return the split as the listing spells it."""
    if index.is_empty():
        raise CorpusError(f"{listing} lists no image. Add rows to it, or leave --labels out to use every image.")
    if name := index.name_of_two_sizes():
        raise CorpusError(two_sizes_message(listing.name, name))
    if split is None:
        return None
    known = index.splits()
    if not known:
        raise CorpusError(f"{listing} has no splits. Leave --split {split} out.")
    found = match_split(split, known)
    if found is None:
        raise CorpusError(f"{listing} has no split {split!r}; {did_you_mean(split, known)}")
    return found


def _rows(index: CorpusIndex, root: ImageRoot | None, split: str | None, counts: CorpusCounts) -> Iterator[Row]:
    """The rows of the corpus table, duplicates merged; without a root, files are not looked up."""
    keeps_ids = index.has_ids()
    by_name = groupby(index.rows(split), key=lambda row: row[0].name)
    for number, (name, same) in enumerate(by_name, start=1):
        (first, is_present), *others = same
        image = _merged(first, [other for other, _ in others], counts) if others else first
        size = root.size_of(name) if root and is_present else None
        counts.add(image, is_missing=root is not None and size is None)
        identity = image.source_id if keeps_ids else number
        yield (identity, name, image.width, image.height, image.labels, image.split, size, None, PENDING)


def _merged(first: ListedImage, others: list[ListedImage], counts: CorpusCounts) -> ListedImage:
    rows = [first, *others]
    known = [row.labels for row in rows if row.labels is not None]
    labels = sorted(set(chain.from_iterable(known)))
    # the image is known to have none of the classes only if every row says so
    is_known = bool(labels) or (bool(known) and len(known) == len(rows))
    sized = next((row for row in rows if row.width is not None), first)
    splits = [row.split for row in rows if row.split is not None]
    counts.repeated += 1
    counts.in_two_splits += len(set(splits)) > 1
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


def _add_hashes(batch: list[Row], cache: HashCache) -> list[Row]:
    # column 7 is content_hash; a file that cannot be read keeps null, and is quarantined when it is mined
    digests = cache.compute([row[1] for row in batch])
    return [(*row[:7], digest, row[8]) for row, digest in zip(batch, digests, strict=True)]


def scan_from_settings(
    settings: CorpusSettings,
    out: Path,
    labels: Path | None,
    shard_size: int = 256,
    hashes_kept: Path | None = None,
    remarks: Sequence[str] = (),
) -> CorpusSummary:
    """Scan the images of a corpus as its settings say.

    Args:
        settings: The corpus.
        out: The Parquet file to write.
        labels: The label file or folder, which may be another than that of the settings.
        shard_size: Rows per shard.
        hashes_kept: Compute content hashes, and cache them in this file; None computes none.
        remarks: Notes to put before those of the scan.

    Raises:
        CorpusError: The images or labels cannot be used.
        StorageError: The disk is full, read-only or not writable.
    """
    listing: Path | Literal["none"] | None = "none" if labels == NO_LABELS else labels
    return scan(
        settings.images, listing, out, split=settings.split, shard_size=shard_size,
        hashes=hashes_kept is not None, hashes_kept=hashes_kept, remarks=remarks,
        min_present=settings.min_present if isinstance(settings, ListedCorpus) else 0.0,
    )  # fmt: skip
