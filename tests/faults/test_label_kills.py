"""A labelling job that is killed loses nothing, doubles nothing, and shows no reader half a version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from tests.faults.kill_injection import count_kill_points, draw_kills, run_in_process, run_label
from tests.unit.label_store.project import GATES_OFF, LabelProject, RandomChanges
from tests.unit.label_store.test_publish import red
from tests.unit.label_store.verdicts import draw, record


def read_store(project: LabelProject) -> dict[str, list[tuple[Any, ...]]]:
    """Read what the store holds at this moment."""
    return project.comparable_rows() if DeltaTable.is_deltatable(str(project.store)) else {}


@pytest.mark.parametrize(("jobs", "kills"), [(2, 4), pytest.param(8, 12, marks=pytest.mark.slow)])
def test_readers_see_the_last_version_or_the_next_whenever_a_job_is_killed(
    project: LabelProject, tmp_path: Path, jobs: int, kills: int, count_fault: Callable[..., None]
) -> None:
    changes = RandomChanges(project, seed=jobs)
    for _ in range(9):
        changes.add()
    kill_points = 60
    killed = 0
    for job in range(jobs):
        changes.apply(6)
        settings = project.settings(gates=GATES_OFF).model_dump_json()
        before, after = read_store(project), project.mine_from_scratch(tmp_path / f"from-scratch-{job}")
        for kill in draw_kills(job, kills, kill_points, seconds=1.5):
            killed += run_in_process(run_label, settings, **kill) == -9
            assert read_store(project) in (before, after)
        kill_points = max(20, count_kill_points(run_label, settings, count_file=tmp_path / "count.json"))
        assert read_store(project) == after
        numbers = [row["annotation_id"] for row in project.rows() if row["annotation_id"] is not None]
        assert len(set(numbers)) == len(numbers) == sum(row["category"] is not None for row in project.rows())
        assert not [path for path in project.runs.rglob(".tmp-*") if path.is_file()]
    assert killed >= jobs * kills // 2
    count_fault("kill -9 while labelling: listing, planning, mining, merging, publishing", killed)


def test_verdicts_become_one_version_whenever_the_job_is_killed(
    project: LabelProject, tmp_path: Path, count_fault: Callable[..., None]
) -> None:
    """A version that waits for its verdicts, and then corrections of a version that is published."""
    for number in range(6):
        project.add_image(f"{number}.png", red(255 - number))
    settings = project.settings(gates={**GATES_OFF, "min_precision": 0.5}).model_dump_json()
    assert run_in_process(run_label, settings) == 0
    (run,) = (path for path in project.runs.glob("images-*") if path.is_dir())
    rows = draw(run)
    killed = 0
    for step, wrong in enumerate([("0.png",), ("0.png", "1.png")]):
        record(run, rows, lambda row, wrong=wrong: "nothing" if row["file_name"] in wrong else "correct")  # type: ignore[misc]
        before = read_store(project)
        after: set[str] = {f"{number}.png" for number in range(6)} - {*wrong}
        for kill in draw_kills(step, 6, 40, seconds=1.5):
            killed += run_in_process(run_label, settings, **kill) == -9
            found = read_store(project)
            assert found == before or {name for name, own in found.items() if own[0][0] is not None} == after
        assert run_in_process(run_label, settings) == 0
        assert {name for name, own in read_store(project).items() if own[0][0] is not None} == after
        assert project.latest_version() == step
    assert [path for path in project.runs.glob("images-*") if path.is_dir()] == [run], "nothing was mined again"
    assert killed >= 6
    count_fault("kill -9 while verdicts and corrections are published", killed)
