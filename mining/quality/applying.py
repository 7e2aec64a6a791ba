"""Correct the boxes of a run by the verdicts on them: rejected ones out, corrected and added ones in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.corpus.schema import LABELLED, NO_BOX
from mining.quality.audited_run import hashes_now, is_another_image
from mining.quality.judgements import Box, ImageJudgement, Judgement, MissedObject
from mining.quality.outcomes import SeenObject, is_correct, majority, overlaps_one_of, seen_objects
from mining.quality.verdicts import open_verdicts
from mining.runs.changed_run import in_corpus_order
from mining.runs.run import Run
from mining.runs.schema import ANNOTATION_SCHEMA

HUMAN = "human"  # the source of a box that a person made
_HUMAN_SCORE = 1.0
_UNMEASURED = {
    one.name: None if one.nullable else float("nan") for one in ANNOTATION_SCHEMA if pa.types.is_floating(one.type)
}


@dataclass(frozen=True)
class CurrentVerdicts:
    """The verdicts of a run that count.

    Attributes:
        boxes: The last one of each reviewer on each box, by box.
        images: The same on images that were looked at whole, by image.
        changed: How many others are on images whose file changed since.
    """

    boxes: list[Judgement]
    images: list[ImageJudgement]
    changed: int

    @classmethod
    def read(cls, run: Run, *, of_run: bool = False) -> "CurrentVerdicts":
        """Read them.

        Args:
            run: A finished run.
            of_run: See `correct_boxes`.

        Raises:
            InputError: The verdicts are damaged.
            RunError: The corpus table is damaged.
        """
        with open_verdicts(run.path, to_write=False) as store:
            boxes, images = store.judgements(), store.image_judgements()
        names = {one.file_name for one in boxes} | {one.file_name for one in images}
        hashes = _hashes_of_run(run) if of_run else hashes_now(run, names)

        def counts(one: Judgement | ImageJudgement) -> bool:
            return not is_another_image(one.content_hash, hashes.get(one.file_name))

        kept, kept_images = [one for one in boxes if counts(one)], [one for one in images if counts(one)]
        return cls(kept, kept_images, len(boxes) + len(images) - len(kept) - len(kept_images))


@dataclass(frozen=True)
class Corrections:
    """The tables of a run with its corrections.

    Attributes:
        annotations: Rows of ANNOTATION_SCHEMA, in the order of the corpus, best score first within an image. A box that
            was corrected keeps its annotation_id; one that was added has a new one.
        states: New state of the images that have another one, by image_id.
        labels: Classes of the images that were looked at whole and of whose boxes and objects none is in doubt, by
            image_id; an empty list for an image without any object.
        objects: Objects of the same images, by file name.
        confirmed: Number of boxes that were found correct and are unchanged.
        rejected: Number of boxes that were removed.
        corrected: Number of boxes that have another place or class.
        added: Number of boxes on objects that were missed.
        changed: Number of verdicts that count for nothing because the image changed since.
        notes: Sentences on what could not be applied.
    """

    annotations: pa.Table
    states: dict[int, str]
    labels: dict[int, list[str]]
    objects: dict[str, list[SeenObject]]
    confirmed: int
    rejected: int
    corrected: int
    added: int
    changed: int
    notes: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the boxes are as they were mined."""
        return not (self.rejected or self.corrected or self.added)


def correct_boxes(run: Run, *, of_run: bool = False) -> Corrections:
    """Apply the verdicts of a run to copies of its tables.

    Of several reviewers the majority decides whether a box is correct, and where there is none the box stays as it was
    mined. A box that is correct moves to the correction of the last reviewer who gave one. A wrong box is removed,
    unless the last reviewer who finds it wrong gave its place or class, and the image has no such box already. Missed
    objects are added where their box is known, those of several reviewers once.

    Args:
        run: A finished run.
        of_run: Count the verdicts on the images that were mined, wherever these are now, for a caller who identifies
            images by their content; by default those on files that are still the same under their names.

    Raises:
        InputError: The verdicts are damaged.
        RunError: The run is not finished, or a table of it is damaged.
    """
    run.require_finished()
    verdicts, corpus, boxes = CurrentVerdicts.read(run, of_run=of_run), run.read_corpus(), run.read_annotations()
    names = {one.file_name for one in verdicts.boxes} | {one.file_name for one in verdicts.images}
    touched = pa.array(sorted(names), pa.string())
    is_touched = pc.is_in(boxes["file_name"], value_set=touched)
    by_image = _grouped(boxes.filter(is_touched).to_pylist(), "file_name")
    images = corpus.filter(pc.is_in(corpus["file_name"], value_set=touched)).to_pylist()
    numbers = {name: number for number, name in run.classes}
    judgements = {name: list(group) for name, group in groupby(sorted(verdicts.boxes, key=_name), key=_name)}
    missed = {name: list(group) for name, group in groupby(verdicts.images, key=_name)}
    corrected = [
        _CorrectedImage(row, numbers).apply(
            by_image.get(row["file_name"], []), judgements.get(row["file_name"], []), missed.get(row["file_name"], [])
        )
        for row in images
    ]
    return _join(boxes.filter(pc.invert(is_touched)), corpus, corrected, verdicts.changed)


def _hashes_of_run(run: Run) -> dict[str, str | None]:
    corpus = run.read_corpus(["file_name", "content_hash"])
    return dict(zip(corpus["file_name"].to_pylist(), corpus["content_hash"].to_pylist(), strict=True))


def _name(judgement: Judgement | ImageJudgement) -> str:
    return judgement.file_name


