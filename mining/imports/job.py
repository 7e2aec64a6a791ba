"""Import the boxes that another tool made, as a finished run directory."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mining.config import MineSettings, parse
from mining.corpus.image_root import check_output_outside_images
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.scanner import scan_listed
from mining.corpus.schema import LABELLED, NO_BOX, QUARANTINE_SCHEMA, QUARANTINED
from mining.corpus.shards import CorpusUpdate, iter_shards, update_corpus
from mining.imports.checked_boxes import PlacedBoxes, check_sizes, match_rows, place_boxes
from mining.imports.coco_boxes import CocoBoxes, read_coco_boxes
from mining.imports.pictures import Picture, read_pictures
from mining.models.card import CARD_FILE, FORMAT, IMPORTED, ModelCard
from mining.runs.box_warnings import warn_of_boxes
from mining.runs.coco_json import write_coco_json
from mining.runs.mining_job import summary_of
from mining.runs.record import FORMAT as RUN_FORMAT
from mining.runs.run import DIGESTED_FILES, Run
from mining.runs.schema import ANNOTATION_SCHEMA
from mining.runs.shard_files import table_writer
from mining.runs.summaries import MineSummary
from mining.storage.files import sha256_of, write_json
from mining.storage.folders import atomic_folder, refuse_occupied_folder
from mining.storage.integrity import DIGESTS, compute_digests
from mining.storage.provenance import package_versions, utc_now

ProgressCallback = Callable[[int, int], None]
_REMEDY = "Look at some with `boxmine report`."
_INPUT_SIZE = 1  # of a card without a model


def import_boxes(
    coco: Path,
    images: Path,
    out: Path,
    *,
    dataset: Path | None = None,
    progress: ProgressCallback = lambda done, total: None,
) -> MineSummary:
    """Write the boxes of a COCO file as a finished run, so that all that reads runs serves them.

    The run has no model, curves and rankings; the columns of its boxes that mining measures are NaN or null. The labels
    of its images are not known.

    Args:
        coco: COCO data set, with or without scores, or COCO results list.
        images: Folder of the images.
        out: Run directory; a new or empty folder. It is filled completely or not at all.
        dataset: COCO data set whose images and categories a results list refers to.
        progress: Called with the number of images read so far and their total.

    Returns:
        Counts, notes on what was left out, and why images could not be used.

    Raises:
        InputError: The file, or `out`, cannot be used; see `read_coco_boxes`.
        CorpusError: The COCO file is missing or damaged, or all of its images are missing.
        ScoringError: The boxes are clearly not x, y, width, height in pixels.
        StorageError: The disk refuses.
    """
    out = Path(os.path.abspath(out))
    refuse_occupied_folder(out)
    check_output_outside_images(out, images)
    boxes = read_coco_boxes(Path(coco), None if dataset is None else Path(dataset))
    settings = parse(MineSettings, {"images": images, "model": str(out / "model"), "out": out})
    with atomic_folder(out) as temporary:
        _write_run(Run(temporary), boxes, settings, progress)
    return summary_of(Run(out))


def _write_run(run: Run, boxes: CocoBoxes, settings: MineSettings, progress: ProgressCallback) -> None:
    began, started = time.monotonic(), utc_now()
    source = ListingInfo("coco", boxes.listing, boxes.category_ids, list(boxes.notes))
    ids = scan_listed(settings.images, _listed(boxes), source, run.corpus).category_ids
    classes = [{"id": ids[name], "name": name} for name in boxes.classes]
    card = ModelCard(IMPORTED, IMPORTED, "multi", classes, _INPUT_SIZE, normalisation={})
    run.model.mkdir()
    write_json(run.model / CARD_FILE, {"format": FORMAT, **card.to_record()})

    names = [name for shard in iter_shards(run.corpus) for name in shard["file_name"].to_pylist()]
    pictures = list(_read_in_batches(settings.images, names, progress))
    rows = match_rows(boxes, names, settings.images)
    pictures, size_notes = check_sizes(boxes, rows, pictures)
    placed, box_notes = place_boxes(boxes, rows, pictures)
    notes = [*size_notes, *box_notes, *boxes.left_out.notes(), *_note_on_none(boxes, placed)]
    states = _write_tables(run, pictures, placed, classes, notes)

    info = {"description": f"boxes of {boxes.path.name}", "version": package_versions()["boxmine"]}
    write_coco_json(run.coco, corpus=run.corpus, annotations=run.annotations, categories=classes, info=info)
    run.update(
        format=RUN_FORMAT, name=settings.out.name, state="finished",
        config=settings.model_dump(mode="json", include={"images", "model", "out"}), inputs=_fingerprint(boxes),
        versions=package_versions(), started=started, finished=utc_now(), used={"localizer": IMPORTED},
        seconds={"mining": 0, "finishing": round(time.monotonic() - began, 2)},
        counts={"images": len(names), "boxes": len(placed.row), "classes": len(classes), "states": dict(states)},
        timing=None, warnings=warn_of_boxes(run.annotations, _REMEDY),
        **{DIGESTS: compute_digests(run.path, DIGESTED_FILES)},
    )  # fmt: skip


def _listed(boxes: CocoBoxes) -> Iterator[ListedImage]:
    for image, size in zip(boxes.images, boxes.sizes.tolist(), strict=True):
        width, height = (int(side) if np.isfinite(side) else None for side in size)
        yield ListedImage(image.name, None, None, image.number, width, height)


def _fingerprint(boxes: CocoBoxes) -> dict[str, str]:
    """The files that the boxes are from, with their SHA-256."""
    files = {"boxes": boxes.path} if boxes.listing == boxes.path else {"boxes": boxes.path, "dataset": boxes.listing}
    digests = {f"{name}_sha256": sha256_of(path) for name, path in files.items()}
    return {name: os.path.abspath(path) for name, path in files.items()} | digests


def _read_in_batches(root: Path, names: list[str], progress: ProgressCallback, size: int = 256) -> Iterator[Picture]:
    progress(0, len(names))
    for start in range(0, len(names), size):
        yield from read_pictures(root, names[start : start + size])
        progress(min(start + size, len(names)), len(names))


def _note_on_none(boxes: CocoBoxes, placed: PlacedBoxes) -> list[str]:
    return [] if len(placed.row) else [f"{boxes.path.name} has no box that could be imported."]


# --- tables ----------------------------------------------------------------------------------------------------------


def _write_tables(
    run: Run, pictures: list[Picture], placed: PlacedBoxes, classes: list[dict[str, Any]], notes: list[str]
) -> Counter[str]:
    """Write boxes, quarantine and the corpus' states; return the number of images by state."""
    states: Counter[str] = Counter()
    with (
        table_writer(run.annotations, ANNOTATION_SCHEMA) as add_boxes,
        table_writer(run.quarantine, QUARANTINE_SCHEMA) as add_quarantined,
    ):

        def changes() -> Iterator[dict[int, CorpusUpdate]]:
            first = 0
            for shard in iter_shards(run.corpus):
                of_shard = pictures[first : first + len(shard)]
                low, high = np.searchsorted(placed.row, [first, first + len(shard)])
                add_boxes(_box_table(shard, of_shard, placed, slice(low, high), first, classes))
                add_quarantined(_quarantine_table(shard, of_shard))
                has_box = np.bincount(placed.row[low:high] - first, minlength=len(shard)) > 0
                updates = list(map(_update, of_shard, has_box.tolist()))
                states.update(update.state for update in updates)
                yield dict(zip(shard["image_id"].to_pylist(), updates, strict=True))
                first += len(shard)

        update_corpus(run.corpus, run.corpus, changes(), notes)
    return states


