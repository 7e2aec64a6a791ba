"""Exit codes: unusable images are named, and lead to exit code 3 only with --strict."""

from pathlib import Path
from typing import Any

import pytest

from flows.cli import label_output
from flows.cli.application import run_command
from flows.cli.common import app
from tests.factories import write_model, write_photos

DONE, QUARANTINED, STAGED = 0, 3, 5


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    (folder / "broken.jpg").write_text("404")
    return folder


def test_mining_with_an_unusable_image_succeeds_unless_strict(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "model", ("cat", "dog"))
    words = ["mine", "--images", photos, "--model", model, "--out", tmp_path / "run", "--device", "cpu"]
    words += ["--scales", "1"]
    assert run_command([str(word) for word in words]) == DONE
    stderr = capsys.readouterr().err
    assert "1 image could not be used" in stderr
    assert "broken.jpg" in stderr
    assert run_command([*map(str, words), "--strict"]) == QUARANTINED


@pytest.mark.parametrize(("strict", "code"), [(False, DONE), (True, QUARANTINED)])
def test_a_label_job_with_an_unusable_image_succeeds_unless_strict(
    strict: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from mining.label_store.summaries import LabelSummary

    fields: dict[str, Any] = dict.fromkeys(LabelSummary.__dataclass_fields__, 0)
    tally = {"kept": 1, "reasons": {}, "moved": 0, "copied": 0, "retired": 0}
    fields |= {
        "state": "published",
        "store": "s",
        "notes": [],
        "gates": [],
        "reasons": ["x.jpg: empty"],
        "tally": tally,
    }
    fields |= {"quarantined": 1, "runs": [], "warnings": ["All boxes are alike."], "precision": None, "steps": []}
    assert (
        label_output.print_label_summary(LabelSummary(**fields), Path("recipe.yaml"), as_json=False, strict=strict)
        == code
    )
    staged = LabelSummary(**{**fields, "state": "staged"})
    assert label_output.print_label_summary(staged, Path("recipe.yaml"), as_json=False, strict=strict) == STAGED
    stderr = capsys.readouterr().err
    assert "x.jpg: empty" in stderr
    assert "All boxes are alike." in stderr


@pytest.mark.parametrize("command", ["train", "mine", "run", "label", "demo"])
def test_every_command_that_reads_images_takes_strict(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    app([command, "--help"], exit_on_error=False, result_action="return_value")
    assert "--strict" in capsys.readouterr().out
