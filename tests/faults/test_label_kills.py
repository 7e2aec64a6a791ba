"""A labelling job that is killed loses nothing, doubles nothing, and shows nobody half of a version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from tests.faults.kill_injection import at_random, label_once, moments, work
from tests.unit.engine.painting import list_painted
from tests.unit.label_store.desk import Desk, told
from tests.unit.label_store.test_nights import GATES_OFF, Nights


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    list_painted(monkeypatch)
    return Desk(tmp_path)


def seen(desk: Desk) -> dict[str, list[tuple[Any, ...]]]:
    """What a reader has who comes now."""
    if not DeltaTable.is_deltatable(str(desk.store)):
        return {}
    return {name: [told(row) for row in own] for name, own in desk.by_name().items()}


@pytest.mark.parametrize(("nights", "kills"), [(2, 4), pytest.param(8, 12, marks=pytest.mark.slow)])
def test_a_reader_sees_the_last_version_or_the_next_whenever_the_job_is_killed(
    desk: Desk, tmp_path: Path, nights: int, kills: int, count_fault: Callable[..., None]
) -> None:
    happening = Nights(desk, seed=nights)
    for _ in range(9):
        happening.add()
    upto = 60
    killed = 0
    for night in range(nights):
        happening.pass_by(6)
        settings = desk.settings(gates=GATES_OFF).model_dump_json()
        before, after = seen(desk), desk.from_scratch(tmp_path / f"afresh-{night}")
        for death in at_random(night, kills, upto, seconds=1.5):
            killed += work(label_once, settings, **death) == -9
            assert seen(desk) in (before, after)
        upto = max(20, moments(label_once, settings, told=tmp_path / "moments.json"))
        assert seen(desk) == after
        numbers = [row["annotation_id"] for row in desk.rows() if row["annotation_id"] is not None]
        assert len(set(numbers)) == len(numbers) == sum(row["category"] is not None for row in desk.rows())
        assert not [path for path in desk.runs.rglob(".tmp-*") if path.is_file()]
    assert killed >= nights * kills // 2
    count_fault("kill -9 while labelling: listing, planning, mining, merging, publishing", killed)