def _update(picture: Picture, has_box: bool) -> CorpusUpdate:
    state = QUARANTINED if picture.reason is not None else LABELLED if has_box else NO_BOX
    return CorpusUpdate(state, picture.width, picture.height, picture.content_hash)


def _quarantine_table(shard: pa.Table, pictures: list[Picture]) -> pa.Table:
    rows = zip(shard["image_id"].to_pylist(), shard["file_name"].to_pylist(), pictures, strict=True)
    unusable = [
        {"image_id": image_id, "file_name": name, "reason": picture.reason}
        for image_id, name, picture in rows
        if picture.reason is not None
    ]
    return pa.Table.from_pylist(unusable, schema=QUARANTINE_SCHEMA)


def _box_table(
    shard: pa.Table, pictures: list[Picture], placed: PlacedBoxes, part: slice, first: int,
    classes: list[dict[str, Any]],
) -> pa.Table:  # fmt: skip
    """The boxes of one shard of the corpus; what was not measured is NaN, or null where the column allows it."""
    image = placed.row[part] - first
    category = placed.category[part].tolist()
    xywh = placed.xywh[part].astype(np.float32)
    count = len(image)
    of_image = shard.take(pa.array(image))
    sides = np.array([(one.width or 0, one.height or 0) for one in pictures], np.int32).reshape(-1, 2)[image]
    values: dict[str, Any] = {
        "annotation_id": np.arange(part.start + 1, part.start + 1 + count),
        "image_id": of_image["image_id"], "file_name": of_image["file_name"],
        "width": sides[:, 0], "height": sides[:, 1],
        "category_id": [classes[place]["id"] for place in category],
        "category": [classes[place]["name"] for place in category],
        **{side: xywh[:, place] for place, side in enumerate("xywh")}, "area": xywh[:, 2] * xywh[:, 3],
        "score": placed.scores[part].astype(np.float32), "scales": [[]] * count, "localizer": [IMPORTED] * count,
        "model_sha256": [""] * count, "merged_from": np.ones(count, np.int32), "source": [IMPORTED] * count,
    }  # fmt: skip
    return pa.table([_column(field, values, count) for field in ANNOTATION_SCHEMA], schema=ANNOTATION_SCHEMA)


def _column(field: pa.Field, values: dict[str, Any], count: int) -> Any:
    if field.name in values:
        found = values[field.name]
        return found if isinstance(found, pa.ChunkedArray) else pa.array(found, field.type)
    return pa.nulls(count, field.type) if field.nullable else pa.array(np.full(count, np.nan), field.type)
