"""Every view of the review, in both themes and at the width of a phone, passes axe-core."""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Page, expect

from mining.corpus import QUARANTINE_SCHEMA
from mining.quality.verdicts import open_verdicts
from mining.storage.parquet import parquet_writer
from tests.browser.conftest import Application, running, serious_violations
from tests.browser.test_review import judgement
from tests.unit.export.conftest import Painted
from tests.unit.review.review_run import photos, write_review_run

pytestmark = pytest.mark.slow
WIDE, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """The review of a run with everything that a page can show, beside another run."""
    folder = tmp_path_factory.mktemp("review")
    run = write_review_run(folder, [*photos(8), Painted("broken <i>.jpg", is_quarantined=True)], elsewhere=True)
    row = {"image_id": 109, "file_name": "broken <i>.jpg", "reason": "the file is empty"}
    with parquet_writer(run.quarantine, QUARANTINE_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema=QUARANTINE_SCHEMA))
    with open_verdicts(run.path) as store:
        store.record([judgement(1, "Cy", "correct"), judgement(1, "Bob", "nothing")])
    (folder / "other").mkdir()
    other = write_review_run(folder / "other", [Painted("03.jpg", ((1, 2, 2, 8, 8, 0.3),)), *photos(3)])
    with running(run, folder / "log.txt", "--against", str(other.path)) as started:
        yield started


@pytest.fixture(params=[("light", WIDE), ("dark", WIDE), ("light", PHONE)], ids=["light", "dark", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, application: Application) -> Iterator[Page]:
    scheme, (width, height) = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}, bypass_csp=True)
    page = context.new_page()
    page.goto(application.address)
    yield page
    context.close()


def shown(page: Page, queue: str) -> None:
    page.select_option("#queue", queue)
    expect(page.locator("main[aria-busy=false]")).to_be_attached()


def one_box(page: Page) -> None:
    shown(page, "doubtful")
    expect(page.locator("#photo")).to_be_visible()


def another_place(page: Page) -> None:
    one_box(page)
    page.keyboard.press("x")
    expect(page.locator("#question")).to_contain_text("instead?")


def many_boxes(page: Page) -> None:
    one_box(page)
    page.keyboard.press("g")
    page.locator("#grid button").first.click()


def whole_image(page: Page) -> None:
    shown(page, "different")
    expect(page.locator("#other-name")).to_contain_text("small: dog")


def drawn_and_nothing_left(page: Page) -> None:
    shown(page, "images")
    expect(page.locator("#empty")).to_be_visible()


def unusable_images(page: Page) -> None:
    shown(page, "quarantined")
    expect(page.locator("#quarantined-rows th")).to_have_text("broken <i>.jpg")  # markup is text


def keys(page: Page) -> None:
    page.click("#show-keys")


def reviewers(page: Page) -> None:
    page.click("#show-reviewers")
    expect(page.locator("#pairs tr")).to_have_count(1)


def classes(page: Page) -> None:
    one_box(page)
    page.keyboard.press("c")
    expect(page.locator("#class-list li").first).to_be_visible()


VIEWS: list[Callable[[Page], None]] = [
    one_box, another_place, many_boxes, whole_image, drawn_and_nothing_left, unusable_images, keys, reviewers, classes,
]  # fmt: skip


def test_no_view_has_a_serious_violation(page: Page) -> None:
    found = [f"name: {one}" for one in serious_violations(page)]
    page.fill("#name", "Ada")
    page.click("#name-form button")
    expect(page.locator("main[aria-busy=false]")).to_be_attached()
    for view in VIEWS:
        view(page)
        found += [f"{view.__name__}: {one}" for one in serious_violations(page)]
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{view.__name__} is wider than the window"
        if page.locator("dialog[open]").count():
            page.keyboard.press("Escape")
        if page.locator("#grid").is_visible():
            page.keyboard.press("g")
    assert found == []
