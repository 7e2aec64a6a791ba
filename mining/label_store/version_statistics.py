"""Statistics of the newly mined images and of the last version, for the quality gates."""

import pyarrow as pa
import pyarrow.compute as pc

from mining.label_store.delta_table import Version
from mining.label_store.diff import SnapshotDiff
from mining.label_store.quality_gates import STATISTICS_COLUMNS, Measurements, VersionStatistics
from mining.label_store.schema import IMAGES_PER_BUCKET
from mining.label_store.version_rows import Changes
from mining.runs.run import Run


def measure_version(
    version: Version, changes: Changes, diff: SnapshotDiff, corpus: str, used: list[Run], first_new_id: int
) -> Measurements:
    """Count the newly mined images, and the last version.

    Args:
        version: The last version.
        changes: The new rows.
        diff: The comparison.
        corpus: Name of the corpus.
        used: Runs that new rows come from.
        first_new_id: Image ids below this are of known images.
    """
    new, before, earlier = VersionStatistics(), VersionStatistics(), VersionStatistics()
    runs = pa.array([run.path.name for run in used], pa.string())
    unjudged = pa.array(version.corpus(corpus).get("unjudged", []), pa.string())
    for batch in changes.batches([*STATISTICS_COLUMNS, "run", "content_hash"]):
        is_missing = pc.and_(pc.is_null(batch["content_hash"]), pc.less(batch["image_id"], first_new_id))
        new.add(batch.filter(pc.and_(pc.is_in(batch["run"], value_set=runs), pc.invert(is_missing))))
        earlier.add(batch.filter(pc.is_in(batch["run"], value_set=unjudged)))
    for bucket in version.buckets():
        dropped = pa.array(_dropped_ids(diff, bucket), pa.int64())
        for batch in version.rows(corpus, [*STATISTICS_COLUMNS, "run"], [bucket]):
            before.add(batch)
            is_kept = pc.invert(pc.is_in(batch["image_id"], value_set=dropped))
            earlier.add(batch.filter(pc.and_(pc.is_in(batch["run"], value_set=unjudged), is_kept)))
    return Measurements(new, before, diff.tally, earlier)


def _dropped_ids(diff: SnapshotDiff, bucket: int) -> list[int]:
    first = bucket * IMAGES_PER_BUCKET
    return sorted(diff.dropped(first, first + IMAGES_PER_BUCKET - 1))


def boxes_dropped(version: Version, diff: SnapshotDiff, corpus: str, bucket: int) -> int:
    """Count the boxes of a bucket of the last version that are not in the next one, or written again."""
    dropped = pa.array(_dropped_ids(diff, bucket), pa.int64())
    count = 0
    for batch in version.rows(corpus, ["image_id", "annotation_id"], [bucket]):
        is_box = batch["annotation_id"].is_valid()
        count += pc.and_(is_box, pc.is_in(batch["image_id"], value_set=dropped)).true_count
    return count
