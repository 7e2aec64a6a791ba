"""What reviewers are shown, and what becomes of what they say."""

from pathlib import Path

import pyarrow as pa
import pytest

from mining.corpus import QUARANTINE_SCHEMA
from mining.errors import InputError
from mining.quality.audit import estimate_audit
from mining.quality.judgements import MissedObject
from mining.quality.verdicts import open_verdicts
from mining.review import session as sessions
from mining.review.orders import Target
from mining.review.session import ReviewSession
from mining.runs.run import Run
from mining.storage.parquet import parquet_writer
from tests.unit.export.conftest import Painted
from tests.unit.review.review_run import photos, write_review_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_review_run(tmp_path, photos(11))


@pytest.fixture
def session(run: Run) -> ReviewSession:
    return ReviewSession(run)


def judge_all(session: ReviewSession, queue: str, reviewer: str, verdict: str = "correct") -> list[Target]:
    seen = []
    while (target := session.next_target(queue, reviewer)) is not None:
        session.say(target, reviewer, verdict)
        seen.append(target)
    return seen


def test_queues_have_all_boxes_of_their_kind(session: ReviewSession) -> None:
    sizes = {one["name"]: one["size"] for one in session.list_queues()}
    assert sizes == {
        "plan": 0, "doubtful": 20, "images": 0, "no_box": 1, "disputed": 0, "class:dog": 10, "class:cat & <mouse>": 10
    }  # fmt: skip
    first = session.next_target("doubtful", "Ada")
    assert first is not None
    assert session.index.score[session.index.place_of(first.number)] == pytest.approx(0.4)
    with pytest.raises(InputError, match="no queue"):
        session.next_target("other", "Ada")


def test_a_random_draw_is_judged_box_by_box_and_estimated(session: ReviewSession, run: Run) -> None:
    assert session.draw(boxes=12) == (12, 0)
    seen = judge_all(session, "plan", "Ada")
    assert len({one.number for one in seen}) == 12
    assert {(one.why, bool(one.plan)) for one in seen} == {("random", True)}
    assert session.progress("plan") == {"done": 12, "all": 12}
    found = estimate_audit(run.path).precision
    assert found is not None
    assert (found.verdicts, found.value) == (12, 1)
    assert session.draw(boxes=12) == (8, 0)
    with pytest.raises(InputError, match="drawn so far"):
        session.draw(boxes=12)


def test_the_order_of_a_draw_is_random_and_stays_the_same(session: ReviewSession, run: Run) -> None:
    session.draw(boxes=20)
    order = [one.number for one in session._queues.order("plan").after(None)]
    assert order != sorted(order)
    assert [one.number for one in ReviewSession(run)._queues.order("plan").after(None)] == order


def test_verdicts_are_on_disk_at_once(session: ReviewSession, run: Run) -> None:
    session.draw(boxes=5)
    target = session.next_target("plan", "Ada")
    assert target is not None
    session.say(target, "Ada", "nothing")
    with open_verdicts(run.path, to_write=False) as store:
        assert [one.verdict for one in store.judgements()] == ["nothing"]
    assert ReviewSession(run).progress("plan") == {"done": 1, "all": 5}


def test_a_corrected_box_and_class_are_recorded_inside_the_image(session: ReviewSession, run: Run) -> None:
    target = Target("box", 1)
    session.say(target, "Ada", "wrong_class", (-5, 3, 80, 20), "cat & <mouse>")
    with open_verdicts(run.path, to_write=False) as store:
        (said,) = store.judgements()
    assert said.corrected == (0, 3, 60, 20)
    assert (said.new_category, said.why, said.plan) == ("cat & <mouse>", "review", "")
    own = session.index.xywh[0]
    session.say(target, "Ada", "correct", (float(own[0]), float(own[1]), float(own[2]), float(own[3])))
    with open_verdicts(run.path, to_write=False) as store:
        assert store.judgements()[0].corrected is None


def test_undo_takes_the_verdict_back_and_shows_the_box_again(session: ReviewSession, run: Run) -> None:
    session.draw(boxes=5)
    target = session.next_target("plan", "Ada")
    assert target is not None
    session.say(target, "Ada", "correct")
    session.take_back(target, "Ada")
    assert estimate_audit(run.path).precision is None
    assert session.progress("plan") == {"done": 0, "all": 5}
    assert session.next_target("plan", "Ada") == target
    session.say(target, "Ada", "correct")  # the same again counts
    assert session.progress("plan")["done"] == 1
    with open_verdicts(run.path, to_write=False) as store:
        assert len(store.judgements()) == 1
        assert store.pending() == (4, 0)


