"""A review of a run: which box or image is shown next and to whom, and what reviewers say, at once on disk."""

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal

import numpy as np

from mining.config.audit import AuditPlanSettings
from mining.corpus.names import normalise_class_name
from mining.errors import InputError, did_you_mean
from mining.quality.audit import AuditEstimate, estimate_audit
from mining.quality.audited_run import hashes_now
from mining.quality.judgements import VERDICTS, Box, ImageJudgement, Judgement, MissedObject, Why
from mining.quality.outcomes import is_correct, majority
from mining.quality.planning import plan_audit
from mining.quality.verdict_table import write_verdict_table
from mining.quality.verdicts import VERDICTS_FILE, open_verdicts
from mining.review.run_index import ImageInfo, RunIndex
from mining.runs.run import Run
from mining.storage.provenance import utc_now

LEASE_S = 600.0  # how long a box that was shown to one reviewer is not shown to another
OVERLAP = 10  # one of so many boxes is shown to two reviewers
Kind = Literal["box", "image"]
_SAME_PX = 0.02
PLAN, DOUBTFUL, WHOLE, NO_BOX, DISPUTED, CLASS = "plan", "doubtful", "images", "no_box", "disputed", "class:"


@dataclass(frozen=True)
class Target:
    """What is shown: a box or a whole image, the plan that asks for it, and whether one more person is to decide."""

    kind: Kind
    number: int
    plan: str = ""
    why: Why = "review"
    is_disputed: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Identifies the box or image."""
        return self.kind, self.number


@dataclass
class Verdicts:
    """What was said so far: the last verdict of each reviewer on each box, by id, and on each image, by name."""

    boxes: dict[int, dict[str, Judgement]] = field(default_factory=dict)
    images: dict[str, dict[str, ImageJudgement]] = field(default_factory=dict)


class ReviewSession:
    """A run that people review; may be used by several threads.

    Attributes:
        index: The run's boxes and images.
    """

    def __init__(self, run: Run) -> None:
        run.require_finished()
        self.index = RunIndex(run)
        self._run = run
        self._lock = threading.RLock()
        self._leases: dict[tuple[str, int], tuple[str, float]] = {}
        self._verdicts = Verdicts()
        self._orders: dict[str, list[Target]] = {}
        self._by_key: dict[str, dict[tuple[str, int], Target]] = {}
        self._stamp: tuple[int, ...] = ()
        self._read_verdicts()

    def _read_verdicts(self) -> None:
        with open_verdicts(self._run.path, to_write=False) as store:
            boxes, images = store.judgements(), store.image_judgements()
        found = Verdicts()
        for one in boxes:
            found.boxes.setdefault(one.annotation_id, {})[one.reviewer] = one
        for other in images:
            found.images.setdefault(other.file_name, {})[other.reviewer] = other
        self._verdicts = found
        self._stamp = _stamp_of(self._run)

    def _read_what_others_recorded(self) -> None:
        """Read the verdicts again if another process recorded some, and the plans if it drew one."""
        if _stamp_of(self._run) != self._stamp:
            self._read_verdicts()
            for queue in (PLAN, WHOLE):
                self._orders.pop(queue, None)
                self._by_key.pop(queue, None)

    # --- queues ------------------------------------------------------------------------------------------------------

    def queues(self) -> list[dict[str, Any]]:
        """Return the queues that there are: name, title, and number of boxes or images."""
        with self._lock:
            classes = sorted({self.index.classes[one] for one in np.unique(self.index.category).tolist()})
            names = [
                (PLAN, "Random draw"),
                (DOUBTFUL, "Most doubtful first"),
                (WHOLE, "Whole images"),
                (NO_BOX, "Images without a box"),
                (DISPUTED, "Reviewers disagree"),
                *((f"{CLASS}{name}", f"Class {name}") for name in classes),
            ]
            return [{"name": name, "title": title, "size": self._size(name)} for name, title in names]

    def _size(self, queue: str) -> int:
        """How many boxes or images a queue has; of those that have many without making the list."""
        if queue == DOUBTFUL:
            return len(self.index)
        if queue.startswith(CLASS):
            return int(np.isin(self.index.category, self._numbers_of(queue)).sum())
        return len(self._targets(queue))

    def _numbers_of(self, queue: str) -> list[int]:
        """The category_ids of a class's queue."""
        wanted = normalise_class_name(queue.removeprefix(CLASS))
        return [number for number, name in self.index.classes.items() if normalise_class_name(name) == wanted]

    def _targets(self, queue: str) -> list[Target]:
        if queue == DISPUTED:  # changes with every verdict
            self._by_key.pop(queue, None)
            return list(self._disputed())
        if queue not in self._orders:
            self._orders[queue] = list(self._order(queue))
        return self._orders[queue]

    def _disputed(self) -> Iterator[Target]:
        """The boxes that some reviewers find correct and as many others wrong."""
        for number, said in sorted(self._verdicts.boxes.items()):
            outcomes = {is_correct(one) for one in said.values()} - {None}
            if outcomes == {True, False} and majority(said.values()) is None:
                yield Target("box", number, is_disputed=True)

    def _order(self, queue: str) -> Iterator[Target]:
        index = self.index
        if queue == PLAN:
            yield from self._of_plans()
        elif queue == WHOLE:
            yield from self._whole_images()
        elif queue == NO_BOX:
            yield from (Target("image", number) for number in index.images_without_box)
        elif queue == DOUBTFUL:
            yield from (Target("box", int(index.ids[place])) for place in index.doubtful_first())
        elif queue.startswith(CLASS):
            places = np.flatnonzero(np.isin(index.category, self._numbers_of(queue)))
            yield from (Target("box", int(index.ids[place])) for place in places[np.argsort(index.score[places])])
        else:
            raise InputError(f"There is no queue {queue!r}.")

    def _of_plans(self) -> Iterator[Target]:
        """The boxes of the plans, plan by plan, each in a random order that stays the same."""
        with open_verdicts(self._run.path, to_write=False) as store:
            plans = [(plan, store.drawn_by(plan) or {}) for plan in store.plans()]
        for plan, drawn in plans:
            for why in ("random", "suspicious"):
                some = [one for one in drawn.values() if one.why == why]
                for one in sorted(some, key=lambda one: _shuffled(plan, one.annotation_id)):
                    yield Target("box", one.annotation_id, plan, one.why)

    def _whole_images(self) -> Iterator[Target]:
        with open_verdicts(self._run.path, to_write=False) as store:
            plans = [(plan, store.images_of(plan)) for plan in store.plans()]
        for plan, names in plans:
            for name in sorted(names, key=lambda one: _shuffled(plan, one)):
                if name in self.index.image_ids:
                    yield Target("image", self.index.image_ids[name], plan, "image")

    def draw(self, *, boxes: int = 0, images: int = 0) -> tuple[int, int]:
        """Draw boxes and whole images at random for their queues; returns how many.

        Raises:
            InputError: All were drawn before.
        """
        with self._lock:
            settings = AuditPlanSettings(
                run=self._run.path, verdicts=boxes or None, recall=images > 0, images=images or None
            )
            summary = plan_audit(settings)
            self._stamp = ()  # the plans are read again
            return summary.random, summary.images

    # --- what is shown -----------------------------------------------------------------------------------------------

    def next_target(self, queue: str, reviewer: str, after: tuple[str, int] | None = None) -> Target | None:
        """Return what a reviewer is to look at next, and keep it from others for a while.

        Nothing is shown that the reviewer judged, that another one is looking at, or that as many reviewers judged as
        are to: two of every tenth box, one of others.

        Args:
            queue: Its name, see `queues`.
            reviewer: Name.
            after: Key of a target that was skipped: the next one after it, and from the beginning after the last.
        """
        with self._lock:
            self._read_what_others_recorded()
            targets = self._targets(queue)
            first = 0
            if after is not None:
                first = next((place + 1 for place, one in enumerate(targets) if one.key == after), 0)
            for target in chain(islice(targets, first, None), islice(targets, first)):
                if self._is_open(target, reviewer):
                    self._leases[target.key] = reviewer, time.monotonic()
                    return target
            return None

    def next_targets(self, queue: str, reviewer: str, count: int) -> list[Target]:
        """Return the next boxes of a queue at once, all kept from others for a while; see `next_target`."""
        with self._lock:
            self._read_what_others_recorded()
            is_fit = (one for one in self._targets(queue) if one.kind == "box" and self._is_open(one, reviewer))
            found = list(islice(is_fit, count))
            for target in found:
                self._leases[target.key] = reviewer, time.monotonic()
            return found

    def describe_briefly(self, target: Target) -> dict[str, Any]:
        """Return what a page of many boxes needs of one."""
        category = self.index.classes[int(self.index.category[self.index.place_of(target.number)])]
        return {**_shown_record(target), "category": category}

    def _is_open(self, target: Target, reviewer: str) -> bool:
        holder, since = self._leases.get(target.key, (reviewer, 0.0))
        if holder != reviewer and time.monotonic() - since < LEASE_S:
            return False
        done = self._reviewers_of(target)
        if target.is_disputed:
            return reviewer not in done
        wanted = 2 if target.plan and _shuffled(target.plan, target.number) % OVERLAP == 0 else 1
        return reviewer not in done and len(done) < wanted

    def _reviewers_of(self, target: Target) -> set[str]:
        """Who judged it: for its plan, if one asks for it."""
        if target.kind == "image":
            name = self.index.image_of(target.number).file_name
            return {who for who, one in self._verdicts.images.get(name, {}).items() if one.plan == target.plan}
        said = self._verdicts.boxes.get(target.number, {})
        return {who for who, one in said.items() if not target.plan or one.plan == target.plan}

    def progress(self, queue: str) -> dict[str, int]:
        """Return how many of a queue's boxes or images are judged, and how many there are."""
        with self._lock:
            by_key = self._by_key.setdefault(queue, {}) or {one.key: one for one in self._targets(queue)}
            self._by_key[queue] = by_key
            judged = [("box", number) for number in self._verdicts.boxes]
            judged += [("image", self.index.image_ids.get(name, -1)) for name in self._verdicts.images]
            found = [by_key[key] for key in judged if key in by_key]
            return {"done": sum(bool(self._reviewers_of(one)) for one in found), "all": len(by_key)}

    def describe(self, target: Target, reviewer: str) -> dict[str, Any]:
        """Return what the browser shows: the image, the box with its place at other thresholds, and the other boxes.

        Scores and other reviewers' verdicts are not among it, so that nobody is led by them.
        """
        index = self.index
        with self._lock:
            own = self._own_verdicts(reviewer)
            if target.kind == "image":
                image = index.image_of(target.number)
                walk: list[Box] = []
            else:
                place = index.place_of(target.number)
                image, walk = index.image_of(int(index.image[place])), index.walk_of(place)
            boxes = [
                {
                    "id": int(index.ids[one]), "category": index.classes[int(index.category[one])],
                    "box": [round(float(side), 2) for side in index.xywh[one]],
                    "said": own.get(int(index.ids[one])),
                }
                for one in index.places_on(image.image_id)
            ]  # fmt: skip
        known = self._verdicts.images.get(image.file_name, {}).get(reviewer)
        return {
            **_shown_record(target),
            "image": {"id": image.image_id, "name": image.file_name, "width": image.width, "height": image.height},
            "boxes": boxes, "walk": walk,
            "missed": [] if known is None else [_missed_record(one) for one in known.missed],
        }  # fmt: skip

    def _own_verdicts(self, reviewer: str) -> dict[int, dict[str, Any]]:
        """What a reviewer said of boxes, by id."""
        return {
            number: {
                "verdict": said[reviewer].verdict,
                "box": said[reviewer].corrected,
                "category": said[reviewer].new_category,
            }
            for number, said in self._verdicts.boxes.items()
            if reviewer in said
        }

    # --- what is said ------------------------------------------------------------------------------------------------

    def say(
        self, target: Target, reviewer: str, verdict: str, box: Box | None = None, category: str | None = None
    ) -> None:
        """Record a verdict on a box; it is on disk when this returns.

        Args:
            target: The box.
            reviewer: Name.
            verdict: One of VERDICTS.
            box: Its place as the reviewer corrected it, xywh in px of the image.
            category: Its class as the reviewer corrected it, for wrong_class.

        Raises:
            InputError: Something of it is invalid, or the image's file is another one than was mined.
        """
        _check_verdict(verdict, category)
        with self._lock:
            self._read_what_others_recorded()
            place = self.index.place_of(target.number)
            image = self.index.image_of(int(self.index.image[place]))
            own = _box_of(self.index, place)
            moved = None if box is None or _is_same(own, box) else _inside(box, image)
            new_category = None if category is None else self._class(category)
            was = self.index.classes[int(self.index.category[place])]
            new_x, new_y, new_w, new_h = moved or (None, None, None, None)
            why = self._why_of(target, image.file_name)
            judgement = Judgement(
                plan=target.plan, why=why, annotation_id=target.number, file_name=image.file_name,
                content_hash=self._hash_of(image), category=was, x=own[0], y=own[1], w=own[2], h=own[3],
                verdict=verdict,  # type: ignore[arg-type]
                new_x=new_x, new_y=new_y, new_w=new_w, new_h=new_h,
                new_category=None if new_category == was else new_category, reviewer=_name(reviewer), time=utc_now(),
            )  # fmt: skip
            with open_verdicts(self._run.path) as store:
                store.record([judgement])
            self._verdicts.boxes.setdefault(target.number, {})[judgement.reviewer] = judgement
            self._stamp = _stamp_of(self._run)
            self._leases.pop(target.key, None)

    def complete(self, target: Target, reviewer: str, missed: Iterable[MissedObject]) -> None:
        """Record that an image was looked at whole, and which objects have no correct box.

        Raises:
            InputError: A box of the image has no verdict of the reviewer, something of it is invalid, or the image's
                file is another one than was mined.
        """
        with self._lock:
            self._read_what_others_recorded()
            image = self.index.image_of(target.number)
            own = self._own_verdicts(reviewer)
            left = [int(one) for one in self.index.ids[self.index.places_on(target.number)] if int(one) not in own]
            if left:
                raise InputError(f"{len(left)} boxes of the image have no verdict yet, first {min(left)}.")
            objects = tuple(
                MissedObject(self._class(one.category), None if one.xywh is None else _inside(one.xywh, image))
                for one in missed
            )
            self._why_of(target, image.file_name)
            judgement = ImageJudgement(
                target.plan, image.file_name, self._hash_of(image), objects, _name(reviewer), utc_now()
            )
            with open_verdicts(self._run.path) as store:
                store.record([], [judgement])
            self._verdicts.images.setdefault(image.file_name, {})[judgement.reviewer] = judgement
            self._stamp = _stamp_of(self._run)
            self._leases.pop(target.key, None)

    def take_back(self, target: Target, reviewer: str) -> None:
        """Withdraw the reviewer's verdict on a box or image."""
        with self._lock:
            with open_verdicts(self._run.path) as store:
                if target.kind == "box":
                    store.withdraw_box(target.number, reviewer, utc_now())
                else:
                    store.withdraw_image(self.index.image_of(target.number).file_name, reviewer, utc_now())
            self._read_verdicts()
            self._leases[target.key] = reviewer, time.monotonic()

    def estimate(self) -> AuditEstimate:
        """Estimate precision, objects and recall from what was said so far."""
        return estimate_audit(self._run.path)

    def close(self) -> None:
        """Write the table of verdicts, if anything was said."""
        with self._lock, open_verdicts(self._run.path, to_write=False) as store:
            if store.judgements() or store.image_judgements():
                write_verdict_table(store)

    def _why_of(self, target: Target, file_name: str) -> Why:
        """Why a plan asks for a box or image, by its record: the browser's word for it does not count."""
        if not target.plan:
            return "review"
        with open_verdicts(self._run.path, to_write=False) as store:
            drawn, images = store.drawn_by(target.plan) or {}, store.images_of(target.plan)
        if target.kind == "box" and target.number in drawn:
            return drawn[target.number].why
        if file_name in images:
            return "image"
        raise InputError(f"The plan {target.plan!r} does not ask for this {target.kind}.")

    def _class(self, name: str) -> str:
        known = {normalise_class_name(one): one for one in self.index.classes.values()}
        if normalise_class_name(name) not in known:
            raise InputError(f"{name!r} is no class of the run; {did_you_mean(name, known.values())}")
        return known[normalise_class_name(name)]

    def _hash_of(self, image: ImageInfo) -> str | None:
        found = hashes_now(self._run, {image.file_name})[image.file_name]
        if found == "":
            raise InputError(f"{image.file_name!r} is another file than was mined: a verdict on it would not count.")
        return found


