"""The boxes of a label store are reviewed in the runs that they are from, the newest first."""

import shutil

import pytest

from mining.errors import InputError
from mining.label_store.runs_to_review import runs_to_review
from mining.review.pictures import PictureFolder
from mining.review.reviews import Reviews, RunToReview
from tests.unit.engine.painting import BOX, scene
from tests.unit.label_store.project import LabelProject
from tests.unit.label_store.test_publish import red


@pytest.fixture
def store(project: LabelProject) -> LabelProject:
    """A store with two versions, each with boxes of a run."""
    for number in range(3):
        project.add_image(f"{number}.png", red(255 - number))
    project.run_job()
    project.add_image("later.png", red(200))
    project.run_job()
    return project


def test_the_runs_of_the_newest_version_come_first(store: LabelProject) -> None:
    found = runs_to_review(str(store.store))
    first, second = sorted(store.runs.glob("images-0000*"))
    assert [path for path, _ in found] == [second, first]
    titles = [title for _, title in found]
    assert titles[0].startswith("images, new in version 1 of 20")
    assert titles[1].startswith("images, new in version 0 of 20")
    review = Reviews([RunToReview(*one) for one in found], PictureFolder(store.folder / "cache")).open(0)
    assert len(review.session.index) == 1


def test_a_version_without_new_images_keeps_the_runs_of_earlier_ones(store: LabelProject) -> None:
    store.delete_image("later.png")
    store.run_job()
    assert [title.split(" of ")[0] for _, title in runs_to_review(str(store.store))] == [
        "images, new in version 1", "images, new in version 0",
    ]  # fmt: skip


def test_staged_runs_come_before_all_others(store: LabelProject) -> None:
    for number in range(9):
        store.add_image(f"dark-{number}.png", scene((BOX, (0, 0, number))))
    assert store.run_job().state == "staged"
    path, title = runs_to_review(str(store.store))[0]
    assert title == f"images, staged and not published: {path.name}"
    assert path.name.startswith("images-00003-")


def test_runs_that_are_on_another_machine_are_left_out(store: LabelProject) -> None:
    first, second = sorted(store.runs.glob("images-0000*"))
    shutil.rmtree(second)
    assert [path for path, _ in runs_to_review(str(store.store))] == [first]
    shutil.rmtree(first)
    with pytest.raises(InputError, match=r"is on this machine, e\.g\. .*images-00002.* Boxes are judged where"):
        runs_to_review(str(store.store))


def test_runs_of_one_corpus_can_be_chosen(store: LabelProject) -> None:
    assert len(runs_to_review(str(store.store), "images")) == 2
    with pytest.raises(InputError, match="None of the runs"):
        runs_to_review(str(store.store), "other")