def _grouped(rows: Iterable[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


# --- one image -------------------------------------------------------------------------------------------------------


@dataclass
class _CorrectedImage:
    """The boxes of an image after its corrections; added ones have no annotation_id yet.

    image: its row of corpus.parquet; numbers: category ids by class name.
    """

    image: Mapping[str, Any]
    numbers: Mapping[str, int]
    rows: list[dict[str, Any]] = field(default_factory=list)
    is_whole: bool = False
    is_in_doubt: bool = False
    has_unplaced: bool = False
    confirmed: int = 0
    rejected: int = 0
    corrected: int = 0
    added: int = 0

    def apply(
        self, boxes: Sequence[Mapping[str, Any]], judgements: Sequence[Judgement], whole: Sequence[ImageJudgement]
    ) -> "_CorrectedImage":
        self.is_whole = bool(whole)
        by_box = {number: list(group) for number, group in groupby(judgements, key=lambda one: one.annotation_id)}
        wrong: list[tuple[Mapping[str, Any], list[Judgement]]] = []
        for box in boxes:
            of_box = by_box.get(box["annotation_id"], [])
            outcome = majority(of_box)
            self.is_in_doubt |= outcome is None
            if outcome is False:
                wrong.append((box, of_box))
            else:
                self._keep(box, of_box if outcome else [])
        for box, of_box in wrong:
            self._replace(box, of_box)
        for one in whole:
            for other in one.missed:
                self._add(other)
        return self

    def _keep(self, box: Mapping[str, Any], judgements: Sequence[Judgement]) -> None:
        """Keep a box, at the correction of the last reviewer who finds it correct and gave one."""
        moved = [one for one in judgements if is_correct(one) and one.corrected is not None]
        if not moved:
            self.confirmed += bool(judgements)
            self.rows.append(dict(box))
            return
        latest = max(moved, key=lambda one: one.time)
        assert latest.corrected is not None
        self.corrected += 1
        self.rows.append(self._human_row(box, box["category"], latest.corrected))

    def _replace(self, box: Mapping[str, Any], judgements: Sequence[Judgement]) -> None:
        """Remove a wrong box, or put what the last reviewer who finds it wrong says in its place."""
        latest = max((one for one in judgements if is_correct(one) is False), key=lambda one: one.time)
        known = seen_objects([latest], ())
        if not known or overlaps_one_of(known[0], self.objects()):
            self.rejected += 1
            return
        assert known[0].xywh is not None
        self.corrected += 1
        self.rows.append(self._human_row(box, known[0].category, known[0].xywh))

    def _add(self, missed: MissedObject) -> None:
        if missed.xywh is None:
            self.has_unplaced = True
        elif not overlaps_one_of(SeenObject(missed.category, self._inside(missed.xywh), False), self.objects()):
            self.added += 1
            self.rows.append(self._human_row(None, missed.category, missed.xywh))

    def objects(self) -> list[SeenObject]:
        """The objects that the boxes are of."""
        return [SeenObject(row["category"], (row["x"], row["y"], row["w"], row["h"]), True) for row in self.rows]

    def _inside(self, xywh: Box) -> Box:
        """The part of a box inside the image."""
        x, y = max(0.0, xywh[0]), max(0.0, xywh[1])
        right, bottom = min(xywh[0] + xywh[2], self.image["width"]), min(xywh[1] + xywh[3], self.image["height"])
        return x, y, right - x, bottom - y

    def _human_row(self, box: Mapping[str, Any] | None, category: str, xywh: Box) -> dict[str, Any]:
        """A row of a box that a person made: what mining measures is NaN, or null where the column allows it."""
        number = box["category_id"] if box is not None and box["category"] == category else self.numbers[category]
        x, y, w, h = self._inside(xywh)
        return {
            **_UNMEASURED, "annotation_id": None if box is None else box["annotation_id"],
            **{name: self.image[name] for name in ("image_id", "file_name", "width", "height")},
            "category_id": number, "category": category, "x": x, "y": y, "w": w, "h": h, "area": w * h,
            "score": _HUMAN_SCORE, "scales": [], "localizer": HUMAN, "model_sha256": "", "merged_from": 1,
            "source": HUMAN,
        }  # fmt: skip


# --- all images ------------------------------------------------------------------------------------------------------


def _join(untouched: pa.Table, corpus: pa.Table, corrected: Sequence[_CorrectedImage], changed: int) -> Corrections:
    rows = [row for one in corrected for row in one.rows]
    number = max([*untouched["annotation_id"].to_pylist(), *(row["annotation_id"] or 0 for row in rows)], default=0)
    for row in rows:
        if row["annotation_id"] is None:
            number += 1
            row["annotation_id"] = number
    schema = untouched.schema
    own = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    states, labels, objects = {}, {}, {}
    for one in corrected:
        was, number = one.image["state"], one.image["image_id"]
        state = LABELLED if one.rows else NO_BOX if was == LABELLED else was
        if state != was:
            states[number] = state
        if one.is_whole and not one.has_unplaced and not one.is_in_doubt:
            labels[number] = sorted({row["category"] for row in one.rows})
            objects[one.image["file_name"]] = one.objects()
    unplaced = sum(one.has_unplaced for one in corrected)
    notes = [f"Images with a missed object whose box is not known: {unplaced}; the object could not be added."]
    return Corrections(
        in_corpus_order(pa.concat_tables([untouched, own]), corpus["image_id"]), states, labels, objects,
        sum(one.confirmed for one in corrected), sum(one.rejected for one in corrected),
        sum(one.corrected for one in corrected), sum(one.added for one in corrected), changed,
        notes if unplaced else [],
    )  # fmt: skip
