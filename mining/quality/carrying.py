"""Verdicts on the boxes of another run of the same images, carried over to the boxes of a run.

An image is the same if the bytes of its file are. A verdict is carried over to a box of the same class that is nearly
the same (IoU >= SAME_IOU). Where the reviewer gave the object's own box, by a correction or as a missed object, any box
is compared with it: it is correct from an IoU of 0.5 on. No other box gets a verdict: whether a box that was found
correct is on the object by 0.5 or by 0.9 is not known.

Boxes that stayed the same are no random draw of the boxes, so no estimate uses these verdicts. They fill in plans that
are drawn later, and `audit apply` uses them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.boxes.iou import iou_matrix
from mining.corpus.names import normalise_class_name
from mining.errors import InputError
from mining.quality.applying import CurrentVerdicts
from mining.quality.audited_run import hashes_now
from mining.quality.judgements import Box, ImageJudgement, Judgement, MissedObject, Verdict
from mining.quality.outcomes import CORRECT_IOU, SeenObject, boxes_as_edges, is_correct, seen_objects
from mining.runs.run import Run

SAME_IOU = 0.9  # of boxes that a person would judge alike
_COLUMNS = ["annotation_id", "file_name", "category", "x", "y", "w", "h"]


@dataclass(frozen=True)
class CarriedVerdicts:
    """What is known of a run's boxes from another run.

    Attributes:
        boxes: Verdicts on the run's boxes, by the reviewers of the other run.
        images: Images that were looked at whole there, and of which every box has a verdict of the same reviewer.
        unmatched: Number of verdicts on boxes of the other run that no box here is like.
        other_images: Number of judged images of the other run that this run does not have.
    """

    boxes: list[Judgement]
    images: list[ImageJudgement]
    unmatched: int
    other_images: int


def carry_verdicts(run: Run, other: Run) -> CarriedVerdicts:
    """Compare the boxes of a run with the verdicts on those of another run.

    Args:
        run: A finished run.
        other: A finished run with verdicts.

    Raises:
        InputError: The other run is the same, has no verdicts, or shares no judged image with this one.
        RunError: A table is damaged.
    """
    if run.path.resolve() == other.path.resolve():
        raise InputError(f"{other.path} is the run itself: its verdicts are recorded already.")
    verdicts = CurrentVerdicts.read(other)
    judged = {one.file_name: one.content_hash for one in verdicts.boxes}
    judged |= {one.file_name: one.content_hash for one in verdicts.images}
    if not judged:
        raise InputError(f"The run {other.path} has no verdicts that could be carried over.")
    names = _same_images(run, judged)
    if not names:
        raise InputError(
            f"None of the {len(judged)} judged images of {other.path} is in {run.path}: no file has the same bytes."
        )
    boxes = _boxes_on(run, names.values())
    of_reviewer = _by_reviewer(verdicts.boxes)
    whole = {(one.file_name, one.reviewer): one for one in verdicts.images}
    classes = {normalise_class_name(name) for _, name in run.classes}
    found = [
        _compare(boxes.get(names[key[0]], []), names[key[0]], of_reviewer.get(key, []), whole.get(key), classes)
        for key in sorted(of_reviewer.keys() | whole.keys())
        if key[0] in names
    ]
    return CarriedVerdicts(
        [one for compared in found for one in compared.boxes],
        [compared.image for compared in found if compared.image is not None],
        sum(compared.unmatched for compared in found),
        len(judged) - len(names),
    )


def _same_images(run: Run, judged: Mapping[str, str | None]) -> dict[str, str]:
    """The run's name of each judged image whose file has the same bytes."""
    corpus = run.read_corpus(["file_name", "content_hash"])
    named = set(corpus["file_name"].to_pylist())
    of_hash = {digest: name for name, digest in zip(*corpus.to_pydict().values(), strict=True) if digest is not None}
    now = hashes_now(run, judged.keys() & named)
    known = {name: digest for name, digest in judged.items() if digest is not None}
    return {
        name: name if now.get(name) == digest else of_hash[digest]
        for name, digest in known.items()
        if now.get(name) == digest or digest in of_hash
    }


def _boxes_on(run: Run, names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    table = run.read_annotations(_COLUMNS)
    rows = table.filter(pc.is_in(table["file_name"], value_set=pa.array(list(names), pa.string()))).to_pylist()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["file_name"], []).append(row)
    return found


