"""After any changes of images, labels, model, settings and verdicts, the store has what mining and people gave."""

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mining.quality.applying import HUMAN
from mining.quality.verdicts import open_verdicts
from tests.unit.label_store.project import GATES_OFF, LabelProject, RandomChanges
from tests.unit.label_store.verdicts import Row, draw, record

Box = tuple[Any, ...]  # class and xywh
SIDES = ("x", "y", "w", "h")


class RandomReviewer:
    """Gives random verdicts on the boxes of a project's runs; corrected boxes are of 1 px, each at a place of its own."""

    def __init__(self, project: LabelProject, seed: int) -> None:
        self.project = project
        self.random = random.Random(seed)
        self.plans: dict[Path, list[Row]] = {}
        self.places = 0

    def judge(self) -> None:
        """Judge some boxes of one run, perhaps not for the first time."""
        runs = [run for run in runs_of(self.project) if pq.read_table(run / "annotations.parquet").num_rows]
        if not runs:
            return
        run = self.random.choice(runs)
        if run not in self.plans:
            self.plans[run] = draw(run)
        some = self.random.sample(self.plans[run], self.random.randint(1, len(self.plans[run])))
        record(run, [self._judged(row) for row in some], lambda row: row["verdict"])

    def _judged(self, row: Row) -> Row:
        verdict = self.random.choice(["correct", "nothing", "unsure", "wrong_place", "move"])
        if verdict != "move":
            return {**row, "verdict": verdict}
        self.places += 1
        place = (self.places % 60, self.places // 60, 1, 1)
        return {**row, "verdict": "correct", **dict(zip(SIDES, map(str, place), strict=True))}


def runs_of(project: LabelProject) -> list[Path]:
    return sorted(path for path in project.runs.glob("images-*") if path.is_dir())


def expected(project: LabelProject) -> tuple[dict[tuple[str, str, str], set[Box]], dict[str, set[Box]]]:
    """Mined boxes by run, content and labels; and boxes that people made by content."""
    mined: dict[tuple[str, str, str], set[Box]] = {}
    human: dict[str, set[Box]] = {}
    for run in runs_of(project):
        images = {row["image_id"]: row for row in pq.read_table(run / "corpus.parquet").to_pylist()}
        with open_verdicts(run, to_write=False) as store:
            verdicts = {one.annotation_id: one for one in store.judgements()}
        for box in pq.read_table(run / "annotations.parquet").to_pylist():
            image, one = images[box["image_id"]], verdicts.get(box["annotation_id"])
            kept = mined.setdefault((run.name, image["content_hash"], labels_of(image)), set())
            if one is not None and one.corrected is not None:
                human.setdefault(image["content_hash"], set()).add((box["category"], *one.corrected))
            elif one is None or one.verdict in ("correct", "unsure"):
                kept.add(class_and_place(box))
    return mined, human


def class_and_place(row: dict[str, Any]) -> Box:
    return row["category"], *(row[side] for side in SIDES)


def labels_of(row: dict[str, Any]) -> str:
    return "?" if row["labels"] is None else str(sorted(row["labels"]))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_the_store_has_the_boxes_of_the_runs_and_of_the_people(project: LabelProject, seed: int) -> None:
    changes, reviewer = RandomChanges(project, seed), RandomReviewer(project, seed)
    changes.add()
    content_of: dict[int, str] = {}
    for night in range(7):
        changes.apply(changes.random.randrange(6))
        if night == 4:
            project.change_model(240.0)
        options = {"min_score": 0.2} if night >= 5 else {}
        for _ in range(2):
            reviewer.judge()
        job = project.run_job(mine=options, gates=GATES_OFF)
        mined, human = expected(project)
        rows = project.rows()
        images = {row["image_id"]: row for row in rows}
        for image_id, image in images.items():
            own = [row for row in rows if row["image_id"] == image_id and row["category"] is not None]
            of_people = {class_and_place(row) for row in own if row["source"] == HUMAN}
            of_run = {class_and_place(row) for row in own if row["source"] != HUMAN}
            assert of_people == human.get(image["content_hash"], set())
            assert of_run == mined.get((image["run"], image["content_hash"], labels_of(image)), set())
            assert len(own) == len(of_people) + len(of_run)
            assert bool(own) == (image["state"] == "labelled")
        numbers = [row["annotation_id"] for row in rows if row["annotation_id"] is not None]
        assert len(set(numbers)) == len(numbers) == job.boxes
        for row in rows:  # a number is never used again for a box of another content
            if row["annotation_id"] is not None:
                assert content_of.setdefault(row["annotation_id"], row["content_hash"]) == row["content_hash"]
        assert project.run_job(mine=options, gates=GATES_OFF).state == "unchanged"