def _stamp_of(run: Run) -> tuple[int, ...]:
    """What changes when somebody writes to the record of verdicts."""
    found = []
    for suffix in ("", "-wal"):
        try:
            one = (run.path / f"{VERDICTS_FILE}{suffix}").stat()
        except OSError:
            continue
        if one.st_size:
            found += [one.st_mtime_ns, one.st_size]
    return tuple(found)


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_verdict(verdict: str, category: str | None) -> None:
    if verdict not in VERDICTS:
        raise InputError(f"{verdict!r} is no verdict on a box; {did_you_mean(verdict, VERDICTS)}")
    if category is not None and verdict != "wrong_class":
        raise InputError("A box of another class has the verdict wrong_class.")


def _name(reviewer: str) -> str:
    if not reviewer.strip():
        raise InputError("The reviewer has no name.")
    return reviewer.strip()


def _box_of(index: RunIndex, place: int) -> Box:
    x, y, w, h = (float(side) for side in index.xywh[place])
    return x, y, w, h


def _is_same(own: Box, box: Box) -> bool:
    return all(abs(first - second) <= _SAME_PX for first, second in zip(own, box, strict=True))


def _inside(box: Box, image: ImageInfo) -> Box:
    """The part of a box inside the image; InputError if there is none."""
    if not np.isfinite(box).all():
        raise InputError("A box has four finite numbers.")
    x, y = max(0.0, box[0]), max(0.0, box[1])
    w, h = min(box[0] + box[2], image.width) - x, min(box[1] + box[3], image.height) - y
    if w < 1 or h < 1:
        raise InputError("A box has at least one pixel inside its image.")
    return round(x, 2), round(y, 2), round(w, 2), round(h, 2)


def _shown_record(target: Target) -> dict[str, Any]:
    return {"kind": target.kind, "number": target.number, "plan": target.plan, "why": target.why}


def _missed_record(one: MissedObject) -> dict[str, Any]:
    return {"category": one.category, "box": one.xywh}


def _shuffled(plan: str, key: object) -> int:
    """A number that orders the parts of a plan at random, the same way each time."""
    return int.from_bytes(hashlib.sha256(f"{plan}/{key}".encode()).digest()[:8], "big")
