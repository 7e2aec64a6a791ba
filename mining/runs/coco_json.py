"""The one writer of COCO JSON: a stream, so that memory use is independent of the number of boxes.

A run's tables are formatted column by column (`coco_text`), an export's images one by one, because their boxes may come
from ground truth and their images from one part alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from mining.runs.coco_text import box_texts, image_texts
from mining.storage.files import atomic_write

# fits the processor's cache and triggers no garbage collection: 20,000 take a third longer
_ENTRIES_PER_CHUNK = 1_000
Chunk = tuple[memoryview, int]  # text of the entries with commas between them, and their number


def write_coco_json(
    out: Path,
    *,
    corpus: Path,
    annotations: Path,
    categories: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    min_score: float = 0.0,
) -> int:
    """Write the boxes of a run as one COCO file, completely or not at all.

    Each annotation holds COCO's fields (bbox [x, y, w, h] in pixels to 1/100, area = w * h, iscrowd 0, segmentation
    []), the score (to 5 digits) and the source; one entry per line. The same run gives the same bytes.

    Args:
        out: The file.
        corpus: Corpus table of the run. All readable images are listed, with or without a box; quarantined images and
            images of unknown size are not.
        annotations: Table of the boxes.
        categories: COCO's categories, {"id": 1, "name": "dog"}, ...
        info: COCO's info object, written as it is.
        min_score: Boxes with a lower score are left out.

    Returns:
        The number of boxes written.
    """
    return _write(
        out,
        info,
        categories,
        map(_join_lines, image_texts(corpus)),
        map(_join_lines, box_texts(annotations, min_score)),
    )


def write_document(
    out: Path,
    *,
    info: Mapping[str, Any],
    categories: Sequence[Mapping[str, Any]],
    images: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
) -> int:
    """Write a COCO document from its entries; the images are consumed first. Return the number of annotations."""
    return _write(out, info, categories, _dump_entries(images), _dump_entries(annotations))


def _write(
    out: Path,
    info: Mapping[str, Any],
    categories: Sequence[Mapping[str, Any]],
    images: Iterable[Chunk],
    annotations: Iterable[Chunk],
) -> int:
    with atomic_write(out) as temporary, temporary.open("wb") as file:
        file.write(b'{"info":' + orjson.dumps(dict(info), default=str) + b',"licenses":[],"categories":')
        file.write(orjson.dumps([{"supercategory": "", **category} for category in categories]))
        file.write(b',"images":')
        _write_array(file, images)
        file.write(b',"annotations":')
        count = _write_array(file, annotations)
        file.write(b"}\n")
    return count


def _write_array(file: BinaryIO, chunks: Iterable[Chunk]) -> int:
    count = 0
    file.write(b"[")
    for text, entries in chunks:
        if entries:
            file.write(b",\n" if count else b"\n")
            file.write(text)
            count += entries
    file.write(b"]")
    return count


def _dump_entries(entries: Iterable[dict[str, Any]]) -> Iterator[Chunk]:
    remaining = iter(entries)
    while chunk := list(islice(remaining, _ENTRIES_PER_CHUNK)):
        yield memoryview(orjson.dumps(chunk))[1:-1], len(chunk)


def _join_lines(texts: pa.Array) -> Chunk:
    """Join lines without the last comma and line break, as a view of the memory of the array."""
    if not len(texts):
        return memoryview(b""), 0
    _, offsets, data = texts.buffers()
    first, last = (memoryview(offsets).cast("i")[at] for at in (texts.offset, texts.offset + len(texts)))
    return memoryview(data)[first : last - len(b",\n")], len(texts)