def test_two_reviewers_are_never_shown_the_same_but_one_in_ten(
    session: ReviewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.draw(boxes=20)
    shown = [session.next_target("plan", who) for who in ("Ada", "Bob", "Cy")]
    assert len({one.number for one in shown if one is not None}) == 3
    monkeypatch.setattr(sessions, "shuffled", lambda plan, key: int(key))  # every tenth box is for two
    for queue in ("plan",):
        ada, bob = judge_all(session, queue, "Ada"), judge_all(session, queue, "Bob")
    common = {one.number for one in ada} & {one.number for one in bob}
    assert common <= {10, 20}
    assert session.progress("plan")["done"] == 20 - len(shown) + 2  # Cy still looks at one


def test_a_box_that_someone_left_open_is_free_again_after_a_while(
    session: ReviewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.draw(boxes=1)
    assert session.next_target("plan", "Ada") is not None
    assert session.next_target("plan", "Bob") is None
    monkeypatch.setattr(sessions, "LEASE_S", 0.0)
    assert session.next_target("plan", "Bob") is not None


def test_a_skipped_box_comes_again_after_the_others(session: ReviewSession) -> None:
    session.draw(boxes=3)
    first = session.next_target("plan", "Ada")
    assert first is not None
    seen = [first]
    for _ in range(3):
        one = session.next_target("plan", "Ada", seen[-1].key)
        assert one is not None
        seen.append(one)
    assert len({one.number for one in seen[:3]}) == 3
    assert seen[3] == first


def test_a_whole_image_needs_a_verdict_on_each_box_and_lists_what_was_missed(session: ReviewSession, run: Run) -> None:
    assert session.draw(images=6) == (0, 6)
    target = session.next_target("images", "Ada")
    assert target is not None
    boxes = session.describe(target, "Ada")["boxes"]
    missed = [MissedObject("dog", (1, 1, 10, 10)), MissedObject("dog", None)]
    if boxes:
        with pytest.raises(InputError, match=rf"{len(boxes)} boxes of the image have no verdict"):
            session.complete(target, "Ada", missed)
    for box in boxes:
        session.say(Target("box", box["id"], target.plan, "image"), "Ada", "correct")
    session.complete(target, "Ada", missed)
    again = session.describe(target, "Ada")
    assert again["missed"] == [{"category": "dog", "box": (1, 1, 10, 10)}, {"category": "dog", "box": None}]
    assert session.progress("images") == {"done": 1, "all": 6}
    with open_verdicts(run.path, to_write=False) as store:
        assert store.pending() == (0, 5)
    session.take_back(target, "Ada")
    assert session.progress("images") == {"done": 0, "all": 6}


def test_what_is_shown_says_nothing_about_scores_and_other_reviewers(session: ReviewSession) -> None:
    session.say(Target("box", 1), "Bob", "nothing")
    shown = session.describe(Target("box", 1), "Ada")
    assert shown["boxes"][0]["said"] is None
    assert shown["boxes"][0].keys() == {"id", "category", "box", "said"}
    assert session.describe(Target("box", 1), "Bob")["boxes"][0]["said"]["verdict"] == "nothing"


def test_a_box_can_be_made_wider_and_tighter_by_its_thresholds(session: ReviewSession) -> None:
    walk = session.describe(Target("box", 1), "Ada")["walk"]
    areas = [w * h for _, _, w, h in walk]
    assert areas == sorted(areas, reverse=True)
    assert (10, 10, 20, 20) in walk
    assert walk[0] == (8, 8, 24, 24)
    assert len(walk) == 5


@pytest.mark.parametrize(
    ("verdict", "box", "category", "message"),
    [
        ("corect", None, None, "did you mean 'correct'"),
        ("withdrawn", None, None, "is no verdict"),
        ("correct", (100, 10, 5, 5), None, "at least one pixel inside"),
        ("correct", (10, 10, float("nan"), 5), None, "four finite numbers"),
        ("correct", None, "dog", "has the verdict wrong_class"),
        ("wrong_class", None, "doge", "did you mean 'dog'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    session: ReviewSession, verdict: str, box: tuple[float, float, float, float] | None, category: str | None, message: str
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=message):
        session.say(Target("box", 1), "Ada", verdict, box, category)
    with pytest.raises(InputError, match="no name"):
        session.say(Target("box", 1), "  ", "correct")
    with pytest.raises(InputError, match="has no box 999"):
        session.say(Target("box", 999), "Ada", "correct")
    assert session.progress("doubtful")["done"] == 0


def test_a_verdict_on_an_image_that_changed_is_refused(session: ReviewSession, run: Run) -> None:
    (run.image_root / "01.jpg").write_bytes(b"another file than was mined")
    with pytest.raises(InputError, match="is another file than was mined"):
        session.say(Target("box", 1), "Ada", "correct")


def test_images_that_could_not_be_used_are_listed_with_the_reason(tmp_path: Path) -> None:
    run = write_review_run(tmp_path, [*photos(3), Painted("broken.jpg", is_quarantined=True)])
    row = {"image_id": 104, "file_name": "broken.jpg", "reason": "the file is empty"}
    with parquet_writer(run.quarantine, QUARANTINE_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema=QUARANTINE_SCHEMA))
    session = ReviewSession(run)
    assert {one["name"]: one["size"] for one in session.list_queues()}["quarantined"] == 1
    assert session.index.quarantined == [("broken.jpg", "the file is empty")]
    assert session.next_target("quarantined", "Ada") is None, "there is nothing to judge"
    assert session.progress("quarantined") == {"done": 0, "all": 0}


def test_agreement_and_disputes_are_listed(session: ReviewSession) -> None:
    assert session.describe_agreement() == {"reviewers": [], "pairs": [], "disputed": 0, "disputes": []}
    for number, bobs in enumerate(("correct", "correct", "nothing", "unsure"), start=1):
        session.say(Target("box", number), "Ada", "correct")
        session.say(Target("box", number), "Bob", bobs)
    image = next(iter(session.index.images_without_box))
    session.complete(Target("image", image), "Cy", [])
    found = session.describe_agreement()
    assert found["reviewers"] == [
        {"name": "Ada", "boxes": 4, "images": 0},
        {"name": "Bob", "boxes": 4, "images": 0},
        {"name": "Cy", "boxes": 0, "images": 1},
    ]
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"], pair["boxes"], pair["same"], pair["kappa"]) == ("Ada", "Bob", 3, 2, 0)
    assert found["disputed"] == 1
    (dispute,) = found["disputes"]
    assert (dispute["number"], dispute["said"]) == (3, {"Ada": "correct", "Bob": "nothing"})
    session.say(Target("box", 3), "Cy", "nothing")
    assert session.describe_agreement()["disputed"] == 0


def test_a_page_of_boxes_is_kept_from_others(session: ReviewSession) -> None:
    first = session.next_targets("class:dog", "Ada", 6)
    assert len(first) == 6
    assert {session.describe_briefly(one)["category"] for one in first} == {"dog"}
    second = session.next_targets("class:dog", "Bob", 6)
    assert len(second) == 4
    assert not {one.number for one in first} & {one.number for one in second}
    assert session.next_targets("no_box", "Ada", 6) == []


def test_boxes_on_which_reviewers_disagree_are_for_a_third(session: ReviewSession) -> None:
    session.say(Target("box", 1), "Ada", "correct")
    session.say(Target("box", 2), "Ada", "correct")
    session.say(Target("box", 1), "Bob", "nothing")
    session.say(Target("box", 2), "Bob", "unsure")
    assert session.next_target("disputed", "Ada") is None
    target = session.next_target("disputed", "Cy")
    assert target is not None
    assert target.number == 1
    session.say(target, "Cy", "nothing")
    assert {one["name"]: one["size"] for one in session.list_queues()}["disputed"] == 0


def test_what_other_processes_record_and_draw_is_seen(session: ReviewSession, run: Run) -> None:
    other = ReviewSession(run)
    other.draw(boxes=4)
    assert session.next_target("plan", "Ada") is not None
    assert session.progress("plan") == {"done": 0, "all": 4}
    assert len(judge_all(other, "plan", "Bob")) == 4
    session.next_target("plan", "Ada")
    assert session.progress("plan") == {"done": 4, "all": 4}


def test_the_reason_for_a_verdict_is_that_of_the_plan_and_not_what_the_browser_says(
    session: ReviewSession, run: Run
) -> None:
    session.draw(boxes=4)
    drawn = session.next_target("plan", "Ada")
    assert drawn is not None
    other = next(
        number
        for number in range(1, 21)
        if number not in {one.number for one in session._queues.order("plan").after(None)}
    )
    with pytest.raises(InputError, match="does not ask for this box"):
        session.say(Target("box", other, drawn.plan, "random"), "Ada", "correct")
    with pytest.raises(InputError, match="does not ask for this box"):
        session.say(Target("box", 1, "no plan", "random"), "Ada", "correct")
    session.say(Target("box", other, "", "random"), "Ada", "correct")
    session.say(Target("box", drawn.number, drawn.plan, "review"), "Ada", "correct")
    with open_verdicts(run.path, to_write=False) as store:
        assert {one.annotation_id: one.why for one in store.judgements()} == {other: "review", drawn.number: "random"}
    image = Target("image", int(session.index.image_ids["00 <b>&amp; nobody.jpg"]), drawn.plan, "image")
    with pytest.raises(InputError, match="does not ask for this image"):
        session.complete(image, "Ada", [])
