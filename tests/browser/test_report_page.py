"""The report in a browser: accessible in every theme and width, filtered by keyboard and by link, whole on paper."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from mining.config import CompareSettings, MapsSettings, ScoreSettings, parse
from mining.config.audit import AuditPlanSettings
from mining.evaluation.job import score
from mining.quality.judgements import VERDICTS, Judgement
from mining.quality.planning import plan_audit
from mining.quality.verdicts import open_verdicts
from mining.reporting import comparison_page
from mining.reporting.maps_page import write_maps_page
from mining.reporting.plan_pictures import draw_plan_pictures
from mining.reporting.report_page import write_report
from mining.runs.run import Run
from tests.browser.conftest import serious_violations
from tests.factories import write_model
from tests.unit.reporting.conftest import CLASSES, NASTY, coco, mine, write_corpus

NAMES = [NASTY, *(f"{number:02}.jpg" for number in range(11)), "broken.jpg"]
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with boxes, images without one, an unreadable image, verdicts, scores and an earlier run."""
    folder = tmp_path_factory.mktemp("report")
    write_corpus(folder, NAMES)
    (folder / "images" / "broken.jpg").write_bytes(b"no image")
    (folder / "truth.json").write_text(json.dumps(coco(NAMES)))
    model = write_model(folder / "model", CLASSES)
    earlier = Run(mine(folder, model, "earlier"))
    best = earlier.read_annotations(["image_id", "score"]).group_by("image_id").aggregate([("score", "max")])
    run = mine(folder, model, "run", min_score=float(sorted(best["score_max"].to_pylist())[4]))
    rows = Run(run).read_annotations().to_pylist()
    with open_verdicts(run) as store:
        store.record(judged(row, VERDICTS[place % 3]) for place, row in enumerate(rows[::2]))
    score(ScoreSettings(run=run, truth=folder / "truth.json"))
    write_report(run, against=earlier.path)
    return folder


def judged(row: dict[str, Any], verdict: Any) -> Judgement:
    return Judgement(
        "", "random", row["annotation_id"], row["file_name"], None, row["category"], row["x"], row["y"], row["w"],
        row["h"], verdict, None, None, None, None, None, "Ada", "2026-01-01",
    )  # fmt: skip


@pytest.fixture
def open_file(browser: Browser) -> Iterator[Open]:
    """Open a page from disk; errors in it fail the test."""
    contexts, problems = [], []

    def opened(path: Path, fragment: str = "", *, width: int = 1280, **options: Any) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else problems.append(one.url))
        page.goto(path.as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def report(folder: Path) -> Path:
    return folder / "run" / "report" / "index.html"


def shown(page: Page) -> Locator:
    return page.locator("#gallery .tile:visible")


def fragment(page: Page) -> dict[str, list[str]]:
    return parse_qs(page.url.partition("#")[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_is_accessible_and_fits(open_file: Open, report: Path, scheme: str, width: int) -> None:
    page = open_file(report, width=width, color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    levels = [int(one.evaluate("heading => heading.tagName[1]")) for one in page.locator("h1, h2, h3, h4").all()]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), "no level is left out"


def test_a_card_filters_the_gallery_and_the_address_can_be_shared(open_file: Open, report: Path) -> None:
    page = open_file(report)
    every = shown(page).count()
    expect(page.locator("#shown")).to_have_text(f"All {every} pictures shown")
    page.get_by_role("link", name=CLASSES[0]).click()
    expect(page.locator("#gallery-heading")).to_be_focused()
    count = shown(page).count()
    assert 0 < count < every
    expect(page.locator("#shown")).to_have_text(f"{count} of {every} pictures shown")
    assert all(CLASSES[0] in json.loads(str(one.get_attribute("data-classes"))) for one in shown(page).all())
    assert fragment(page) == {"class": [CLASSES[0]]}
    again = open_file(report, "#" + page.url.partition("#")[2])
    assert shown(again).count() == count
    expect(again.get_by_label("Class", exact=True)).to_have_value(CLASSES[0])
    page.go_back()
    expect(page.locator("#shown")).to_have_text(f"All {every} pictures shown")


def test_filters_combine_and_are_cleared(open_file: Open, report: Path) -> None:
    page = open_file(report, "#verdict=too_large&kind=&class=nonsense")
    expect(page.get_by_label("Verdict", exact=True)).to_have_value("too_large")
    expect(page.get_by_label("Class", exact=True)).to_have_value("")
    assert all("too_large" in str(one.get_attribute("data-verdicts")).split() for one in shown(page).all())
    scores = sorted(float(str(one.get_attribute("data-score"))) for one in shown(page).all())
    assert scores
    page.get_by_label("Score from").fill(f"{scores[-1]:.4f}")
    assert shown(page).count() == scores.count(scores[-1])
    assert fragment(page)["score"] == [f"{scores[-1]:g}-1"]
    page.get_by_label("Score from").fill("1")
    expect(page.locator("#nothing")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#shown")).to_contain_text("All ")
    assert "#" not in page.url
    expect(page.get_by_label("Class", exact=True)).to_be_focused()


def test_outcomes_are_filtered_by_keyboard(open_file: Open, report: Path) -> None:
    page = open_file(report)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the report")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.get_by_label("Image", exact=True).focus()
    page.keyboard.type("low")
    assert {one.get_attribute("data-state") for one in shown(page).all()} == {"low_score"}
    expect(page.get_by_role("status")).to_have_text(
        f"{shown(page).count()} of {page.locator('.tile').count()} pictures shown"
    )
    page.keyboard.press("End")
    expect(page.locator("#quarantined")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("and the list of images that could not be used")
    assert shown(page).count() == 0
    assert fragment(page) == {"state": ["quarantined"]}


def test_without_scripts_everything_is_shown(open_file: Open, report: Path) -> None:
    page = open_file(report, java_script_enabled=False)
    expect(page.locator("#filter")).to_be_hidden()
    assert shown(page).count() == page.locator(".tile").count() > 0
    page.get_by_text("All figures, with definitions").click()
    expect(page.get_by_role("heading", name="Definitions")).to_be_visible()


def test_on_paper_folded_figures_are_open_and_controls_are_gone(open_file: Open, report: Path) -> None:
    page = open_file(report, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(22, 22, 22)"
    height = page.locator("#figures").bounding_box()
    page.emulate_media(media="print")
    printed = page.locator("#figures").bounding_box()
    assert height is not None
    assert printed is not None
    assert printed["height"] > height["height"] + 500
    expect(page.locator("#filter")).to_be_hidden()
    expect(page.locator(".view")).to_be_hidden()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


@pytest.fixture(scope="module")
def other_pages(folder: Path) -> dict[str, Path]:
    compared = CompareSettings(first=folder / "earlier", second=folder / "run", truth=folder / "truth.json")
    plan = {"run": folder / "run", "out": folder / "plan.csv", "verdicts": 3, "recall": True, "images": 5}
    plan_audit(AuditPlanSettings.model_validate({**plan, "pictures": folder / "pictures"}), draw_plan_pictures)
    maps = {"models": [str(folder / "model")], "images": [folder / "images" / "00.jpg"], "out": folder / "maps.html"}
    return {
        "comparison": comparison_page.compare(compared)[1],
        "plan": folder / "pictures" / "index.html",
        "maps": write_maps_page(parse(MapsSettings, {**maps, "device": "cpu", "scales": ["1"]})).page,
    }


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["comparison", "plan", "maps"])
def test_the_other_pages_are_accessible_and_fit(
    open_file: Open, other_pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page = open_file(other_pages[name], width=width, color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
