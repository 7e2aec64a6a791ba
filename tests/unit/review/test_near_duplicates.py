"""Of a group of near-duplicate photos one is shown, except where a plan asks for all."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ImageOps
from starlette.testclient import TestClient

from mining.review import near_duplicates
from mining.review.access import Access
from mining.review.application import build_application
from mining.review.orders import Target
from mining.review.pictures import PictureFolder
from mining.review.reviews import Reviews, RunToReview
from mining.review.session import ReviewSession
from mining.runs.run import Run
from tests.unit.corpus.test_near_duplicates import photo
from tests.unit.export.conftest import Painted
from tests.unit.review.review_run import write_review_run

PHOTOS, COPIES = 5, 3
BOXED = PHOTOS * COPIES


def write_copied_run(folder: Path) -> Run:
    """Five photos three times each, with a box of each class; and one photo twice without a box."""
    listed = [
        Painted(f"{number}-{kind}.jpg", ((1, 10, 10, 20, 20, 0.9 - 0.1 * kind), (3, 36, 8, 20, 24, 0.4)))
        for number in range(PHOTOS)
        for kind in range(COPIES)
    ]
    run = write_review_run(folder, [*listed, Painted("9-0.jpg"), Painted("9-1.jpg")])
    table = pq.read_table(run.corpus)
    names = table["file_name"].to_pylist()
    for name in names:
        image = photo(int(name[0]), (60, 40))
        (ImageOps.mirror(image) if name[2] == "1" else image).save(
            run.image_root / name, quality=90 - 10 * int(name[2])
        )
    sizes = pa.array([(run.image_root / name).stat().st_size for name in names], pa.int64())
    place = table.schema.get_field_index("bytes")
    pq.write_table(table.set_column(place, table.schema.field("bytes"), sizes), run.corpus)
    return Run.open(run.path, finished=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_copied_run(tmp_path_factory.mktemp("review"))


@pytest.fixture
def session(run: Run) -> ReviewSession:
    session = ReviewSession(run)
    session.near_duplicates.search()
    return session


def shown(session: ReviewSession, queue: str, *, all_photos: bool = False) -> list[str]:
    """File names of the photos that a queue shows, in its order."""
    targets: list[Target] = []
    after = None
    while True:
        target = session.next_target(queue, "Ada", after, all_photos=all_photos)
        if target is None or target in targets:
            break
        targets.append(target)
        after = target.key
    index = session.index
    images = [one.number if one.kind == "image" else int(index.image[index.place_of(one.number)]) for one in targets]
    return [index.image_of(image).file_name for image in images]


@pytest.mark.parametrize(("queue", "boxes"), [("doubtful", 2), ("class:dog", 1), ("class:cat & <mouse>", 1)])
def test_a_queue_shows_one_photo_of_a_group(queue: str, boxes: int, session: ReviewSession) -> None:
    names = shown(session, queue)
    assert len(names) == boxes * PHOTOS
    assert len(set(names)) == len({name[0] for name in names}) == PHOTOS
    assert len(shown(session, queue, all_photos=True)) == boxes * BOXED


def test_the_photo_that_is_shown_is_the_one_that_comes_first_in_the_queue(session: ReviewSession) -> None:
    assert {name[2] for name in shown(session, "class:dog")} == {"2"}  # lowest score first


def test_images_without_a_box_are_shown_once(session: ReviewSession) -> None:
    assert shown(session, "no_box") == ["9-0.jpg"]


def test_all_boxes_that_a_plan_drew_are_shown(tmp_path: Path) -> None:
    session = ReviewSession(write_copied_run(tmp_path))
    session.near_duplicates.search()
    session.draw(boxes=2 * BOXED)
    session.draw(images=BOXED + 2)
    assert len(shown(session, "plan")) == 2 * BOXED
    assert len(shown(session, "images")) == BOXED + 2
    assert "hidden" not in session.progress("plan") | session.progress("images")


def test_hidden_boxes_are_counted_until_they_are_judged(tmp_path: Path) -> None:
    session = ReviewSession(write_copied_run(tmp_path))
    before = session.progress("class:dog")
    session.near_duplicates.search()
    assert before == {"done": 0, "all": BOXED}
    assert session.progress("class:dog") == {"done": 0, "all": PHOTOS, "hidden": BOXED - PHOTOS}
    assert session.progress("class:dog", all_photos=True) == {"done": 0, "all": BOXED, "hidden": BOXED - PHOTOS}
    for _ in range(BOXED):
        target = session.next_target("class:dog", "Ada", all_photos=True)
        assert target is not None
        session.say(target, "Ada", "correct")
    assert session.progress("class:dog") == {"done": BOXED, "all": BOXED}


def test_an_item_says_how_many_near_duplicates_it_has(session: ReviewSession) -> None:
    target = session.next_target("class:dog", "Ada")
    assert target is not None
    assert session.describe(target, "Ada")["near_duplicates"] == COPIES - 1


def test_until_the_search_is_done_all_are_shown(run: Run) -> None:
    assert len(shown(ReviewSession(run), "class:dog")) == BOXED


def test_a_stopped_search_hides_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "START_DELAY_S", 0.0)
    session = ReviewSession(run)
    session.near_duplicates.stop()
    session.near_duplicates.start()
    assert session.near_duplicates._thread is not None
    session.near_duplicates._thread.join(60)
    assert "hidden" not in session.progress("class:dog")


def test_a_search_that_is_stopped_has_ended_and_finds_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def find(*_: object, progress: Callable[[int, int], None], **__: object) -> None:
        begun.set()
        while True:
            time.sleep(0.01)
            progress(0, 1)

    monkeypatch.setattr(near_duplicates, "START_DELAY_S", 0.0)
    monkeypatch.setattr(near_duplicates, "find_near_duplicates", find)
    session = ReviewSession(run)
    session.near_duplicates.start()
    assert begun.wait(60)
    session.close()
    assert session.near_duplicates._thread is not None
    assert not session.near_duplicates._thread.is_alive()
    assert "hidden" not in session.progress("class:dog")


def test_a_photo_that_is_gone_is_shown_and_the_others_are_searched(tmp_path: Path) -> None:
    run = write_copied_run(tmp_path)
    (run.image_root / "0-1.jpg").unlink()
    session = ReviewSession(run)
    session.near_duplicates.search()
    assert sorted(name[0] for name in shown(session, "class:dog")) == sorted("001234")


def test_the_application_searches_in_the_background(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "START_DELAY_S", 0.0)
    reviews = Reviews([RunToReview(run.path, "a run")], PictureFolder(tmp_path))
    reviews.search_near_duplicates()
    photos = reviews.open(0).session.near_duplicates  # opened after the search was asked for
    assert photos._thread is not None
    photos._thread.join(60)
    client = TestClient(
        build_application(reviews, Access.for_address("127.0.0.1", 8770)), base_url="http://127.0.0.1:8770"
    )
    asked = {"queue": "class:dog", "reviewer": "Ada"}
    few, every = (client.get("/api/page", params={**asked, "all_photos": value}).json() for value in (False, True))
    assert (len(few["items"]), few["all"], few["hidden"]) == (PHOTOS, PHOTOS, BOXED - PHOTOS)
    assert (len(every["items"]), every["all"]) == (BOXED, BOXED)
    found = client.get("/api/next", params={**asked, "all_photos": True}).json()
    assert found["item"]["near_duplicates"] == COPIES - 1
    assert client.get("/api/progress", params={"queue": "class:dog"}).json()["all"] == PHOTOS
    reviews.close()