def _by_reviewer(judgements: Sequence[Judgement]) -> dict[tuple[str, str], list[Judgement]]:
    def key(one: Judgement) -> tuple[str, str]:
        return one.file_name, one.reviewer

    return {name: list(group) for name, group in groupby(sorted(judgements, key=key), key=key)}


# --- one image and reviewer ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Compared:
    boxes: list[Judgement]
    image: ImageJudgement | None
    unmatched: int


def _compare(
    boxes: Sequence[Mapping[str, Any]], name: str, judgements: Sequence[Judgement], whole: ImageJudgement | None,
    classes: set[str],
) -> _Compared:  # fmt: skip
    """Carry over what one reviewer said of one image."""
    missed = () if whole is None else whole.missed
    objects = seen_objects(judgements, missed)
    drawn = {one.annotation_id for one in judgements if one.corrected is not None}
    own = [one for one in objects if one.annotation_id is None or one.annotation_id in drawn]
    source = whole or judgements[0]
    found: list[Judgement] = []
    used: set[int] = set()
    for box in boxes:
        nearest = _nearest(box, judgements)
        if nearest is not None:
            used.add(nearest.annotation_id)
            said = _Said(nearest.verdict, nearest.corrected, nearest.new_category)
        elif (known := _object_at(box, own)) is not None:
            said = _Said("correct", known)
        elif whole is not None and not any(_is_class(one.category, box) for one in objects):
            said = _Said("nothing")
        else:
            continue
        found.append(_carried(said, box, name, source))
    image = None
    if whole is not None and len(found) == len(boxes):
        left = [one for one in objects if normalise_class_name(one.category) in classes and not _is_covered(one, found)]
        image = replace(
            whole, plan="", file_name=name, missed=tuple(MissedObject(one.category, one.xywh) for one in left)
        )
    return _Compared(found, image, sum(one.annotation_id not in used for one in judgements))


@dataclass(frozen=True)
class _Said:
    verdict: Verdict
    corrected: Box | None = None
    new_category: str | None = None


def _carried(said: _Said, box: Mapping[str, Any], name: str, source: Judgement | ImageJudgement) -> Judgement:
    x, y, w, h = _xywh(box)
    new_x, new_y, new_w, new_h = said.corrected or (None, None, None, None)
    return Judgement(
        plan="", why="carried", annotation_id=int(box["annotation_id"]), file_name=name,
        content_hash=source.content_hash, category=str(box["category"]), x=x, y=y, w=w, h=h, verdict=said.verdict,
        new_x=new_x, new_y=new_y, new_w=new_w, new_h=new_h, new_category=said.new_category, reviewer=source.reviewer,
        time=source.time,
    )  # fmt: skip


def _is_class(category: str, box: Mapping[str, Any]) -> bool:
    return normalise_class_name(category) == normalise_class_name(str(box["category"]))


def _xywh(box: Mapping[str, Any]) -> Box:
    return float(box["x"]), float(box["y"]), float(box["w"]), float(box["h"])


def _best(box: Box, others: Sequence[Box]) -> tuple[int, float]:
    overlap = iou_matrix(boxes_as_edges([box]), boxes_as_edges(others))[0]
    place = int(np.argmax(overlap))
    return place, float(overlap[place])


def _nearest(box: Mapping[str, Any], judgements: Sequence[Judgement]) -> Judgement | None:
    """The verdict on nearly the same box."""
    same = [one for one in judgements if _is_class(one.category, box)]
    if not same:
        return None
    place, overlap = _best(_xywh(box), [one.mined for one in same])
    return same[place] if overlap >= SAME_IOU else None


def _object_at(box: Mapping[str, Any], objects: Sequence[SeenObject]) -> Box | None:
    """The object that a box is on, of those with a box that the reviewer drew."""
    places = [one.xywh for one in objects if _is_class(one.category, box) and one.xywh is not None]
    if not places:
        return None
    place, overlap = _best(_xywh(box), places)
    return places[place] if overlap >= CORRECT_IOU else None


def _is_covered(one: SeenObject, boxes: Sequence[Judgement]) -> bool:
    """Whether a correct box is on an object; of one without a box it is not, as each box is known to be of another."""
    name = normalise_class_name(one.category)
    same = [box.mined for box in boxes if is_correct(box) and normalise_class_name(box.category) == name]
    return one.xywh is not None and bool(same) and _best(one.xywh, same)[1] >= CORRECT_IOU
