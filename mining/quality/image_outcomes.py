"""How many objects the images show that were looked at whole, and how many of them have a correct box."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mining.arrays import Bools, Floats, Ints
from mining.corpus.schema import PENDING, QUARANTINED
from mining.quality.audited_run import hashes_now, is_another_image
from mining.quality.judgements import ImageJudgement, Judgement
from mining.quality.object_estimates import Objects, estimate_objects
from mining.quality.outcomes import seen_objects
from mining.quality.verdicts import VerdictStore
from mining.runs.run import Run


@dataclass(frozen=True)
class RunImages:
    """The N images of a run that were mined.

    Attributes:
        names: (N,) file names, in the order of the corpus.
        boxes: (N,) number of mined boxes of each.
    """

    names: list[str]
    boxes: Ints

    @classmethod
    def read(cls, run: Run) -> "RunImages":
        """Read them; RunError if a table is missing or damaged."""
        corpus = run.read_corpus(["image_id", "file_name", "state"])
        counts = Counter(run.read_annotations(["image_id"])["image_id"].to_pylist())
        rows = [row for row in corpus.to_pylist() if row["state"] not in (QUARANTINED, PENDING)]
        boxes = np.array([counts[row["image_id"]] for row in rows], np.int64)
        return cls([row["file_name"] for row in rows], boxes)

    def places_of(self, names: Iterable[str]) -> Ints:
        """Return the places of images of the run, in the order of the names."""
        place = {name: number for number, name in enumerate(self.names)}
        return np.array([place[name] for name in names if name in place], np.int64)


@dataclass(frozen=True)
class ObjectAudit:
    """What the images that were looked at whole say about the objects of a run.

    Attributes:
        objects: Estimate over all classes, None with too few images.
        per_class: The same by class name.
        pending: Images that a plan asks for and nobody has looked at.
        changed: Images that count for nothing because their file changed since.
    """

    objects: Objects | None
    per_class: dict[str, Objects | None]
    pending: int
    changed: int


def estimate_run_objects(run: Run, store: VerdictStore) -> ObjectAudit | None:
    """Estimate the number of objects in a run's images, and the share of them that has a correct box.

    Only images count that a plan drew at random. Of several reviewers of an image the mean counts.

    Args:
        run: A finished run.
        store: Its verdicts.

    Returns:
        None for a run whose plans ask for no image.
    """
    drawn = store.drawn_images()
    if not drawn:
        return None
    asked = set(drawn)
    looked_at = [one for one in store.image_judgements() if one.plan and one.file_name in asked]
    hashes = hashes_now(run, {one.file_name for one in looked_at})
    kept = [one for one in looked_at if not is_another_image(one.content_hash, hashes.get(one.file_name))]
    names = sorted({one.file_name for one in kept})
    counted = _Counted.of(names, kept, store.judgements())
    images = RunImages.read(run)
    places = images.places_of(names)
    return ObjectAudit(
        estimate_objects(images.boxes, places, *counted.per_image()),
        {one: estimate_objects(images.boxes, places, *counted.per_image(one)) for one in sorted(set(counted.category))},
        len(asked - set(names)),
        len({one.file_name for one in looked_at}) - len(names),
    )


@dataclass(frozen=True)
class _Counted:
    """The m objects that reviewers see in n images.

    Attributes:
        images: n.
        image: (m,) place of the image.
        category: (m,) class names.
        is_found: (m,) whether the object has a correct box.
        weight: (m,) 1 / number of reviewers of the image.
    """

    images: int
    image: Ints
    category: list[str]
    is_found: Bools
    weight: Floats

    @classmethod
    def of(cls, names: list[str], images: Sequence[ImageJudgement], judgements: Sequence[Judgement]) -> "_Counted":
        of_reviewer: dict[tuple[str, str], list[Judgement]] = {}
        for one in judgements:
            of_reviewer.setdefault((one.file_name, one.reviewer), []).append(one)
        place = {name: number for number, name in enumerate(names)}
        reviewers = Counter(one.file_name for one in images)
        seen = [
            (place[image.file_name], found.category, found.is_found, 1 / reviewers[image.file_name])
            for image in images
            for found in seen_objects(of_reviewer.get((image.file_name, image.reviewer), []), image.missed)
        ]
        return cls(
            len(names), np.array([one[0] for one in seen], np.int64), [one[1] for one in seen],
            np.array([one[2] for one in seen], bool), np.array([one[3] for one in seen], np.float64),
        )  # fmt: skip

    def per_image(self, category: str | None = None) -> tuple[Floats, Floats]:
        """(n,) objects of a class, or of all, in each image; and (n,) those of them that are found."""
        wanted = np.ones(len(self.image), bool) if category is None else np.array(self.category) == category
        objects, found = (
            np.bincount(self.image[some], weights=self.weight[some], minlength=self.images).astype(np.float64)
            for some in (wanted, wanted & self.is_found)
        )
        return objects, found
