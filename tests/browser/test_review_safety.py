"""What other sites in a reviewer's browser can do to the review: nothing."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page

from mining.quality.verdicts import open_verdicts
from mining.runs.run import Run
from tests.browser.conftest import Application

pytestmark = pytest.mark.slow

SAY = """async (address) => {
  const said = { shown: { kind: "box", number: 1 }, reviewer: "Eve", verdict: "nothing" };
  const found = {};
  for (const [name, options] of Object.entries({
    json: { headers: { "Content-Type": "application/json" } },
    plain: { headers: { "Content-Type": "text/plain" } },
    "no cors": { mode: "no-cors", headers: { "Content-Type": "text/plain" } },
  })) {
    try {
      const answer = await fetch(`${address}api/verdicts`, { method: "POST", body: JSON.stringify(said), ...options });
      found[name] = answer.status;
    } catch { found[name] = "refused"; }
  }
  try { found.read = (await fetch(`${address}api/run`)).status; } catch { found.read = "refused"; }
  return found;
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def other_site(tmp_path: Path) -> Iterator[str]:
    """Another site on this machine: the same host, another port."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>Other</title><p>Hello</p>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_another_site_can_neither_write_nor_read(
    application: Application, run: Run, page: Page, other_site: str
) -> None:
    page.goto(other_site)
    found = page.evaluate(SAY, application.address)
    assert found == {"json": "refused", "plain": "refused", "no cors": "refused", "read": "refused"}
    with open_verdicts(run.path, to_write=False) as store:
        assert store.judgements() == []


def test_a_form_of_another_site_is_refused(application: Application, run: Run, page: Page, other_site: str) -> None:
    page.goto(other_site)
    with page.expect_navigation():
        page.evaluate(
            """(address) => {
              const form = document.createElement("form");
              form.method = "POST";
              form.action = `${address}api/verdicts`;
              form.enctype = "text/plain";
              document.body.append(form);
              form.submit();
            }""",
            application.address,
        )
    assert "Only the review application's own pages may write" in page.content()
    with open_verdicts(run.path, to_write=False) as store:
        assert store.judgements() == []


def test_a_name_that_leads_to_this_machine_is_refused(application: Application, page: Page) -> None:
    answer = page.goto(f"http://rebound.localhost:{application.port}/")  # browsers resolve it to 127.0.0.1
    assert answer is not None
    assert answer.status == 421
    assert "This host name is not the review application" in page.content()


def test_the_review_cannot_be_put_into_a_frame(application: Application, page: Page, other_site: str) -> None:
    page.goto(other_site)
    page.evaluate(
        """(address) => new Promise((resolve) => {
          const frame = document.createElement("iframe");
          frame.addEventListener("load", resolve);
          frame.src = address;
          document.body.append(frame);
        })""",
        application.address,
    )
    (frame,) = page.main_frame.child_frames
    assert not frame.url.startswith(application.address) or "boxmine" not in frame.content()
