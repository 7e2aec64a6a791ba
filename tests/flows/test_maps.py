"""The command `boxmine maps`, and its function in Python."""

import subprocess
import sys
from pathlib import Path

import pytest

import boxmine
from flows.cli.application import run_command
from tests.factories import write_example


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("example"))


def maps(example: Path, *tokens: str) -> int:
    return run_command(["maps", str(example / "model"), *tokens, "--device", "cpu"])


def test_the_page_is_written_and_named(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    tokens = [
        str(example / "photos"),
        "--localizers",
        "layercam",
        "--class",
        "dog",
        "--scales",
        "1",
        "--out",
        str(page),
    ]
    assert maps(example, *tokens) == 0
    assert f"The page is {page}." in capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert text.count("layercam, not refined, sum of scales: dog ") == 2
    assert "cam, " not in text.replace("layercam, ", "")


def test_an_unreadable_image_is_named_and_with_strict_a_code_of_its_own(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    tokens = [str(example / "photos" / "a.jpg"), str(broken), "--localizers", "cam", "--scales", "1",
              "--out", str(tmp_path / "page.html")]  # fmt: skip
    assert maps(example, *tokens) == 0
    assert "1 image could not be used" in capsys.readouterr().err
    assert maps(example, *tokens, "--strict") == 3


def test_what_cannot_be_drawn_is_refused_before_a_network_library_is_imported(example: Path, tmp_path: Path) -> None:
    tokens = [str(example / "model"), str(example / "photos"), "--class", "dig", "--out", str(tmp_path / "page.html")]
    code = (
        "import sys; from flows.cli.application import run_command; "
        f"print(run_command(['maps', *{tokens!r}]), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "did you mean 'dog'?" in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_the_function_takes_what_the_command_takes(example: Path, tmp_path: Path) -> None:
    summary = boxmine.maps(
        example / "model", [example / "photos" / "a.jpg"], out=tmp_path / "page.html", localizers="cam,msrd", scales=1,
        device="cpu",
    )  # fmt: skip
    assert (summary.page, summary.images, summary.localizers) == (tmp_path / "page.html", 1, 2)
    with pytest.raises(boxmine.ModelError, match="did you mean 'cat'"):
        boxmine.maps(example / "model", example / "photos", out=tmp_path / "page.html", classes="cet")
