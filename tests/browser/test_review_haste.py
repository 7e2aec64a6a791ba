"""Hasty reviewers: slow photos, keys that are held down, second thoughts."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from mining.runs.run import Run
from tests.browser.conftest import Application
from tests.browser.test_review import choose, draw, press, progress, verdicts_of

pytestmark = pytest.mark.slow
Opened = Callable[[str, str], Page]


def test_nothing_is_judged_before_its_photo_is_there(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    press(page, "a", "1 of 60")
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    held: list[Route] = []
    is_slow = True
    page.route("**/api/images/**", lambda route: held.append(route) if is_slow else route.continue_())
    page.keyboard.press("a")
    expect(progress(page)).to_have_text("2 of 60")
    expect(page.locator("#photo-frame.loading")).to_be_attached()
    expect(page.locator("#photo")).to_have_css("visibility", "hidden")
    for key in "axwlsu":
        page.keyboard.press(key)
    page.keyboard.press("c")
    expect(page.locator("#class-dialog")).to_be_hidden()
    assert len(verdicts_of(run)) == 2
    is_slow = False
    for route in held:
        route.continue_()
    press(page, "a", "3 of 60")


def test_a_key_that_is_held_down_judges_one_box(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    page.keyboard.down("a")
    for _ in range(10):
        page.keyboard.down("a")  # as the system repeats it
        page.wait_for_timeout(50)
    page.keyboard.up("a")
    expect(progress(page)).to_have_text("1 of 60")
    assert len(verdicts_of(run)) == 1


def test_undo_brings_back_the_verdict_that_was_changed_also_after_a_reload(
    application: Application, run: Run, open_page: Opened
) -> None:
    page = open_page(application.address, "Ada")
    draw(page)
    press(page, "a", "1 of 60")
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    page.keyboard.press("p")
    expect(page.locator("#buttons .said")).to_have_attribute("data-action", "correct")
    press(page, "u", "1 of 60")
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    assert [one.verdict for one in verdicts_of(run)] == ["unsure"]
    page.reload()
    expect(progress(page)).to_have_text("1 of 60")
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    page.keyboard.press("z")
    expect(page.locator("#buttons .said")).to_have_attribute("data-action", "correct")
    assert [one.verdict for one in verdicts_of(run)] == ["correct"]
    press(page, "z", "0 of 60")
    assert verdicts_of(run) == []


def test_pages_of_many_boxes_are_left_and_taken_back(application: Application, run: Run, open_page: Opened) -> None:
    page = open_page(application.address, "Ada")
    choose(page, "class:dog")
    expect(progress(page)).to_have_text("0 of 30")
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    page.keyboard.press("g")
    cells = page.locator("#grid button")
    expect(cells).to_have_count(24)
    first = cells.first.locator("img").get_attribute("src")
    page.keyboard.press("n")
    expect(cells.first.locator("img")).not_to_have_attribute("src", first or "")
    press(page, "o", "24 of 30")
    press(page, "z", "0 of 30")
    assert verdicts_of(run) == []
    choose(page, "no_box")
    expect(page.locator("#photo")).to_be_visible()
    expect(progress(page)).to_have_text("0 of 1")
