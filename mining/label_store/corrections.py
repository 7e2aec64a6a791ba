"""Apply the corrections by people to the rows of the next version."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.boxes.iou import iou_matrix
from mining.corpus.schema import LABELLED, NO_BOX
from mining.label_store.corrected_runs import Box, Content, RunBoxes, content_of, corrected_boxes, key_of
from mining.label_store.delta_table import Version
from mining.label_store.layout import JobLayout
from mining.label_store.schema import BOX_COLUMNS, STORE_SCHEMA
from mining.label_store.settings import LabelSettings
from mining.label_store.version_precision import VersionPrecision, has_verdicts, measure_precision
from mining.models.card import ModelCard
from mining.quality.applying import HUMAN
from mining.quality.outcomes import CORRECT_IOU
from mining.runs.run import Run


class Corrections:
    """The corrections of a job's runs, applied to rows of the store.

    An image is identified by its content. Its boxes are those of the run that it was labelled by, as corrected by the
    verdicts on that run; and boxes that people made in other runs of the same image, which stay when the image is
    labelled again, in place of mined boxes of their class that overlap them.

    Attributes:
        digests: Digests of the corrections by name of the run.
        changed: Names of the runs whose corrections may not be in the store yet.
    """

    def __init__(
        self, runs: Sequence[Run], classes: Mapping[str, int], recorded: Mapping[str, str],
        published: Iterable[pa.RecordBatch],
    ) -> None:  # fmt: skip
        """Read the corrections.

        Args:
            runs: The job's finished runs that are on this machine, latest first.
            classes: Category ids of the model's classes by name.
            recorded: Digests of the corrections that are in the store, by name of the run.
            published: Rows of the last version; read only if a run with corrections is not on this machine.
        """
        self._local = {run.path.name: run for run in runs}
        self._corrected = {run.path.name: corrected_boxes(run) for run in runs if has_verdicts(run)}
        self._mined: dict[str, RunBoxes] = {}
        self._classes = classes
        self._left_out: set[tuple[Any, ...]] = set()
        self.digests = {name: one.digest for name, one in self._corrected.items() if one.image_ids}
        self.changed = [name for name, digest in self.digests.items() if recorded.get(name) != digest]
        self._kept = {} if recorded.keys() <= self._corrected.keys() else _human_boxes(published)
        self._hashes = set(self._kept) | _hashes(self._corrected.values())

    @property
    def changed_hashes(self) -> set[str]:
        """Contents of the images whose corrections may not be in the store yet."""
        return _hashes(self._corrected[name] for name in self.changed)

    def precision(self) -> VersionPrecision | None:
        """Estimate the precision of the boxes of the runs whose corrections may not be in the store yet."""
        runs = [self._local[name] for name in self.changed]
        images = {run: run.read_corpus(["image_id"])["image_id"].to_pylist() for run in runs}
        return measure_precision(images) if images else None

    @property
    def warnings(self) -> list[str]:
        """Sentences on boxes that people made and that are not in the next version, as far as it was built."""
        if not self._left_out:
            return []
        names = ", ".join(sorted({category for _, category, *_ in self._left_out}))
        count = f"{len(self._left_out)} box{'es' if len(self._left_out) > 1 else ''}"
        return [f"{count} that people made left out, because the model has no such class: {names}."]

    def apply(self, table: pa.Table) -> pa.Table:
        """Correct rows of images in STORE_SCHEMA; all rows of an image stand together."""
        if not self._hashes or not len(table):
            return table
        concerned = pc.is_in(table["content_hash"], value_set=pa.array(sorted(self._hashes), pa.string()))
        if not pc.any(concerned).as_py():
            return table
        pieces, start = [], 0
        for first, end in _images_in(table, concerned):
            pieces += [table.slice(start, first - start), self._correct(table.slice(first, end - first))]
            start = end
        return pa.concat_tables([*pieces, table.slice(start)])

    def changes_any(self, table: pa.Table) -> bool:
        """Whether the corrections change the rows of an image."""
        return self._correct(table) is not table

    def _correct(self, table: pa.Table) -> pa.Table:
        """The rows of an image, corrected; the same object if nothing changes."""
        rows = table.to_pylist()
        image = rows[0]
        present = [{name: row[name] for name in BOX_COLUMNS} for row in rows if row["category"] is not None]
        wanted = self._boxes(image["run"], content_of(image), present)
        if sorted(map(key_of, wanted)) == sorted(map(key_of, present)):
            return table
        numbers = {key_of(box): box["annotation_id"] for box in present}
        state = LABELLED if wanted else NO_BOX if image["state"] == LABELLED else image["state"]
        boxes = [{**box, "annotation_id": numbers.get(key_of(box))} for box in wanted]
        return pa.Table.from_pylist(
            [{**image, "state": state, **box} for box in boxes or [dict.fromkeys(BOX_COLUMNS)]], schema=STORE_SCHEMA
        )

    def _boxes(self, run: str, content: Content, present: list[Box]) -> list[Box]:
        """The boxes that an image is to have."""
        own = self._corrected[run].boxes(content) if run in self._corrected else None
        if own is None and run in self._local and self._local[run].annotations.is_file():
            own = self._mined_by(run).boxes(content)
        if own is None:  # the run is on another machine
            own = [box for box in present if box["source"] != HUMAN]
        by_people = [
            box
            for name, one in self._corrected.items()
            for box in one.human_boxes(content[0], but=content if name == run else None)
        ]
        kept = self._kept.get(content[0], [])
        return _join(own, [one for box in (*by_people, *kept) if (one := self._of_class(content[0], box)) is not None])

    def _of_class(self, content_hash: str, box: Box) -> Box | None:
        """A box from another model with the present one's category id; None if it lacks the class."""
        if box["category"] in self._classes:
            return {**box, "category_id": self._classes[box["category"]]}
        self._left_out.add((content_hash, *key_of(box)))
        return None

    def _mined_by(self, name: str) -> RunBoxes:
        if name not in self._mined:
            run = self._local[name]
            self._mined[name] = RunBoxes(run, "content_hash", self._hashes, run.read_annotations())
        return self._mined[name]


