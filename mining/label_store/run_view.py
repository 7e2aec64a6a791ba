"""Write a version of the label store as a finished run, so that everything that reads runs can read labels."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mining import __version__
from mining.corpus import CORPUS_SCHEMA, QUARANTINE_SCHEMA, QUARANTINED, CorpusSummary
from mining.corpus.shards import corpus_writer, write_shard, write_summary
from mining.models.card import CARD_FILE
from mining.models.card import FORMAT as CARD_FORMAT
from mining.runs.record import FORMAT as RUN_FORMAT
from mining.runs.run import DIGESTED_FILES, Run
from mining.runs.schema import ANNOTATION_SCHEMA
from mining.runs.shard_files import table_writer
from mining.storage.files import write_json
from mining.storage.integrity import DIGESTS, compute_digests
from mining.storage.provenance import utc_now


def write_view(
    out: Path, rows: Iterable[pa.RecordBatch], name: str, record: Mapping[str, Any], final: Path | None = None
) -> Run:
    """Write rows of one corpus as a run directory; of the model it holds the card alone.

    Args:
        out: The run directory to write.
        rows: Batches in STORE_SCHEMA, sorted by image.
        name: Name of the run.
        record: Record of the corpus in its version.
        final: Where the folder will be moved to when it is complete.

    Raises:
        StorageError: The disk refuses.
    """
    run = Run(out)
    labelled, images, boxes, states, classes = 0, 0, 0, Counter[str](), Counter[str]()
    with (
        corpus_writer(run.corpus) as corpus,
        table_writer(run.annotations, ANNOTATION_SCHEMA) as write_annotations,
        table_writer(run.quarantine, QUARANTINE_SCHEMA) as write_quarantine,
    ):
        last_id = -1
        for batch in rows:
            if not len(batch):
                continue
            table = pa.Table.from_batches([batch])
            ids = table["image_id"].to_numpy()
            image_rows = table.take(pa.array(np.flatnonzero(np.diff(ids, prepend=last_id))))
            last_id = int(ids[-1])
            box_rows = table.filter(table["annotation_id"].is_valid())
            write_annotations(box_rows.select(ANNOTATION_SCHEMA.names).cast(ANNOTATION_SCHEMA))
            if len(image_rows):
                write_shard(corpus, _columns(image_rows, CORPUS_SCHEMA))
                quarantined = image_rows.filter(pa.compute.equal(image_rows["state"], QUARANTINED))
                write_quarantine(_columns(quarantined, QUARANTINE_SCHEMA))
            images, boxes = images + len(image_rows), boxes + len(box_rows)
            states.update(image_rows["state"].to_pylist())
            for labels in image_rows["labels"].to_pylist():
                labelled += labels is not None
                classes.update(labels or ())
        card = record["model"]
        class_ids = {known["name"]: known["id"] for known in card["classes"]}
        summary = CorpusSummary(
            "csv", images, labelled, 0, 0, dict(sorted(classes.items())),
            {label: class_ids.get(label, 0) for label in classes}, False, [],
        )  # fmt: skip
        write_summary(corpus, summary)
    write_json(run.model / CARD_FILE, {"format": CARD_FORMAT, **card})
    config = {
        **record["settings_now"],
        "images": record["images"],
        "model": str((final or out) / "model"),
        "out": str(final or out),
    }
    at = record.get("at") or utc_now()  # when the version was published, so that exports of it are the same
    run.update(
        format=RUN_FORMAT, name=name, state="finished", config=config, inputs={}, versions={"boxmine": __version__},
        started=at, finished=at, used=record["used"], seconds={"mining": 0, "finishing": 0},
        counts={"images": images, "boxes": boxes, "classes": len(card["classes"]), "states": dict(states)},
        timing=None, precision=record.get("precision"), **{DIGESTS: compute_digests(out, DIGESTED_FILES)},
    )  # fmt: skip
    return run


def _columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`; those that the store does not have are null."""
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.table(columns, names=schema.names).cast(schema)
