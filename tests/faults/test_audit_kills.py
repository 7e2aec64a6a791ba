"""Recording verdicts, and applying them, killed at any moment: all or nothing, and nothing twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mining.config.audit import AuditPlanSettings
from mining.quality.planning import plan_audit
from mining.quality.verdicts import VERDICTS_FILE, open_verdicts
from mining.runs.run import Run
from tests.faults.kill_injection import count_kill_points, draw_kills, run_in_process
from tests.unit.quality.plan_files import read_rows, write_rows
from tests.unit.quality.small_run import SmallRun

BOXES = 200


def record(run: str, filled: str) -> None:
    """In a process of its own."""
    from mining.quality.recording import record_verdicts

    record_verdicts(Path(run), Path(filled), "Ada")


def apply(run: str, out: str) -> None:
    """Likewise."""
    from mining.quality.corrected_run import apply_verdicts

    apply_verdicts(Path(run), Path(out))


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Path, Path]:
    """A run of 100 images with two boxes each, and a filled-in plan of all of them."""
    small = SmallRun(tmp_path / "run")
    for number in range(BOXES):
        small.boxes.append((f"{number // 2:03}.jpg", ("cat", "dog")[number % 2], (10, 10, 20, 20), {}))
    run = small.write().path
    plan_audit(AuditPlanSettings(run=run, out=tmp_path / "plan.csv", recall=True, images=100))
    rows = []
    for row in read_rows(tmp_path / "plan.csv"):
        correct = "correct" if row["category"] == "cat" else "nothing"
        rows.append({**row, "verdict": correct if row["annotation_id"] else "complete"})
    return run, write_rows(tmp_path / "filled.csv", rows)


def counts(run: Path) -> tuple[int, int]:
    with open_verdicts(run, to_write=False) as store:
        return len(store.judgements()), len(store.image_judgements())


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_verdicts_are_recorded_completely_or_not_at_all(
    planned: tuple[Path, Path], kills: int, count_fault: Callable[..., None], tmp_path: Path
) -> None:
    run, filled = planned
    with open_verdicts(run):
        pass
    clean = run.with_name("clean")
    shutil.copytree(run, clean)
    shutil.copytree(run, run.with_name("counted"))
    points = count_kill_points(record, str(run.with_name("counted")), str(filled), count_file=tmp_path / "count.json")
    killed = 0
    for kill in [*draw_kills(kills, kills, points, seconds=0.3), {}]:
        code = run_in_process(record, str(run), str(filled), **kill)
        killed += code == -9
        assert counts(run) in ((0, 0), (BOXES, BOXES // 2))
        if code == 0:
            assert counts(run) == (BOXES, BOXES // 2)
            shutil.rmtree(run)
            shutil.copytree(clean, run)
    assert killed >= kills // 3
    count_fault("kill -9 while recording verdicts", killed)


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_corrections_are_applied_completely_or_not_at_all(
    planned: tuple[Path, Path], kills: int, count_fault: Callable[..., None], tmp_path: Path
) -> None:
    run, filled = planned
    record(str(run), str(filled))
    before = (run / VERDICTS_FILE).read_bytes()
    counted = str(tmp_path / "counted")
    points = count_kill_points(apply, str(run), counted, count_file=tmp_path / "count.json")
    killed, out = 0, tmp_path / "out"
    for kill in [*draw_kills(kills, kills, points, seconds=0.3), {}]:
        code = run_in_process(apply, str(run), str(out), **kill)
        killed += code == -9
        if out.exists():
            assert Run.open(out, finished=True).read_annotations().num_rows == BOXES // 2
            shutil.rmtree(out)
        else:
            assert code == -9
    assert killed >= kills // 3
    assert (run / VERDICTS_FILE).read_bytes() == before
    # a folder that was made but not marked yet cannot be known as boxmine's own
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp") and any(path.iterdir())]
    count_fault("kill -9 while applying corrections", killed)
