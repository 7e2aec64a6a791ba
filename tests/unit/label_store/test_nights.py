"""Whatever happens to the photos from night to night, the store holds what mining them all afresh gives."""

import random
from pathlib import Path

import pytest

from tests.unit.engine.painting import scene
from tests.unit.label_store.desk import Desk, told

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
GATES_OFF = {"max_no_box": None, "max_quarantined": None, "max_retired": None, "max_score_drift": None, "max_size_drift": None}  # fmt: skip


class Nights:
    """Somebody who adds, edits, renames, copies, deletes, swaps and breaks photos, and changes their labels."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        desk.labels = {}
        self.random = random.Random(seed)
        self.count = 0

    def picture(self) -> object:
        """One of few, so that contents meet again."""
        x, y = self.random.choice([4, 20, 40]), self.random.choice([4, 24])
        return scene(((x, y, x + self.random.choice([20, 36]), y + 30), self.random.choice(COLOURS)))

    def labels(self) -> tuple[str, ...]:
        return self.random.choice([("red",), ("green",), ("red", "green"), ("blue",), ()])

    def name(self) -> str:
        return self.random.choice(sorted(self.desk.labels or {}))

    def add(self) -> None:
        self.count += 1
        self.desk.put(f"{self.count:03d}.png", self.picture(), *self.labels())  # type: ignore[arg-type]

    def edit(self) -> None:
        name = self.name()
        self.desk.put(name, self.picture(), *(self.desk.labels or {})[name])  # type: ignore[arg-type]

    def damage(self) -> None:
        name = self.name()
        self.desk.put(name, self.random.randbytes(40), *(self.desk.labels or {})[name])

    def rename(self) -> None:
        self.count += 1
        self.desk.rename(self.name(), f"{self.count:03d}.png")

    def copy(self) -> None:
        self.count += 1
        name = self.name()
        data = (self.desk.photos / name).read_bytes()
        self.desk.put(f"{self.count:03d}.png", data, *(self.desk.labels or {})[name])

    def delete(self) -> None:
        if len(self.desk.labels or {}) > 1:
            self.desk.remove(self.name())

    def swap(self) -> None:
        first, second = self.desk.photos / self.name(), self.desk.photos / self.name()
        contents = first.read_bytes(), second.read_bytes()
        second.write_bytes(contents[0])
        first.write_bytes(contents[1])

    def relabel(self) -> None:
        self.desk.labels = {**(self.desk.labels or {}), self.name(): self.labels()}

    def pass_by(self, events: int) -> None:
        """A night with so many events."""
        does = [
            self.add,
            self.add,
            self.edit,
            self.damage,
            self.rename,
            self.copy,
            self.delete,
            self.swap,
            self.relabel,
        ]
        for _ in range(events):
            (self.random.choice(does) if self.desk.labels else self.add)()


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 40))])
def test_the_store_holds_what_mining_everything_afresh_gives(desk: Desk, tmp_path: Path, seed: int) -> None:
    nights = Nights(desk, seed)
    nights.add()
    given: dict[int, str] = {}
    for night in range(6):
        nights.pass_by(nights.random.randrange(8))
        options = {"min_score": 0.2} if night >= 4 else {}
        job = desk.job(mine=options, gates=GATES_OFF)
        assert (job.deferred, job.tally["listed"]) == (0, len(desk.labels or {}))
        rows = desk.rows()
        found = {name: [told(row) for row in own] for name, own in desk.by_name().items()}
        assert found == desk.from_scratch(tmp_path / f"afresh-{night}", **options)
        numbers = [row["annotation_id"] for row in rows if row["annotation_id"] is not None]
        assert len(set(numbers)) == len(numbers) == job.boxes
        assert len({row["image_id"] for row in rows}) == len(found) == job.images
        for row in rows:  # a number is never given to a box of another content
            if row["annotation_id"] is not None:
                assert given.setdefault(row["annotation_id"], row["content_hash"]) == row["content_hash"]
        again = desk.job(mine=options, gates=GATES_OFF)
        assert again.state == "unchanged"
        assert (again.runs, again.images, again.boxes) == ([], job.images, job.boxes)
