"""Near-duplicate photos in the review: hidden until the reviewer asks for them."""

import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import running, serious_violations
from tests.unit.review.test_near_duplicates import BOXED, PHOTOS, write_copied_run


def test_near_duplicates_are_hidden_and_shown_on_request(open_page: Callable[[str, str], Page], tmp_path: Path) -> None:
    with running(write_copied_run(tmp_path), tmp_path / "log.txt") as application:
        page = open_page(application.address, "Ada")
        button = page.locator("#near-duplicates")
        page.select_option("#queue", "class:dog")
        expect(page.locator("#progress")).to_have_text(f"0 of {BOXED}")  # the search has not begun
        deadline = time.monotonic() + 60
        while not button.is_visible():
            assert time.monotonic() < deadline
            page.keyboard.press("n")
            page.wait_for_timeout(500)
        expect(page.locator("#progress")).to_have_text(f"0 of {PHOTOS}")
        expect(page.locator("#file")).to_contain_text("(+2 near-duplicates)")
        expect(button).to_have_text(f"+{BOXED - PHOTOS} on near-duplicates")
        assert serious_violations(page) == []
        button.click()
        expect(page.locator("#progress")).to_have_text(f"0 of {BOXED}")
        expect(button).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("a")
        expect(page.locator("#progress")).to_have_text(f"1 of {BOXED}")
        page.select_option("#queue", "plan")
        expect(button).to_be_hidden()
        assert application.stop() == 0
