"""Write a run with other boxes as a new finished run: what people or other models changed, with all else as it was."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.corpus.shards import CorpusUpdate, iter_shards, update_corpus
from mining.models.card import SEEN_COCO
from mining.runs.box_warnings import warn_of_boxes
from mining.runs.coco_json import write_coco_json
from mining.runs.fused_record import FUSED
from mining.runs.model_warnings import MODEL_WARNINGS, warnings_of_models
from mining.runs.run import DIGESTED_FILES, TAUGHT_IMAGES, Run
from mining.runs.schema import ANNOTATION_SCHEMA
from mining.runs.shard_files import table_writer
from mining.storage.integrity import DIGESTS, compute_digests
from mining.storage.provenance import package_versions, utc_now

_REMEDY = "Look at some with `boxmine report`."
# of the record; a new one replaces the last
_OF_THE_SOURCE = ("format", "config", "inputs", "used", "seconds", "started", FUSED, TAUGHT_IMAGES, SEEN_COCO)


def write_changed_run(
    run: Run,
    folder: Path,
    *,
    name: str,
    annotations: pa.Table,
    states: Mapping[int, str],
    labels: Mapping[int, list[str]],
    notes: list[str],
    description: str,
    record: Mapping[str, Any],
    model_warnings: Sequence[str] | None = None,
) -> Run:
    """Write a copy of a run with other boxes: its model, curves and rankings, and the new boxes in all files.

    Args:
        run: A finished run; it is not changed.
        folder: Empty folder of the new run.
        name: Name of the new run.
        annotations: Its boxes, rows of ANNOTATION_SCHEMA in the order of the corpus.
        states: State of the images that have another one than before, by image_id.
        labels: Classes of the images that have others than before, by image_id.
        notes: Sentences to add to those of the corpus.
        description: What the boxes are, for annotations.json.
        record: What to add to run.json.
        model_warnings: Warnings of the trainings of the models that the boxes are from; by default those of the run.

    Returns:
        The new run; the caller may add files that run.json does not list.
    """
    new = Run(folder)
    shutil.copytree(run.model, new.model)
    for file in (run.curves, run.rankings, run.quarantine):
        if file.is_file():
            shutil.copyfile(file, new.path / file.name)
    update_corpus(run.corpus, new.corpus, _updates(run, states, labels), notes)
    with table_writer(new.annotations, ANNOTATION_SCHEMA) as add:
        add(annotations.select(ANNOTATION_SCHEMA.names).cast(ANNOTATION_SCHEMA))
    classes = [{"id": number, "name": class_name} for number, class_name in run.classes]
    info = {"description": description, "version": package_versions()["boxmine"]}
    write_coco_json(new.coco, corpus=new.corpus, annotations=new.annotations, categories=classes, info=info)
    found = Counter(state for shard in iter_shards(new.corpus) for state in shard["state"].to_pylist())
    counts = {"images": found.total(), "boxes": len(annotations), "classes": len(classes), "states": dict(found)}
    of_models = warnings_of_models(run) if model_warnings is None else list(dict.fromkeys(model_warnings))
    kept = {key: run.record[key] for key in _OF_THE_SOURCE if key in run.record}
    new.update(
        **{**kept, **record}, name=name, state="finished", versions=package_versions(), finished=utc_now(),
        counts=counts, timing=None, warnings=[*of_models, *warn_of_boxes(new.annotations, _REMEDY)],
        **{MODEL_WARNINGS: of_models, DIGESTS: compute_digests(new.path, DIGESTED_FILES)},
    )  # fmt: skip
    return new


def in_corpus_order(boxes: pa.Table, image_ids: pa.ChunkedArray) -> pa.Table:
    """Sort boxes by image, in the order of the corpus, best score first, and by id among equal ones.

    Args:
        boxes: Rows of ANNOTATION_SCHEMA.
        image_ids: The image_id column of the corpus.
    """
    place = pc.index_in(boxes["image_id"], value_set=image_ids.combine_chunks()).to_numpy()
    order = np.lexsort((boxes["annotation_id"].to_numpy(), -boxes["score"].to_numpy(), place))
    return boxes.take(pa.array(order)).combine_chunks()


def _updates(run: Run, states: Mapping[int, str], labels: Mapping[int, list[str]]) -> Iterator[dict[int, CorpusUpdate]]:
    """New states and labels, shard by shard."""
    for shard in iter_shards(run.corpus):
        rows = zip(shard["image_id"].to_pylist(), shard["state"].to_pylist(), strict=True)
        yield {
            number: CorpusUpdate(states.get(number, state), labels=labels.get(number))
            for number, state in rows
            if number in states or number in labels
        }
