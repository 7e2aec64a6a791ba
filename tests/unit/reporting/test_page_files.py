"""Comparisons and reports replace only pages that boxmine wrote."""

import json
import shutil
from pathlib import Path

import pytest

from mining.config import CompareSettings
from mining.errors import InputError
from mining.reporting.comparison_page import compare
from mining.reporting.page_files import Kind, refuse_foreign_page
from mining.reporting.report_page import write_report
from mining.runs.run import Run
from tests.factories import write_model
from tests.unit.reporting.conftest import CLASSES, Mined, mine, write_corpus

THEIRS = "file_name,result\na.jpg,ten years of work\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Mined:
    """Two images, mined once for all tests."""
    folder = tmp_path_factory.mktemp("original")
    write_corpus(folder, ["a.jpg", "b.jpg"])
    return Mined(mine(folder, write_model(folder / "model", CLASSES)), folder / "images", folder)


@pytest.fixture
def mined(original: Mined, tmp_path: Path) -> Mined:
    """A copy of the run, to be spoilt."""
    return Mined(Path(shutil.copytree(original.run, tmp_path / "run")), original.images, original.truth)


def compared(mined: Mined, out: Path | None = None) -> Path:
    """The run held against itself."""
    return compare(CompareSettings(first=mined.run, second=mined.run, out=out))[1]


def test_a_comparison_is_written_again_over_its_own_page_and_table(mined: Mined, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    for _ in range(2):
        assert compared(mined, page) == page
    assert {path.name for path in page.parent.iterdir()} == {"page.html", "page.csv"}


@pytest.mark.parametrize("out", ["run/run.json", "run/annotations.parquet", "page", "page.txt", "page.html.csv"])
def test_a_comparison_is_a_page_and_nothing_else(mined: Mined, tmp_path: Path, out: str) -> None:
    before = Run(mined.run).record
    with pytest.raises(InputError, match=r"must end in \.html"):
        compared(mined, tmp_path / out)
    assert Run(mined.run).record == before


@pytest.mark.parametrize("name", ["results.csv", "results.html"])
def test_what_others_wrote_is_refused_and_stays(mined: Mined, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(THEIRS)
    with pytest.raises(InputError, match=rf"{name} is there already and is not"):
        compared(mined, tmp_path / "results.html")
    assert (tmp_path / name).read_text() == THEIRS
    assert len(list(tmp_path.glob("results.*"))) == 1


def test_a_link_to_nowhere_and_a_folder_are_refused_in_a_sentence(mined: Mined, tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.html").mkdir()
    for name in ("link.html", "folder.html"):
        with pytest.raises(InputError, match="is there already"):
            compared(mined, tmp_path / name)


def test_a_report_is_no_comparison_and_a_comparison_no_report(mined: Mined) -> None:
    report = write_report(mined.run)
    with pytest.raises(InputError, match="is not a comparison page of boxmine"):
        compared(mined, report)
    compared(mined, mined.run / "report" / "other.html").rename(report)
    with pytest.raises(InputError, match="is not a report page of boxmine"):
        write_report(mined.run)


def test_pages_of_earlier_versions_are_known(mined: Mined, tmp_path: Path) -> None:
    pages: dict[Path, Kind] = {write_report(mined.run): "report", compared(mined, tmp_path / "a.html"): "comparison"}
    for page, kind in pages.items():
        text = page.read_text().splitlines()
        page.write_text("\n".join(line for line in text if "generator" not in line))
        refuse_foreign_page(page, kind)


def test_a_report_that_others_wrote_is_refused_and_stays(mined: Mined) -> None:
    (mined.run / "report").mkdir()
    (mined.run / "report" / "index.html").write_text("<title>thesis</title>")
    with pytest.raises(InputError, match=r"index\.html is there already"):
        write_report(mined.run)
    assert (mined.run / "report" / "index.html").read_text() == "<title>thesis</title>"


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("x/../../../victim/index", "against-x-..-..-..-victim-index.html"),
        ("..", "against-run.html"),
        ("ä" * 300, f"against-{'ä' * 60}.html"),
    ],
)
def test_a_name_in_a_record_leads_nowhere_else(mined: Mined, tmp_path: Path, name: object, page: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "index.html").write_text("theirs")
    record = json.loads((mined.run / "run.json").read_text())
    (mined.run / "run.json").write_text(json.dumps({**record, "name": name}))
    assert compared(mined) == mined.run / "report" / page
    assert [path.name for path in victim.iterdir()] == ["index.html"]
