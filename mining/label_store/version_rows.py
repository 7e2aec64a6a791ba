"""Build the rows of the next version from runs and from the last version; memory use is independent of corpus size."""

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
from mining.label_store.schema import BOX_COLUMNS, IMAGES_PER_BUCKET, STORE_SCHEMA
from mining.models.card import read_card
from mining.runs.part_origins import PartOrigins
from mining.runs.run import Run
from mining.runs.shard_files import PART_SCHEMA, part_outcomes, tables_of
from mining.storage.files import storage_errors

MAX_ROWS_PER_GROUP = 65_536
MAX_BUCKETS = 65_536  # 4 billion images
_ENTRY_COLUMNS = ("bucket", "image_id", "file_name", "content_hash", "labels", "split")
_FILE_SCHEMA = pa.schema([field for field in STORE_SCHEMA if field.name != "bucket"])


def rows_of_run(run: Run, number: int, diff: SnapshotDiff, corpus: str, settings_sha256: str) -> Iterator[pa.Table]:
    """Yield the rows that the next version takes from a finished run, shard by shard, in STORE_SCHEMA.

    Boxes have no annotation ids yet.

    Args:
        run: The run.
        number: Number of the run in the comparison.
        diff: The comparison.
        corpus: Name of the corpus.
        settings_sha256: Digest of the run's settings.

    Raises:
        DamagedPartError: A part of the run is damaged.
    """
    model, origins = read_card(run.model).weights_sha256, PartOrigins(run)
    for shard in range(shard_count(run.corpus)):
        images = read_shard(run.corpus, shard)
        ids = images["image_id"].to_numpy()
        entries = diff.entries(number, int(ids[0]), int(ids[-1]))
        if not entries:
            continue
        outcomes = part_outcomes(run.part(shard), origins.of(shard))
        if outcomes is None:
            raise DamagedPartError(run.part(shard))
        (boxes,) = tables_of([run.part(shard)], PART_SCHEMA)
        position = np.searchsorted(ids, [entry.source for entry in entries])
        box_owner = np.searchsorted(ids, boxes["image_id"].to_numpy())
        image_index, box_index, entry_index = _row_indices(position, box_owner, len(ids))
        reasons = pa.array([outcome.reason for outcome in outcomes], pa.string())
        taken = boxes.take(box_index)
        columns = {
            **_entry_columns(entries, entry_index),
            **{name: images[name].take(image_index) for name in ("width", "height", "state")},
            "reason": reasons.take(image_index),
            **{name: taken[name] for name in BOX_COLUMNS if name != "annotation_id"},
            "annotation_id": pa.nulls(len(image_index), pa.int64()),
        }
        constants = {"corpus": corpus, "run": run.path.name, "settings_sha256": settings_sha256, "model_sha256": model}
        repeated = {name: pa.repeat(pa.scalar(value), len(image_index)) for name, value in constants.items()}
        yield _store_table(columns | repeated)


def rows_of_version(version: Version, diff: SnapshotDiff, corpus: str) -> Iterator[pa.Table]:
    """Yield the rows that the next version takes from the last one: of images that were renamed, moved or copied."""
    for bucket in version.buckets():
        first = bucket * IMAGES_PER_BUCKET
        entries = diff.entries(None, first, first + IMAGES_PER_BUCKET - 1)
        if not entries:
            continue
        table = pa.Table.from_batches(version.rows(corpus, buckets=[bucket]), STORE_SCHEMA)
        ids, row_owner = np.unique(table["image_id"].to_numpy(), return_inverse=True)
        position = np.searchsorted(ids, [entry.source for entry in entries])
        _, row_index, entry_index = _row_indices(position, row_owner, len(ids))
        taken = table.take(row_index)
        keeps_ids = pa.array([entry.keeps_ids for entry in entries]).take(entry_index)
        columns = {name: taken[name] for name in STORE_SCHEMA.names} | _entry_columns(entries, entry_index)
        columns["content_hash"] = taken["content_hash"]
        columns["annotation_id"] = pc.if_else(keeps_ids, taken["annotation_id"], pa.scalar(None, pa.int64()))
        yield _store_table(columns)


