"""The rows of a new version, image by image: from runs and from the last version, in constant memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from mining.arrays import Ints
from mining.corpus import read_shard, shard_count
from mining.errors import DamagedPartError
from mining.label_store.data_files import CHECKED_PARQUET
from mining.label_store.delta_table import Version
from mining.label_store.diff import Entry, SnapshotDiff
from mining.label_store.schema import BOX_COLUMNS, IMAGES_OF_A_BUCKET, STORE_SCHEMA
from mining.runs.part_origins import PartOrigins
from mining.runs.run import Run
from mining.runs.shard_files import PART_SCHEMA, part_outcomes, tables_of
from mining.storage.files import storage_errors

ROWS_OF_A_GROUP = 65_536
MOST_BUCKETS = 65_536  # 4 billion images
_OF_THE_ENTRY = ("bucket", "image_id", "file_name", "content_hash", "labels", "split")


def rows_of_run(run: Run, number: int, ledger: SnapshotDiff, corpus: str, settings_sha256: str) -> Iterator[pa.Table]:
    """The rows that the ledger takes from a finished run, shard by shard, in STORE_SCHEMA.

    number: of the run in the ledger. Boxes have no annotation ids yet. Raises DamagedPartError.
    """
    from mining.models.card import read_card

    model, origins = read_card(run.model).weights_sha256, PartOrigins(run)
    for shard in range(shard_count(run.corpus)):
        images = read_shard(run.corpus, shard)
        ids = images["image_id"].to_numpy()
        entries = ledger.entries(number, int(ids[0]), int(ids[-1]))
        if not entries:
            continue
        outcomes = part_outcomes(run.part(shard), origins.of(shard))
        if outcomes is None:
            raise DamagedPartError(run.part(shard))
        (boxes,) = tables_of([run.part(shard)], PART_SCHEMA)
        position = np.searchsorted(ids, [entry.source for entry in entries])
        image, box, entry = _expanded(position, np.searchsorted(ids, boxes["image_id"].to_numpy()), len(ids))
        reasons = pa.array([outcome.reason for outcome in outcomes], pa.string())
        taken = boxes.take(box)
        columns = {
            **_told(entries, entry),
            **{name: images[name].take(image) for name in ("width", "height", "state")},
            "reason": reasons.take(image),
            **{name: taken[name] for name in BOX_COLUMNS if name != "annotation_id"},
            "annotation_id": pa.nulls(len(image), pa.int64()),
        }
        constants = {"corpus": corpus, "run": run.path.name, "settings_sha256": settings_sha256, "model_sha256": model}
        yield _table(columns | {name: _repeated(value, len(image)) for name, value in constants.items()})


def rows_of_version(version: Version, ledger: SnapshotDiff, corpus: str) -> Iterator[pa.Table]:
    """The rows that the ledger takes from the last version: of images that are renamed or copied."""
    for bucket in version.buckets():
        first = bucket * IMAGES_OF_A_BUCKET
        entries = ledger.entries(None, first, first + IMAGES_OF_A_BUCKET - 1)
        if not entries:
            continue
        held = pa.Table.from_batches(version.rows(corpus, buckets=[bucket]), STORE_SCHEMA)
        ids, position = np.unique(held["image_id"].to_numpy(), return_inverse=True)
        _, row, entry = _expanded(np.searchsorted(ids, [one.source for one in entries]), position, len(ids))
        taken = held.take(row)
        keeps = pa.array([one.keeps_ids for one in entries]).take(entry)
        columns = {name: taken[name] for name in STORE_SCHEMA.names} | _told(entries, entry)
        columns["content_hash"] = taken["content_hash"]
        columns["annotation_id"] = pc.if_else(keeps, taken["annotation_id"], pa.scalar(None, pa.int64()))
        yield _table(columns)


def _expanded(position: Ints, owner: Ints, images: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Indices that give each image wanted its boxes, or one row without any.

    position: (n,) of the images wanted. owner: (b,) image of each box, ascending. Gives, a row each, which image,
    which box (null for none) and which of the n.
    """
    counts = np.bincount(owner, minlength=images)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    rows = np.maximum(counts[position], 1)
    entry = np.repeat(np.arange(len(position)), rows)
    within = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    image = position[entry]
    return pa.array(image), pa.array(starts[image] + within, mask=counts[image] == 0), pa.array(entry)


