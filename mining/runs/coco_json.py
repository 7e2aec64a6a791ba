"""Write COCO JSON as a stream: memory use does not depend on the number of boxes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from mining.runs.coco_text import box_texts, image_texts
from mining.runs.reading import BoxRow, ImageRow
from mining.storage.files import whole_file

# small enough for the processor's cache and the garbage collector's youngest generation: 20,000 are a third slower
_ENTRIES_PER_CHUNK = 1_000
_NO_POLYGONS: list[Any] = []
Piece = tuple[memoryview, int]  # entries as text, separated by commas, and their number


def write_coco_json(
    out: Path,
    *,
    corpus: Path,
    annotations: Path,
    categories: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    min_score: float = 0.0,
) -> int:
    """Write the boxes of a run as one COCO file, atomically.

    Each annotation has COCO's fields (bbox [x, y, w, h] in pixels to 1/100, area = w * h, iscrowd 0, segmentation
    []), the score (to 5 digits) and the source; one entry per line.

    Args:
        out: The file to write.
        corpus: The run's corpus table. Images that could be read are listed, with or without boxes; quarantined images
            and those of unknown size are not.
        annotations: The run's annotation table.
        categories: COCO's categories: {"id": 1, "name": "dog"}, ...
        info: COCO's info object. Nothing is added to it, so the same run gives the same bytes.
        min_score: Boxes that score less are left out.

    Returns:
        The number of boxes written.
    """
    return _write(
        out, info, categories, map(_text_of, image_texts(corpus)), map(_text_of, box_texts(annotations, min_score))
    )


def write_document(
    out: Path,
    *,
    info: Mapping[str, Any],
    categories: Sequence[Mapping[str, Any]],
    images: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
) -> int:
    """Write a COCO document from entries; the images are consumed first. Returns the number of annotations."""
    return _write(out, info, categories, _dump_chunks(images), _dump_chunks(annotations))


def _write(
    out: Path,
    info: Mapping[str, Any],
    categories: Sequence[Mapping[str, Any]],
    images: Iterable[Piece],
    annotations: Iterable[Piece],
) -> int:
    with whole_file(out) as temporary, temporary.open("wb") as file:
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


def _dump_chunks(entries: Iterable[dict[str, Any]]) -> Iterator[Piece]:
    remaining = iter(entries)
    while chunk := list(islice(remaining, _ENTRIES_PER_CHUNK)):
        yield memoryview(orjson.dumps(chunk))[1:-1], len(chunk)


def _text_of(texts: pa.Array) -> Piece:
    """Return the memory of strings that each end in a comma and a newline, without the last comma and newline."""
    if not len(texts):
        return memoryview(b""), 0
    _, offsets, data = texts.buffers()
    first, last = (memoryview(offsets).cast("i")[at] for at in (texts.offset, texts.offset + len(texts)))
    return memoryview(data)[first : last - len(b",\n")], len(texts)


def image_entry(image: ImageRow) -> dict[str, Any]:
    """Return an image as an entry of COCO's `images`."""
    return {"id": image.image_id, "file_name": image.file_name, "width": image.width, "height": image.height}


def annotation_entry(box: BoxRow) -> dict[str, Any]:
    """Return a box as an entry of COCO's `annotations`, with its score and source."""
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
