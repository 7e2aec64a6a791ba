"""A labelling job that is killed loses nothing, doubles nothing, and shows no reader half a version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from tests.faults.kill_injection import count_kill_points, draw_kills, run_in_process, run_label
from tests.unit.label_store.project import GATES_OFF, LabelProject, RandomChanges


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
