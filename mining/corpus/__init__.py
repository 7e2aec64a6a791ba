"""What to label: a folder, a CSV, a COCO JSON, VOC XML or CUB list files become one table, a row an image.

    summary = scan(Path("photos"), Path("train.csv"), Path("corpus.parquet"))
    for shard in iter_shards(Path("corpus.parquet")):
        print(shard["file_name"])

Its files:

    scanning   the scan, from the listing to the table
    readers/   one file per kind of listing
    formats/   COCO, VOC and CUB files, read the same way as labels and as truth
    names      when two file names or class names are the same;  matching: which file a listed name means
    walk       the files below a folder; links stay inside
    spill      sorting and joining on disk
    presence   which listed images are there, and what to advise when none is
    tally      the counts of a scan; summary: what they are told as
    shards     the table: read, write, update
"""

from mining.corpus.images.image_formats import IMAGE_SUFFIXES
from mining.corpus.scanner import scan
from mining.corpus.schema import (
    CORPUS_SCHEMA,
    FILTERED,
    LABELLED,
    LOW_SCORE,
    NO_REGION,
    PENDING,
    QUARANTINE_SCHEMA,
    QUARANTINED,
    STATES,
)
from mining.corpus.shards import CorpusUpdate, iter_shards, read_shard, read_summary, shard_count, update_corpus
from mining.corpus.summary import KINDS, CorpusSummary

__all__ = [
    "CORPUS_SCHEMA",
    "FILTERED",
    "IMAGE_SUFFIXES",
    "KINDS",
    "LABELLED",
    "LOW_SCORE",
    "NO_REGION",
    "PENDING",
    "QUARANTINED",
    "QUARANTINE_SCHEMA",
    "STATES",
    "CorpusSummary",
    "CorpusUpdate",
    "iter_shards",
    "read_shard",
    "read_summary",
    "scan",
    "shard_count",
    "update_corpus",
]
