"""The number of cores is that of the affinity, or of a container's quota if that is lower."""

from pathlib import Path

import pytest

from mining.config import execution


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "not a number\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_is_read_from_either_version_of_cgroups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert execution._cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (1.5, 2), (0.2, 1), (8.0, 4)])
def test_cores_are_at_most_the_quota_rounded_up(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(execution.os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setattr(execution, "_cgroup_quota", lambda _: quota)
    assert execution.available_cores() == cores
