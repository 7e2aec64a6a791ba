"""COCO JSON, streamed: constant memory however many boxes there are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from mining.runs.coco_text import box_texts, image_texts
from mining.runs.reading import BoxRow, ImageRow
from mining.storage.files import atomic_write

# few enough to stay in the processor's cache and under the garbage collector's notice: 20,000 are a third slower
_ENTRIES_AT_ONCE = 1_000
_NO_POLYGONS: list[Any] = []
Piece = tuple[memoryview, int]  # entries as text, with commas between them; how many


def write_coco_json(
    out: Path,
    *,
    corpus: Path,
    annotations: Path,
    categories: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    min_score: float = 0.0,
) -> int:
    """Write the boxes of a run as one COCO file, whole or not at all; gives the number of boxes written.

    corpus, annotations: the Parquet tables of a run. All images that were read are listed, with a box or without;
    quarantined ones and those of unknown size are not.
    categories: {"id": 1, "name": "dog"}, ... as COCO has them.
    info: COCO's info object, written as it is; nothing is added, so the same run gives the same bytes.
    min_score: boxes below it are left out.

    Each annotation holds COCO's fields (bbox [x, y, w, h] in pixels to 1/100, area = w * h, iscrowd 0, segmentation
    []) and score (to 5 digits) and source; a line an entry.
    """
    return _write(
        out, info, categories, map(_joined, image_texts(corpus)), map(_joined, box_texts(annotations, min_score))
    )


def write_document(
    out: Path,
    *,
    info: Mapping[str, Any],
    categories: Sequence[Mapping[str, Any]],
    images: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
) -> int:
    """Write a COCO document from entries that are consumed images first; gives the number of annotations."""
    return _write(out, info, categories, _dumped(images), _dumped(annotations))


def _write(
    out: Path,
    info: Mapping[str, Any],
    categories: Sequence[Mapping[str, Any]],
    images: Iterable[Piece],
    annotations: Iterable[Piece],
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


def _write_array(file: BinaryIO, pieces: Iterable[Piece]) -> int:
    count = 0
    file.write(b"[")
    for text, entries in pieces:
        if entries:
            file.write(b",\n" if count else b"\n")
            file.write(text)
            count += entries
    file.write(b"]")
    return count


def _dumped(entries: Iterable[dict[str, Any]]) -> Iterator[Piece]:
    remaining = iter(entries)
    while chunk := list(islice(remaining, _ENTRIES_AT_ONCE)):
        yield memoryview(orjson.dumps(chunk))[1:-1], len(chunk)


def _joined(texts: pa.Array) -> Piece:
    """Texts that end in a comma and a new line, without the last one's; as they lie in memory."""
    if not len(texts):
        return memoryview(b""), 0
    _, offsets, data = texts.buffers()
    first, last = (memoryview(offsets).cast("i")[at] for at in (texts.offset, texts.offset + len(texts)))
    return memoryview(data)[first : last - len(b",\n")], len(texts)


def image_entry(image: ImageRow) -> dict[str, Any]:
    """An image as COCO lists it."""
    return {"id": image.image_id, "file_name": image.file_name, "width": image.width, "height": image.height}


def annotation_entry(box: BoxRow) -> dict[str, Any]:
    """A box as COCO lists it, with its score and source."""
    annotation_id, image_id, category_id, _, source, score, x0, y0, x1, y1, is_ignored = box
    w, h = round(x1 - x0, 2), round(y1 - y0, 2)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x0, y0, w, h],
        "area": round(w * h, 2),
        "iscrowd": int(is_ignored),
        "segmentation": _NO_POLYGONS,
        "score": score,
        "source": source,
    }
