"""The review application in a browser, by keyboard and mouse, as people use it."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from mining.quality.audit import estimate_audit
from mining.quality.judgements import Judgement, Verdict
from mining.quality.verdicts import open_verdicts
from mining.runs.run import Run
from tests.browser.conftest import Application, running
from tests.unit.engine.painting import list_painted
from tests.unit.export.conftest import Painted
from tests.unit.label_store.project import LabelProject
from tests.unit.label_store.test_publish import red
from tests.unit.review.review_run import ELSEWHERE, photos, write_review_run

Opened = Callable[[str, str], Page]


def verdicts_of(run: Run) -> list[Judgement]:
    with open_verdicts(run.path, to_write=False) as store:
        return store.judgements()


def progress(page: Page) -> Locator:
    return page.locator("#progress")


def draw(page: Page) -> None:
    """Draw the first 60 boxes, which are all."""
    page.locator("#empty button", has_text="boxes").click()
    expect(progress(page)).to_have_text("0 of 60")


def choose(page: Page, queue: str) -> None:
    page.select_option("#queue", queue)


def tap(page: Page, key: str) -> None:
    """Press a key as soon as the page takes it: when nothing is being recorded, and the photo is there."""
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    page.keyboard.press(key)


def press(page: Page, key: str, done: str) -> None:
    tap(page, key)
    expect(progress(page)).to_have_text(done)


def own_box(page: Page) -> list[float]:
    box = page.locator("#overlay .own")
    return [float(box.get_attribute(name) or "nan") for name in ("x", "y", "width", "height")]


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def judgement(number: int, reviewer: str, verdict: Verdict) -> Judgement:
    """A verdict on the first or second box of the first photo with boxes."""
    x, y, w, h = ((10, 10, 20, 20), (36, 8, 20, 24))[number - 1]
    return Judgement(
        plan="", why="review", annotation_id=number, file_name="01.jpg", content_hash=None,
        category=("dog", "cat & <mouse>")[number - 1], x=x, y=y, w=w, h=h, verdict=verdict, reviewer=reviewer,
        new_x=None, new_y=None, new_w=None, new_h=None, new_category=None, time="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture
def offering(tmp_path: Path) -> Iterator[Application]:
    """The review of a run whose lowest thresholds have boxes at another place."""
    with running(write_review_run(tmp_path, photos(31), elsewhere=True), tmp_path / "log.txt") as started:
        yield started


@pytest.fixture
def compared(run: Run, tmp_path: Path) -> Iterator[Application]:
    """The review of a run beside another one, which has one more box on one image."""
    further = [*photos(3), Painted("03.jpg", (*photos(4)[3].boxes, (1, 2, 2, 8, 8, 0.3))), *photos(31)[4:]]
    (tmp_path / "further").mkdir()
    other = write_review_run(tmp_path / "further", further)
    with running(run, tmp_path / "log.txt", "--against", str(other.path.rename(tmp_path / "other"))) as started:
        yield started


def test_thirty_boxes_are_judged_by_keyboard(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    started = time.monotonic()
    for number in range(1, 31):
        press(page, "x" if number % 3 == 0 else "a", f"{number} of 60")
    assert time.monotonic() - started < 60
    found = estimate_audit(run.path).precision
    assert found is not None
    expect(page.locator("#precision")).to_contain_text(f"Precision {100 * found.value:.1f} %")
    said = verdicts_of(run)
    assert sorted(one.verdict for one in said) == ["correct"] * 20 + ["nothing"] * 10
    assert {(one.reviewer, one.why) for one in said} == {("Ada", "random")}
    assert found.verdicts == 30


@pytest.mark.slow
def test_undo_previous_and_next(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    press(page, "a", "1 of 60")
    press(page, "a", "2 of 60")
    name = page.locator("#file").inner_text(), page.locator("#category").inner_text()
    press(page, "z", "1 of 60")
    assert len(verdicts_of(run)) == 1
    press(page, "x", "2 of 60")
    assert sorted(one.verdict for one in verdicts_of(run)) == ["correct", "nothing"]
    tap(page, "p")
    expect(page.locator("#buttons .said")).to_have_attribute("data-action", "nothing")
    tap(page, "c")  # the earlier verdict is put right
    page.keyboard.type("cat")
    tap(page, "Enter")
    expect(page.locator("#category")).not_to_have_text("")
    expect(progress(page)).to_have_text("2 of 60")
    tap(page, "n")
    expect(progress(page)).to_have_text("2 of 60")
    assert name


@pytest.mark.slow
def test_a_box_is_made_tighter_and_wider_without_drawing(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    expect(page.locator("#overlay .own")).to_be_visible()
    x, y, w, h = own_box(page)
    tap(page, "ArrowDown")
    tap(page, "ArrowDown")
    assert own_box(page) == [x + 2, y + 2, w - 4, h - 4]
    tap(page, "ArrowUp")
    assert own_box(page) == [x + 1, y + 1, w - 2, h - 2]
    press(page, "a", "1 of 60")
    (said,) = verdicts_of(run)
    assert said.corrected == (x + 1, y + 1, w - 2, h - 2)


@pytest.mark.slow
def test_a_corner_is_dragged(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    expect(page.locator("#overlay .own")).to_be_visible()
    expect(page.locator("#photo")).to_have_js_property("complete", True)
    x, y, w, h = own_box(page)
    frame = page.locator("#overlay").bounding_box()
    assert frame is not None
    scale = frame["width"] / 60
    page.mouse.move(frame["x"] + (x + w) * scale, frame["y"] + (y + h) * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + (x + w - 8) * scale, frame["y"] + (y + h - 4) * scale, steps=4)
    page.mouse.up()
    assert own_box(page) == pytest.approx([x, y, w - 8, h - 4], abs=0.2)
    press(page, "a", "1 of 60")
    (said,) = verdicts_of(run)
    assert said.corrected == pytest.approx((x, y, w - 8, h - 4), abs=0.2)


@pytest.mark.slow
def test_a_missed_object_is_drawn_on_a_whole_image(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    choose(page, "no_box")
    expect(progress(page)).to_have_text("0 of 1")
    assert page.locator("#file").inner_text() == "00 <b>&amp; nobody.jpg"  # markup in names is text
    assert page.locator("#file b").count() == 0
    expect(page.locator("#photo")).to_have_js_property("complete", True)
    tap(page, "m")
    frame = page.locator("#overlay").bounding_box()
    assert frame is not None
    scale = frame["width"] / 60
    page.mouse.move(frame["x"] + 12 * scale, frame["y"] + 6 * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + 30 * scale, frame["y"] + 20 * scale, steps=4)
    page.mouse.up()
    page.keyboard.type("mouse")  # a class with markup in its name
    tap(page, "Enter")
    expect(page.locator("#missed li")).to_have_count(1)
    assert "cat & <mouse>" in page.locator("#missed").inner_text()
    press(page, "o", "1 of 1")
    with open_verdicts(run.path, to_write=False) as store:
        (seen,) = store.image_judgements()
    assert seen.missed[0].category == "cat & <mouse>"
    assert seen.missed[0].xywh == pytest.approx((12, 6, 18, 14), abs=0.2)


@pytest.mark.slow
def test_a_whole_image_is_completed_box_by_box(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    choose(page, "images")
    page.locator("#empty button", has_text="images").click()
    expect(progress(page)).to_have_text("0 of 31")
    tap(page, "o")
    if page.locator("#boxes li").count():
        expect(page.locator("#message")).to_contain_text("have no verdict yet")
    for number in range(1, 7):
        for _ in range(page.locator("#boxes li").count()):
            left = page.locator("#boxes li", has_text="?").count()
            tap(page, "a")
            expect(page.locator("#boxes li", has_text="?")).to_have_count(left - 1)
        press(page, "o", f"{number} of 31")
    found = estimate_audit(run.path).objects
    assert found is not None
    assert found.objects is not None
    assert found.objects.recall == 1


@pytest.mark.slow
def test_the_odd_ones_of_a_class_are_rejected_together(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    choose(page, "class:dog")
    expect(progress(page)).to_have_text("0 of 30")
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    tap(page, "g")
    cells = page.locator("#grid button")
    expect(cells).to_have_count(24)
    for place in (1, 4, 7):
        cells.nth(place).click()
    press(page, "x", "3 of 30")
    expect(cells).to_have_count(21)
    press(page, "o", "24 of 30")
    expect(cells).to_have_count(6)  # the next page
    assert sorted(one.verdict for one in verdicts_of(run)) == ["correct"] * 21 + ["nothing"] * 3
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    tap(page, "g")
    expect(page.locator("#category")).to_have_text("dog")


@pytest.mark.slow
def test_another_place_is_offered_where_nothing_is(offering: Application, open_page: Opened) -> None:
    page = open_page(offering.address, "Ada")
    draw(page)
    press(page, "x", "1 of 60")
    expect(page.locator("#question")).to_contain_text("Is the object here instead?")
    assert own_box(page) == list(ELSEWHERE)
    assert [one.verdict for one in verdicts_of(offering.run)] == ["nothing"], "it is recorded before it is offered"
    press(page, "x", "1 of 60")  # not here: the next box
    expect(page.locator("#question")).to_contain_text("Is this box on an object")
    press(page, "x", "2 of 60")
    expect(page.locator("#question")).to_contain_text("Is the object here instead?")
    tap(page, "a")
    expect(page.locator("#question")).to_contain_text("Is this box on an object")
    by_verdict = {one.verdict: one.corrected for one in verdicts_of(offering.run)}
    assert by_verdict == {"nothing": None, "wrong_place": ELSEWHERE}
    tap(page, "k")  # no more offers
    press(page, "x", "3 of 60")
    expect(page.locator("#question")).to_contain_text("Is this box on an object")
    tap(page, "z")
    expect(progress(page)).to_have_text("2 of 60")


@pytest.mark.slow
def test_another_run_is_shown_beside_and_its_boxes_can_be_taken(compared: Application, open_page: Opened) -> None:
    page = open_page(compared.address, "Ada")
    choose(page, "different")
    expect(progress(page)).to_have_text("0 of 1")
    expect(page.locator("#file")).to_have_text("03.jpg")
    expect(page.locator("#other-name")).to_have_text("small: dog, cat & <mouse>, dog")
    expect(page.locator("#other-overlay rect")).to_have_count(3)
    for left in (1, 0):
        tap(page, "a")
        expect(page.locator("#boxes li", has_text="?")).to_have_count(left)
    tap(page, "t")
    expect(page.locator("#missed li")).to_have_count(1)
    expect(page.locator("[data-action=take]")).to_have_count(0)
    press(page, "o", "1 of 1")
    with open_verdicts(compared.run.path, to_write=False) as store:
        (seen,) = store.image_judgements()
    assert [(one.category, one.xywh) for one in seen.missed] == [("dog", (2, 2, 8, 8))]
    tap(page, "v")
    choose(page, "doubtful")
    expect(page.locator("#photo")).to_be_visible()
    expect(page.locator("#other-frame")).to_be_hidden()


@pytest.mark.slow
def test_reviewers_see_how_far_they_agree_and_decide_disputes(
    application: Application, run: Run, open_page: Opened
) -> None:
    with open_verdicts(run.path) as store:
        store.record([judgement(1, "Ada", "correct"), judgement(1, "Bob", "nothing"), judgement(2, "Ada", "nothing")])
    page = open_page(application.address, "Cy")
    page.click("#show-reviewers")
    expect(page.locator("#reviewers tr")).to_have_text(["Ada20", "Bob10"])
    expect(page.locator("#pairs tr")).to_have_text(["Ada and Bob10 %0.00"])
    expect(page.locator("#disputes li")).to_have_count(1)
    expect(page.locator("#disputes p")).to_have_text("Ada: correct; Bob: nothing")
    page.locator("#disputes button").click()
    expect(page.locator("#file")).to_have_text("01.jpg")
    tap(page, "a")
    wait_until(lambda: len(verdicts_of(run)) == 4)
    page.click("#show-reviewers")
    expect(page.locator("#disputes-title")).to_have_text("Disputed boxes: 0")


@pytest.mark.slow
def test_the_runs_of_a_label_store_are_chosen_and_stay_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: Opened
) -> None:
    list_painted(monkeypatch)
    project = LabelProject(tmp_path)
    for number in range(3):
        project.add_image(f"{number}.png", red(255 - number))
    project.run_job()
    project.add_image("later.png", red(200))
    project.run_job()
    old, new = (Run(path) for path in sorted(project.runs.glob("images-0000*")))
    with running(new, tmp_path / "log.txt", source=project.store) as started:
        page = open_page(started.address, "Ada")
        expect(page.locator("#run")).to_have_text(new.name)
        expect(page.locator("#run-select option")).to_have_text(
            [
                f"images, new in version {version} of {run.record['finished'][:10]}: {run.name}"
                for version, run in ((1, new), (0, old))
            ]
        )
        page.select_option("#run-select", "1")
        expect(page.locator("#run")).to_have_text(old.name)
        choose(page, "doubtful")
        expect(progress(page)).to_have_text("0 of 3")
        tap(page, "a")
        wait_until(lambda: len(verdicts_of(old)) == 1)
        page.reload()
        expect(page.locator("#run")).to_have_text(old.name)
        expect(page.locator("#run-select")).to_have_value("1")
        expect(progress(page)).to_contain_text("1 of ")  # these photos are near-duplicates, which are hidden later
        assert (len(verdicts_of(old)), len(verdicts_of(new))) == (1, 0)
        page.goto(f"{started.address}#run=7")  # of another store
        page.reload()
        expect(page.locator("#run")).to_have_text(new.name)


@pytest.mark.slow
def test_two_tabs_and_the_back_button_lose_and_double_nothing(
    application: Application, run: Run, open_page: Opened
) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    second = page.context.new_page()
    second.goto(application.address)
    expect(progress(second)).to_have_text("0 of 60")
    expect(second.locator("#photo")).to_be_visible()
    press(page, "a", "1 of 60")
    tap(second, "x")  # the same box, which the other tab showed too: the last verdict counts
    expect(progress(second)).to_have_text("1 of 60")
    assert [one.verdict for one in verdicts_of(run)] == ["nothing"]
    press(page, "a", "2 of 60")
    page.goto("about:blank")
    page.go_back()
    expect(progress(page)).to_have_text("2 of 60")
    press(page, "a", "3 of 60")
    said = verdicts_of(run)
    assert len(said) == len({one.annotation_id for one in said}) == 3


@pytest.mark.slow
def test_two_reviewers_share_a_queue(application: Application, run: Run, open_page: Opened) -> None:
    ada, bob = open_page(application.address, "Ada"), open_page(application.address, "Bob")
    draw(ada)
    bob.reload()
    expect(progress(bob)).to_have_text("0 of 60")
    for number in range(1, 11):
        page = (ada, bob)[number % 2]
        expect(page.locator("main[aria-busy=false]")).to_be_attached()
        tap(page, "a")
        wait_until(lambda wanted=number: len(verdicts_of(run)) == wanted)
    said = verdicts_of(run)
    assert {one.reviewer for one in said} == {"Ada", "Bob"}
    assert len(said) == 10
    common = {one.annotation_id for one in said if one.reviewer == "Ada"} & {
        one.annotation_id for one in said if one.reviewer == "Bob"
    }
    assert len(common) <= 2


@pytest.mark.slow
def test_a_killed_server_loses_and_doubles_nothing(
    application: Application, run: Run, open_page: Opened, tmp_path: Path
) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    for number in range(1, 6):
        press(page, "a", f"{number} of 60")
    assert application.stop(signal.SIGKILL) == -signal.SIGKILL
    tap(page, "a")
    expect(page.locator("#message")).to_contain_text("does not answer")
    again = Application(run, tmp_path / "log2.txt", application.port)
    try:
        press(page, "a", "6 of 60")  # the same page goes on
        page.reload()
        expect(progress(page)).to_have_text("6 of 60")
        assert len(verdicts_of(run)) == len({one.annotation_id for one in verdicts_of(run)}) == 6
    finally:
        again.stop()


@pytest.mark.slow
def test_keys_can_be_changed_and_are_kept(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    tap(page, "?")
    expect(page.locator("#keys-dialog")).to_be_visible()
    page.locator("#keys tr", has_text="Correct").locator("button").click()
    tap(page, "k")
    page.locator("#keys-close").click()
    page.reload()
    expect(progress(page)).to_have_text("0 of 60")
    tap(page, "a")
    press(page, "k", "1 of 60")
    assert [one.verdict for one in verdicts_of(run)] == ["correct"]


@pytest.mark.slow
def test_a_photo_that_is_gone_is_named_and_skipped(application: Application, run: Run, open_page: Opened) -> None:
    for path in run.image_root.iterdir():
        path.unlink()
    page = open_page(application.address, "Ada")
    draw(page)
    expect(page.locator("#message")).to_contain_text("The picture cannot be shown")


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    press(page, "a", "1 of 60")
    assert application.stop(signal.SIGINT) == 0
    assert (run.path / "verdicts.parquet").is_file()