def read_corrections(settings: LabelSettings, version: Version, card: ModelCard) -> Corrections:
    """Read the corrections of a job's runs that are on this machine.

    Args:
        settings: The recipe.
        version: The last version.
        card: The model's card, with the classes that are mined.

    Raises:
        InputError: The verdicts of a run are damaged.
        RunError: A table of a run is damaged.
    """
    runs = [run for run in reversed(JobLayout(settings).run_directories()) if run.is_finished()]
    classes = {entry["name"]: entry["id"] for entry in card.classes}
    recorded = version.corpus(settings.name).get("corrected", {})
    return Corrections(runs, classes, recorded, version.rows(settings.name))


def corrected_images(version: Version, corpus: str, corrections: Corrections) -> Iterator[int]:
    """Yield ids of the images of a version whose rows differ from what the corrections make of them."""
    hashes = pa.array(sorted(corrections.changed_hashes), pa.string())
    for bucket in version.buckets() if len(hashes) else ():
        table = pa.Table.from_batches(version.rows(corpus, buckets=[bucket]), STORE_SCHEMA)
        concerned = pc.is_in(table["content_hash"], value_set=hashes)
        for first, end in _images_in(table, concerned):
            if corrections.changes_any(table.slice(first, end - first)):
                yield int(table["image_id"][first].as_py())


def _join(own: list[Box], by_people: list[Box]) -> list[Box]:
    """Add boxes that people made in other runs, each object once; they replace mined boxes that overlap them."""
    added: list[Box] = []
    for box in by_people:
        if not _overlapping(box, [*(one for one in own if one["source"] == HUMAN), *added]):
            added.append(box)
    replaced = [one for box in added for one in _overlapping(box, own)]
    return [*added, *(one for one in own if not any(one is other for other in replaced))]


def _overlapping(box: Box, others: Sequence[Box]) -> list[Box]:
    same = [other for other in others if other["category"] == box["category"]]
    if not same:
        return []
    iou = iou_matrix([_xyxy(box)], [_xyxy(other) for other in same])[0]
    return [other for other, value in zip(same, iou, strict=True) if value >= CORRECT_IOU]


def _xyxy(box: Box) -> tuple[float, float, float, float]:
    return box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]


def _hashes(runs: Iterable[RunBoxes]) -> set[str]:
    return {content_hash for one in runs for content_hash, _ in one.image_ids}


def _human_boxes(rows: Iterable[pa.RecordBatch]) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    for batch in rows:
        for row in batch.filter(pc.equal(batch["source"], HUMAN)).to_pylist():
            if row["content_hash"] is not None:
                found.setdefault(row["content_hash"], []).append({name: row[name] for name in BOX_COLUMNS})
    return found


def _images_in(table: pa.Table, concerned: pa.ChunkedArray) -> list[tuple[int, int]]:
    """First row and end of each image that is concerned, in order."""
    if not len(table):
        return []
    ids = table["image_id"].to_numpy()
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    ends = np.append(starts[1:], len(ids))
    chosen = concerned.to_numpy()[starts]
    return list(zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True))
