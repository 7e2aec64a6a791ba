"""A review of a run: which box or image is shown next and to whom, and what reviewers say, at once on disk."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any

from mining.config.audit import AuditPlanSettings
from mining.corpus.names import normalise_class_name
from mining.errors import InputError, did_you_mean
from mining.quality.agreement import agreements
from mining.quality.audit import AuditEstimate, estimate_audit
from mining.quality.audited_run import hashes_now
from mining.quality.judgements import Box, ImageJudgement, Judgement, MissedObject, Why
from mining.quality.planning import plan_audit
from mining.quality.verdict_table import write_verdict_table
from mining.quality.verdicts import VERDICTS_FILE, open_verdicts
from mining.review.near_duplicates import NearDuplicatePhotos
from mining.review.orders import Key, Order, Target
from mining.review.other_run import OtherRun
from mining.review.queues import Queues, Verdicts, disputed_boxes, shuffled
from mining.review.run_index import ImageInfo, PlacesByThreshold, RunIndex
from mining.review.verdict_checks import box_of, check_verdict, clip_box, is_same_box, reviewer_name
from mining.runs.run import Run
from mining.storage.provenance import utc_now

LEASE_S = 600.0  # how long a box that was shown to one reviewer is not shown to another
OVERLAP = 10  # one of so many boxes is shown to two reviewers
MAX_DISPUTES = 200  # listed at once


class ReviewSession:
    """A run that people review; may be used by several threads.

    Attributes:
        index: The run's boxes and images.
        near_duplicates: Photos of which one stands for several.
    """

    def __init__(self, run: Run, against: Run | None = None) -> None:
        """Open a finished run.

        Args:
            run: The run.
            against: Another finished run of the same images, to be compared with.

        Raises:
            RunError: A run is not finished, or the two share no image.
        """
        run.require_finished()
        self.index = RunIndex(run)
        self.near_duplicates = NearDuplicatePhotos(self.index)
        self._run = run
        self._lock = threading.RLock()
        self._leases: dict[Key, tuple[str, float]] = {}
        self._queues = Queues(self.index, None if against is None else OtherRun(self.index, against))
        self._stamp: tuple[int, ...] = ()
        self._read_verdicts()

    @property
    def other_name(self) -> str | None:
        """Name of the run that it is compared with, None for none."""
        return None if self._queues.other is None else self._queues.other.name

    @property
    def _verdicts(self) -> Verdicts:
        return self._queues.verdicts

    def _read_verdicts(self) -> None:
        with open_verdicts(self._run.path, to_write=False) as store:
            boxes, images = store.judgements(), store.image_judgements()
        found = Verdicts()
        for one in boxes:
            found.boxes.setdefault(one.annotation_id, {})[one.reviewer] = one
        for other in images:
            found.images.setdefault(other.file_name, {})[other.reviewer] = other
        self._queues.verdicts = found
        self._stamp = _stamp_of(self._run)

    def _read_what_others_recorded(self) -> None:
        """Read the verdicts again if another process recorded some, and the plans if it drew one."""
        if _stamp_of(self._run) != self._stamp:
            self._read_verdicts()
            self._queues.forget_plans()

    # --- queues ------------------------------------------------------------------------------------------------------

    def list_queues(self) -> list[dict[str, Any]]:
        """Return the queues that there are: name, title, and number of boxes or images, None if not known yet."""
        with self._lock:
            self._read_what_others_recorded()
            return self._queues.describe()

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

    def next_target(
        self, queue: str, reviewer: str, after: Key | None = None, *, all_photos: bool = False
    ) -> Target | None:
        """Return what a reviewer is to look at next, and keep it from others for a while.

        Nothing is shown that the reviewer judged, that another one is looking at, or that as many reviewers judged as
        are to: two of every tenth box, one of others.

        Args:
            queue: Its name, see `queues`.
            reviewer: Name.
            after: Key of a target that was skipped: the next one after it, and from the beginning after the last.
            all_photos: Show all photos of a group of near-duplicates, not one.
        """
        with self._lock:
            self._read_what_others_recorded()
            order = self._queues.order(queue)
            for target in order.after(after):
                if self._is_open(target, reviewer) and (all_photos or not self._hides(queue, order, target)):
                    self._leases[target.key] = reviewer, time.monotonic()
                    return target
            return None

    def next_targets(
        self, queue: str, reviewer: str, count: int, after: Key | None = None, *, all_photos: bool = False
    ) -> list[Target]:
        """Return the next boxes of a queue at once, all kept from others for a while; see `next_target`."""
        with self._lock:
            self._read_what_others_recorded()
            order = self._queues.order(queue)
            is_fit = (
                one
                for one in order.after(after)
                if one.kind == "box"
                and self._is_open(one, reviewer)
                and (all_photos or not self._hides(queue, order, one))
            )
            found = list(islice(is_fit, count))
            for target in found:
                self._leases[target.key] = reviewer, time.monotonic()
            return found

    def _hides(self, queue: str, order: Order, target: Target) -> bool:
        return self.near_duplicates.hides(queue, order, target)

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
        wanted = 2 if target.plan and shuffled(target.plan, target.number) % OVERLAP == 0 else 1
        return reviewer not in done and len(done) < wanted

    def _reviewers_of(self, target: Target) -> set[str]:
        """Who judged it: for its plan, if one asks for it."""
        if target.kind == "image":
            name = self.index.image_of(target.number).file_name
            return {who for who, one in self._verdicts.images.get(name, {}).items() if one.plan == target.plan}
        said = self._verdicts.boxes.get(target.number, {})
        return {who for who, one in said.items() if not target.plan or one.plan == target.plan}

    def progress(self, queue: str, *, all_photos: bool = False) -> dict[str, int]:
        """Return how many of a queue's boxes or images are judged, how many there are, and how many are hidden, if any.

        Those that are hidden and not judged are not counted among all, unless `all_photos`.
        """
        with self._lock:
            order = self._queues.order(queue)
            judged: list[Key] = [("box", number) for number in self._verdicts.boxes]
            judged += [("image", self.index.image_ids.get(name, -1)) for name in self._verdicts.images]
            found = [one for one in map(order.find, judged) if one is not None]
            done = [one for one in found if self._reviewers_of(one)]
            hidden = self.near_duplicates.count_hidden(queue, order)
            hidden -= sum(self._hides(queue, order, one) for one in done) if hidden else 0
            counts = {"done": len(done), "all": len(order) - (0 if all_photos else hidden)}
            return counts | ({"hidden": hidden} if hidden else {})

    def describe(self, target: Target, reviewer: str) -> dict[str, Any]:
        """Return what the browser shows: the image, the box with its place at other thresholds, and the other boxes.

        Scores and other reviewers' verdicts are not among it, so that nobody is led by them.
        """
        index = self.index
        with self._lock:
            own = self._own_verdicts(reviewer)
            if target.kind == "image":
                image = index.image_of(target.number)
                places = PlacesByThreshold([], [])
            else:
                place = index.place_of(target.number)
                image = index.image_of(int(index.image[place]))
                places = index.places_by_threshold(place)
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
            "near_duplicates": self.near_duplicates.count_others(image.image_id),
            "boxes": boxes, "walk": places.walk, "candidates": places.candidates,
            "other": None if self._queues.other is None else self._queues.other.boxes_on(image.image_id),
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

    def describe_agreement(self, limit: int = MAX_DISPUTES) -> dict[str, Any]:
        """Return how many boxes and images each reviewer judged, how far pairs agree, and what they dispute.

        Args:
            limit: Disputed boxes that are listed; their number is returned too.
        """
        with self._lock:
            self._read_what_others_recorded()
            boxes, images = self._verdicts.boxes, self._verdicts.images
            counts = {
                kind: Counter(who for said in known.values() for who in said)
                for kind, known in (("boxes", boxes), ("images", images))
            }
            every = [one for said in boxes.values() for one in said.values()]
            disputed = list(disputed_boxes(self._verdicts))
            return {
                "reviewers": [
                    {"name": who, "boxes": counts["boxes"][who], "images": counts["images"][who]}
                    for who in sorted(counts["boxes"] | counts["images"])
                ],
                "pairs": [asdict(one) for one in agreements(every)],
                "disputed": len(disputed),
                "disputes": [
                    {
                        "number": number, "file": next(iter(boxes[number].values())).file_name,
                        "category": next(iter(boxes[number].values())).category,
                        "said": {who: one.verdict for who, one in sorted(boxes[number].items())},
                    }
                    for number in disputed[:limit]
                ],
            }  # fmt: skip

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
        check_verdict(verdict, category)
        with self._lock:
            self._read_what_others_recorded()
            place = self.index.place_of(target.number)
            image = self.index.image_of(int(self.index.image[place]))
            own = box_of(self.index, place)
            moved = None if box is None or is_same_box(own, box) else clip_box(box, image)
            new_category = None if category is None else self._class(category)
            was = self.index.classes[int(self.index.category[place])]
            new_x, new_y, new_w, new_h = moved or (None, None, None, None)
            why = self._why_of(target, image.file_name)
            judgement = Judgement(
                plan=target.plan, why=why, annotation_id=target.number, file_name=image.file_name,
                content_hash=self._hash_of(image), category=was, x=own[0], y=own[1], w=own[2], h=own[3],
                verdict=verdict,  # type: ignore[arg-type]
                new_x=new_x, new_y=new_y, new_w=new_w, new_h=new_h,
                new_category=None if new_category == was else new_category,
                reviewer=reviewer_name(reviewer), time=utc_now(),
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
                boxes = f"{len(left)} boxes of the image have" if len(left) > 1 else "1 box of the image has"
                raise InputError(f"{boxes} no verdict yet.")
            objects = tuple(
                MissedObject(self._class(one.category), None if one.xywh is None else clip_box(one.xywh, image))
                for one in missed
            )
            self._why_of(target, image.file_name)
            judgement = ImageJudgement(
                target.plan, image.file_name, self._hash_of(image), objects, reviewer_name(reviewer), utc_now()
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
        self.near_duplicates.stop()
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


def _shown_record(target: Target) -> dict[str, Any]:
    return {"kind": target.kind, "number": target.number, "plan": target.plan, "why": target.why}


def _missed_record(one: MissedObject) -> dict[str, Any]:
    return {"category": one.category, "box": one.xywh}