def _row_indices(position: Ints, owner: Ints, image_count: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Indices that give each wanted image one row per box, or one row if it has no box.

    Args:
        position: (n,) indices of the wanted images.
        owner: (b,) index of each box's image, ascending.
        image_count: Number of images.

    Returns:
        Per row: index of the image, index of the box (null if there is none), index into `position`.
    """
    counts = np.bincount(owner, minlength=image_count)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    rows = np.maximum(counts[position], 1)
    entry = np.repeat(np.arange(len(position)), rows)
    within = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    image = position[entry]
    return pa.array(image), pa.array(starts[image] + within, mask=counts[image] == 0), pa.array(entry)


def _entry_columns(entries: Sequence[Entry], entry_index: pa.Array) -> dict[str, pa.Array]:
    values = {
        "bucket": [entry.image_id // IMAGES_PER_BUCKET for entry in entries if entry.image_id is not None],
        "image_id": [entry.image_id for entry in entries],
        "file_name": [entry.name for entry in entries],
        "content_hash": [entry.content_hash for entry in entries],
        "labels": [entry.labels for entry in entries],
        "split": [entry.split for entry in entries],
    }
    return {name: pa.array(values[name], STORE_SCHEMA.field(name).type).take(entry_index) for name in _ENTRY_COLUMNS}


def _store_table(columns: dict[str, pa.Array]) -> pa.Table:
    return pa.table([columns[name] for name in STORE_SCHEMA.names], names=STORE_SCHEMA.names).cast(STORE_SCHEMA)


class Changes:
    """The new rows of a version, kept in a folder by bucket until they are published.

    Attributes:
        folder: Where they are kept.
        boxes: Number of boxes.
        unnumbered: Number of boxes that get new annotation ids.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder that does not exist yet."""
        self.folder = folder
        self.boxes = 0
        self.unnumbered = 0
        self._writes = 0

    def write(self, tables: Iterator[pa.Table]) -> None:
        """Add rows in STORE_SCHEMA."""

        def batches() -> Iterator[pa.RecordBatch]:
            for table in tables:
                boxes = len(table) - table["category"].null_count
                self.boxes += boxes
                self.unnumbered += boxes - (len(table) - table["annotation_id"].null_count)
                yield from table.to_batches()

        name = f"{self._writes}-{{i}}.parquet"
        self._writes += 1
        with storage_errors(self.folder):
            ds.write_dataset(
                batches(), self.folder, schema=STORE_SCHEMA, format=CHECKED_PARQUET, partitioning=["bucket"],
                partitioning_flavor="hive", existing_data_behavior="overwrite_or_ignore", basename_template=name,
                min_rows_per_group=4096, max_rows_per_group=MAX_ROWS_PER_GROUP, max_partitions=MAX_BUCKETS,
                file_options=CHECKED_PARQUET.make_write_options(write_page_checksum=True),
                use_threads=False,  # threads would change the order of an image's boxes
            )  # fmt: skip

    def of_bucket(self, bucket: int) -> pa.Table:
        """Return the rows of a bucket, sorted by image; boxes of an image are in the order in which they were mined."""
        path = self.folder / f"bucket={bucket}"
        if not path.exists():
            return STORE_SCHEMA.empty_table()
        table = ds.dataset(path, schema=_FILE_SCHEMA, format=CHECKED_PARQUET).to_table()
        column = pa.repeat(pa.scalar(bucket, pa.int32()), len(table))
        return table.add_column(0, STORE_SCHEMA.field("bucket"), column).cast(STORE_SCHEMA).sort_by("image_id")

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield columns of all rows."""
        if self.folder.exists():
            dataset = ds.dataset(self.folder, schema=_FILE_SCHEMA, format=CHECKED_PARQUET, partitioning=None)
            yield from dataset.to_batches(columns=columns)


def rows_of_next_version(
    version: Version,
    diff: SnapshotDiff,
    changes: Changes,
    corpus: str,
    buckets: Sequence[int],
    next_annotation_id: int,
) -> Iterator[pa.RecordBatch]:
    """Yield all rows of some buckets in the next version, sorted by image: those that are kept, and the changes.

    Args:
        version: The last version.
        diff: The comparison.
        changes: The new rows.
        corpus: Name of the corpus that changes.
        buckets: The buckets.
        next_annotation_id: First free annotation id; new boxes are numbered from here on.
    """
    place = STORE_SCHEMA.get_field_index("annotation_id")
    for bucket in buckets:
        first = bucket * IMAGES_PER_BUCKET
        dropped = pa.array(sorted(diff.dropped(first, first + IMAGES_PER_BUCKET - 1)), pa.int64())
        previous = pa.Table.from_batches(version.rows(None, buckets=[bucket]), STORE_SCHEMA)
        is_dropped = pc.and_(pc.equal(previous["corpus"], corpus), pc.is_in(previous["image_id"], value_set=dropped))
        new = changes.of_bucket(bucket)
        is_unnumbered = pc.and_(pc.is_valid(new["category"]), pc.is_null(new["annotation_id"])).to_numpy()
        ids = pa.array(next_annotation_id + np.cumsum(is_unnumbered) - 1, pa.int64())
        next_annotation_id += int(is_unnumbered.sum())
        numbered = pc.if_else(pa.array(is_unnumbered), ids, new["annotation_id"])
        new = new.set_column(place, STORE_SCHEMA.field(place), numbered)
        combined = pa.concat_tables([previous.filter(pc.invert(is_dropped)), new]).combine_chunks()
        yield from combined.sort_by("image_id").to_batches(max_chunksize=MAX_ROWS_PER_GROUP)
