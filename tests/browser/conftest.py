"""A browser, and the review application in a process of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mining.runs.run import Run
from tests.unit.review.review_run import photos, write_review_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


# not for the session: while it runs, so does an event loop in this thread, which Prefect's tests take for their own
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium)")
    expect.set_options(timeout=30_000)  # the first picture has to wait for an import of several seconds
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield running
        running.close()


def serious_violations(page: Page) -> list[str]:
    """Check a page as it is now with axe-core, and return what is serious or critical.

    Each entry names the rule, its impact, the elements and how to mend it. A page that forbids scripts can be checked
    too: the script of the check does not come from the page.
    """
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): "
        + "; ".join(f"{' '.join(map(str, node['target']))}: {node['failureSummary']}" for node in rule["nodes"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


class Application:
    """`boxmine audit` of a run, or of the label store `source`, in a process of its own."""

    def __init__(self, run: Run, log: Path, port: int | None = None, *options: str, source: Path | None = None) -> None:
        self.run = run
        command = [sys.executable, "-m", "boxmine", "audit", str(source or run.path), "--no-browser", *options]
        self._log = log.open("w")
        self.process = subprocess.Popen(
            [*command, "--port", str(port or 0)], stderr=self._log, stdout=self._log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while (found := re.search(r"http://[\d.]+:(\d+)/", log.read_text())) is None:
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.1)
        self.address, self.port = found[0], int(found[1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._log.close()
        return code


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_review_run(tmp_path, photos(31))


@contextmanager
def running(run: Run, log: Path, *options: str, source: Path | None = None) -> Iterator[Application]:
    """Run the application until the block ends."""
    started = Application(run, log, None, *options, source=source)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.stop()


@pytest.fixture
def application(run: Run, tmp_path: Path) -> Iterator[Application]:
    with running(run, tmp_path / "log.txt") as started:
        yield started


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str, str], Page]]:
    """Open the application as a reviewer, in a browser profile of their own; errors in the page fail the test."""
    contexts, problems = [], []

    def opened(address: str, reviewer: str) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda one: problems.append(one.text) if "Content Security Policy" in one.text else None)
        page.goto(address)
        page.fill("#name", reviewer)
        page.click("#name-form button")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems
