"""Corpus table: one row per image, from an image folder and its image-level labels.

Labels come from folders named after classes, a CSV, a COCO JSON, VOC XML or CUB list files.

Example:
        summary = scan(Path("photos"), Path("train.csv"), Path("corpus.parquet"))
        for shard in iter_shards(Path("corpus.parquet")):
            print(shard["file_name"])

Modules:

    scanner           scan: from a listing to the corpus table
    listing           what a listing states, per image and as a whole
    readers/          one module per kind of listing
    formats/          COCO, VOC and CUB files, read in the same way as labels and as ground truth
    names             when two file names or class names are the same
    name_matching     which file a listed name means;  path_tails: its index
    image_root        the folder of the images;  file_walker: the files below it
    image_lookup      which listed images exist, and advice where few or none do
    sqlite_index      sorting and joining on disk
    splits            names of splits
    counts            counts of a scan;  summary: its result
    content_hashes    a cache of file hashes;  identical_images: copies of one image
    near_duplicates   photos that are nearly the same, by their thumbnails;  thumbnail_match: whether two of these are
    schema            columns of the corpus table;  shards: read, write and update it
    images/           decoding of image files
"""

from mining.corpus.images.image_formats import IMAGE_SUFFIXES
from mining.corpus.scanner import scan
from mining.corpus.schema import (
    CORPUS_SCHEMA,
    FILTERED,
    LABELLED,
    LOW_SCORE,
    NO_BOX,
    NO_CLASS,
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
    "NO_BOX",
    "NO_CLASS",
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
