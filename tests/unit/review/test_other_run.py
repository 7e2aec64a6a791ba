"""A run that is reviewed beside another one."""

from pathlib import Path

import pytest

from mining.errors import RunError
from mining.review.other_run import OtherRun
from mining.review.queues import DIFFERENT
from mining.review.run_index import RunIndex
from mining.review.session import ReviewSession
from mining.runs.run import Run
from tests.unit.export.conftest import Painted, write_run

SAME, ELSEWHERE = (1, 10, 10, 20, 20, 0.9), (1, 36, 10, 20, 20, 0.5)
OTHER_CLASS = (3, 10, 10, 20, 20, 0.9)


def run_of(folder: Path, *painted: Painted) -> Run:
    folder.mkdir()
    return Run.open(write_run(folder, painted).folder, finished=True)


@pytest.fixture
def own(tmp_path: Path) -> Run:
    return run_of(
        tmp_path / "own",
        Painted("same.png", (SAME,)),
        Painted("moved.png", (SAME,)),
        Painted("fewer.png", (SAME,)),
        Painted("class.png", (SAME,)),
        Painted("mine.png", (SAME,)),
    )


@pytest.fixture
def other(tmp_path: Path) -> Run:
    return run_of(
        tmp_path / "other",
        Painted("moved.png", (ELSEWHERE,)),
        Painted("fewer.png", (SAME, ELSEWHERE)),
        Painted("class.png", (OTHER_CLASS,)),
        Painted("same.png", (SAME,)),
        Painted("theirs.png", (SAME,)),
    )


def test_differences_are_boxes_without_a_counterpart_on_images_that_both_mined(own: Run, other: Run) -> None:
    index = RunIndex(own)
    names = {number: name for name, number in index.image_ids.items()}
    found = [
        (kind, names[number] if kind == "image" else index.box_of(number)[0].file_name)
        for kind, number in OtherRun(index, other).differences()
    ]
    assert found == [
        ("box", "moved.png"), ("image", "moved.png"), ("image", "fewer.png"), ("box", "class.png"),
        ("image", "class.png"),
    ]  # fmt: skip


def test_two_runs_with_the_same_boxes_do_not_differ(own: Run) -> None:
    assert list(OtherRun(RunIndex(own), own).differences()) == []


def test_the_boxes_of_the_other_run_are_shown_with_the_image(own: Run, other: Run) -> None:
    session = ReviewSession(own, other)
    assert session.other_name == other.name
    size = {one["name"]: one["size"] for one in session.list_queues()}[DIFFERENT]
    assert size is None, "it is not known before somebody looks"
    target = session.next_target(DIFFERENT, "Ada")
    assert target is not None
    item = session.describe(target, "Ada")
    assert item["other"] == [{"category": "dog", "box": [36, 10, 20, 20]}]
    assert {one["name"]: one["size"] for one in session.list_queues()}[DIFFERENT] == 5
    assert session.progress(DIFFERENT) == {"done": 0, "all": 5}


def test_an_image_that_only_one_run_mined_has_no_boxes_of_the_other(own: Run, other: Run) -> None:
    index = RunIndex(own)
    compared = OtherRun(index, other)
    assert compared.boxes_on(index.image_ids["mine.png"]) is None
    assert compared.boxes_on(index.image_ids["same.png"]) == [{"category": "dog", "box": [10, 10, 20, 20]}]


def test_a_run_of_other_images_is_refused(own: Run, tmp_path: Path) -> None:
    stranger = run_of(tmp_path / "stranger", Painted("x.png", (SAME,)))
    with pytest.raises(RunError, match="no image in common"):
        ReviewSession(own, stranger)


def test_a_review_without_another_run_has_no_such_queue(own: Run) -> None:
    session = ReviewSession(own)
    assert DIFFERENT not in {one["name"] for one in session.list_queues()}
    target = session.next_target("doubtful", "Ada")
    assert target is not None
    assert session.describe(target, "Ada")["other"] is None
