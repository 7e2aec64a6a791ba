"""Pictures of a plan's rows."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.cli.application import run_command
from mining.config.audit import AuditPlanSettings
from mining.errors import InputError
from mining.quality.judgements import Box
from mining.quality.plan_rows import PlanPicture, ShownBox
from mining.quality.planning import PlanSummary, plan_audit
from mining.quality.recording import record_verdicts
from mining.reporting.plan_pictures import BOX_SIDE, draw_plan_pictures
from mining.runs.run import Run
from tests.unit.export.conftest import Painted, SmallRun, write_run

WHITE = (255, 255, 255)


@pytest.fixture
def mined(tmp_path: Path) -> SmallRun:
    return write_run(
        tmp_path,
        [Painted("a.png", ((1, 10, 10, 20, 20, 0.9), (3, 50, 20, 30, 40, 0.4))), Painted("b <b>.png", ((1, 0, 0, 9, 9, 0.8),))],
    )  # fmt: skip


def planned(mined: SmallRun, **options: object) -> tuple[PlanSummary, list[dict[str, str]]]:
    values = {"run": mined.folder, "out": mined.folder.parent / "plan.csv", "seed": 0, **options}
    summary = plan_audit(AuditPlanSettings.model_validate(values), draw_plan_pictures)
    with summary.out.open(newline="") as file:
        return summary, list(csv.DictReader(file))


def test_every_row_of_a_box_and_of_an_image_has_a_picture(mined: SmallRun) -> None:
    folder = mined.folder.parent / "pictures"
    summary, rows = planned(mined, verdicts=2, recall=True, images=2, pictures=folder)
    assert summary.pictures == len(rows) == 2 + 3 + 2
    for line, row in enumerate(rows, start=2):
        assert row["picture"] == f"pictures/{line:05d}.jpg"
        with Image.open(summary.out.parent / row["picture"]) as picture:
            assert max(picture.size) == BOX_SIDE or row["annotation_id"] == ""
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<strong>Line (\d+)</strong>", page) == [str(line) for line in range(2, 9)]
    assert "b &lt;b&gt;.png" in page
    assert "<b>" not in page
    record_verdicts(mined.folder, summary.out, "Ada")  # the further column does not matter


def test_the_box_is_drawn_where_it_is(tmp_path: Path, mined: SmallRun) -> None:
    box: Box = (30, 10, 20, 25)
    size = Image.open(mined.images / "a.png").size
    Image.new("RGB", size, WHITE).save(mined.images / "a.png")
    picture = PlanPicture(2, "a.png", (ShownBox(1, "cat", box),), True)
    drawn = draw_plan_pictures(Run(mined.folder), tmp_path / "pictures", [picture])
    assert drawn == {2}
    pixels = np.asarray(Image.open(tmp_path / "pictures" / "00002.jpg"))
    dark = np.argwhere(pixels.min(axis=2) < 128)
    assert np.abs(dark.min(axis=0) - (10, 30)).max() <= 2
    dark = dark[dark[:, 0] > 28]  # below the label
    assert np.abs(dark.max(axis=0) - (35, 50)).max() <= 2


def test_an_image_that_is_gone_has_no_picture(mined: SmallRun) -> None:
    (mined.images / "a.png").unlink()
    folder = mined.folder.parent / "pictures"
    summary, rows = planned(mined, verdicts=3, pictures=folder)
    assert summary.pictures == 1
    assert {row["file_name"] for row in rows if row["picture"]} == {"b <b>.png"}
    assert "2 rows have no picture" in (folder / "index.html").read_text(encoding="utf-8")


def test_an_occupied_folder_is_refused_and_nothing_is_planned(mined: SmallRun) -> None:
    (mined.folder.parent / "pictures").mkdir()
    (mined.folder.parent / "pictures" / "own.txt").touch()
    with pytest.raises(InputError, match="is not an empty folder"):
        planned(mined, pictures=mined.folder.parent / "pictures")
    assert not (mined.folder.parent / "plan.csv").exists()
    assert planned(mined, verdicts=3)[0].drawn_before == 0


def test_the_command_names_the_page(mined: SmallRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = mined.folder.parent / "pictures", mined.folder.parent / "plan.csv"
    assert run_command(["audit", "plan", str(mined.folder), "--out", str(out), "--pictures", str(folder)]) == 0
    assert f"3 pictures: {folder / 'index.html'}" in " ".join(capsys.readouterr().err.replace("\n", "").split())
