"""What the accessibility check itself finds."""

from playwright.sync_api import Browser

from tests.browser.conftest import serious_violations

STRICT = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""


def test_a_picture_without_text_and_a_pale_paragraph_are_found(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(
        f"<!doctype html><html lang=en><head><title>Page</title>{STRICT}</head><body><main><h1>Page</h1>"
        "<img src='data:,'><p style='color: #ccc; background: #fff'>pale</p></main></body></html>"
    )
    found = serious_violations(page)
    page.close()
    assert [one.split(":")[0] for one in found] == ["color-contrast (serious)", "image-alt (critical)"]
    assert "p: Fix any of the following" in found[0]


def test_a_page_in_order_has_no_violation(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(
        f"<!doctype html><html lang=en><head><title>Page</title>{STRICT}</head><body><main><h1>Page</h1></main></body>"
    )
    assert serious_violations(page) == []
    page.close()
