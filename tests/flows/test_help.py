"""Help pages, and messages about wrong usage."""

import subprocess
import sys

import pytest

from flows.cli.application import run_command
from flows.cli.common import app

COMMANDS = sorted(name for name in app if not name.startswith("-"))


def page(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run_command([command, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("train", ["Input", "Output", "Training", "Execution"]),
        ("mine", ["Input", "Output", "Maps", "Boxes", "Execution", "Cluster"]),
    ],
)
def test_options_are_shown_in_groups(command: str, groups: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = page(command, capsys)
    places = [text.index(f" {group} ") for group in groups]
    assert places == sorted(places)
    assert " Parameters " not in text
    assert text.index("--runner") > text.index(" Cluster ") if command == "mine" else "--runner" not in text


@pytest.mark.parametrize("command", ["train", "mine", "run", "demo"])
def test_a_help_page_ends_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = page(command, capsys).partition("Examples:")[2]
    assert f"boxmine {command}" in examples


def test_no_option_empties_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--empty" not in page("mine", capsys)


def test_a_setting_that_is_wrong_is_named_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["train", "--images", "photos", "--out", "model", "--epochs", "0"]) == 2
    assert "Setting 'epochs'" in capsys.readouterr().err
    assert run_command(["mine", "--images", "photos", "--out", "run", "--model", "m", "--scales", "9"]) == 2
    assert "Setting 'scales.0'" in capsys.readouterr().err


def test_the_help_page_needs_neither_prefect_nor_torch() -> None:
    code = (
        "import sys; from flows.cli.application import run_command; run_command(['--help']); "
        "print([name for name in ('prefect', 'torch', 'pyarrow', 'lightning') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    assert set(COMMANDS) <= set(shown.split())