def _told(entries: Sequence[Entry], entry: pa.Array) -> dict[str, pa.Array]:
    """What the entries say of their images, a value a row."""
    values = {
        "bucket": [one.image_id // IMAGES_OF_A_BUCKET for one in entries if one.image_id is not None],
        "image_id": [one.image_id for one in entries],
        "file_name": [one.name for one in entries],
        "content_hash": [one.content_hash for one in entries],
        "labels": [one.labels for one in entries],
        "split": [one.split for one in entries],
    }
    return {name: pa.array(values[name], STORE_SCHEMA.field(name).type).take(entry) for name in _OF_THE_ENTRY}


def _repeated(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)


def _table(columns: dict[str, pa.Array]) -> pa.Table:
    return pa.table([columns[name] for name in STORE_SCHEMA.names], names=STORE_SCHEMA.names).cast(STORE_SCHEMA)


class Changes:
    """The new rows of a version, kept in a folder by bucket until they are published.

    boxes: how many there are. unnumbered: those of them that get new annotation ids.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boxes = 0
        self.unnumbered = 0
        self._written = 0

    def write(self, tables: Iterator[pa.Table]) -> None:
        """Take in rows, as many as there are."""

        def batches() -> Iterator[pa.RecordBatch]:
            for table in tables:
                boxes = len(table) - table["category"].null_count
                self.boxes += boxes
                self.unnumbered += boxes - (len(table) - table["annotation_id"].null_count)
                yield from table.to_batches()

        name = f"{self._written}-{{i}}.parquet"
        self._written += 1
        with storage_errors(self.folder):
            ds.write_dataset(
                batches(), self.folder, schema=STORE_SCHEMA, format=CHECKED_PARQUET, partitioning=["bucket"],
                partitioning_flavor="hive", existing_data_behavior="overwrite_or_ignore", basename_template=name,
                min_rows_per_group=4096, max_rows_per_group=ROWS_OF_A_GROUP, max_partitions=MOST_BUCKETS,
                file_options=CHECKED_PARQUET.make_write_options(write_page_checksum=True),
                use_threads=False,  # which would mix up the boxes of an image
            )  # fmt: skip

    def of(self, bucket: int) -> pa.Table:
        """The rows of a bucket, sorted by image, boxes of an image as they were mined."""
        path = self.folder / f"bucket={bucket}"
        if not path.exists():
            return STORE_SCHEMA.empty_table()
        schema = pa.schema([one for one in STORE_SCHEMA if one.name != "bucket"])
        found = ds.dataset(path, schema=schema, format=CHECKED_PARQUET).to_table()
        column = pa.repeat(pa.scalar(bucket, pa.int32()), len(found))
        return found.add_column(0, STORE_SCHEMA.field("bucket"), column).cast(STORE_SCHEMA).sort_by("image_id")

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Columns of all rows."""
        if self.folder.exists():
            schema = pa.schema([one for one in STORE_SCHEMA if one.name != "bucket"])
            yield from ds.dataset(self.folder, schema=schema, format=CHECKED_PARQUET, partitioning=None).to_batches(
                columns=columns
            )


def new_rows(
    version: Version,
    ledger: SnapshotDiff,
    changes: Changes,
    corpus: str,
    buckets: Sequence[int],
    next_annotation_id: int,
) -> Iterator[pa.RecordBatch]:
    """All rows of the buckets as the next version has them: those that stay, and the changes, sorted by image."""
    for bucket in buckets:
        first = bucket * IMAGES_OF_A_BUCKET
        dropped = pa.array(sorted(ledger.dropped(first, first + IMAGES_OF_A_BUCKET - 1)), pa.int64())
        held = pa.Table.from_batches(version.rows(None, buckets=[bucket]), STORE_SCHEMA)
        is_dropped = pc.and_(pc.equal(held["corpus"], corpus), pc.is_in(held["image_id"], value_set=dropped))
        new = changes.of(bucket)
        is_due = pc.and_(pc.is_valid(new["category"]), pc.is_null(new["annotation_id"])).to_numpy()
        ids = pa.array(next_annotation_id + np.cumsum(is_due) - 1, pa.int64())
        next_annotation_id += int(is_due.sum())
        place = STORE_SCHEMA.get_field_index("annotation_id")
        numbered = pc.if_else(pa.array(is_due), ids, new["annotation_id"])
        new = new.set_column(place, STORE_SCHEMA.field(place), numbered)
        together = pa.concat_tables([held.filter(pc.invert(is_dropped)), new]).combine_chunks()
        yield from together.sort_by("image_id").to_batches(max_chunksize=ROWS_OF_A_GROUP)
