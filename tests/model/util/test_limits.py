"""CPUs and memory as control groups limit them."""

import os
from pathlib import Path

import pytest

from model.util import control_groups, cpus
from model.util.cpus import available_cpus, limit_threads
from model.util.memory import memory_limit


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of control groups of a process that may run on eight CPUs."""
    monkeypatch.setattr(cpus, "_affinity", lambda: 8)
    monkeypatch.setattr(control_groups, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(control_groups, "MEMBERSHIPS", tmp_path / "memberships")
    return tmp_path / "groups"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8),
        ({"": "max 100000"}, 8),
        ({"": "100000 100000"}, 1),  # in a container
        ({"": "150000 100000"}, 2),
        ({"": "5000 100000"}, 1),
        ({"": "1600000 100000"}, 8),
        ({"a/b": "max 100000", "a": "300000 100000"}, 3),  # on a host
        ({"other": "100000 100000"}, 8),
    ],
)
def test_version_2(groups: Path, limits: dict[str, str], expected: int) -> None:
    write(control_groups.MEMBERSHIPS, "0::/a/b\n")
    for group, limit in limits.items():
        write(groups / group / "cpu.max", limit + "\n")
    assert available_cpus() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("250000", 3)])
@pytest.mark.parametrize("group", ["", "docker/1234"])
def test_version_1(groups: Path, group: str, quota: str, expected: int) -> None:
    write(control_groups.MEMBERSHIPS, "3:memory:/\n2:cpu,cpuacct:/docker/1234\n0::/\n")
    write(groups / "cpu" / group / "cpu.cfs_quota_us", quota + "\n")
    write(groups / "cpu" / group / "cpu.cfs_period_us", "100000\n")
    assert available_cpus() == expected


def test_without_control_groups(groups: Path) -> None:
    assert not groups.exists()
    assert available_cpus() == 8


def test_openmp_follows_a_quota_unless_it_is_told(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ
    write(control_groups.MEMBERSHIPS, "0::/\n")
    write(groups / "cpu.max", "200000 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "2"


class TestMemory:
    def test_version_2(self, groups: Path) -> None:
        write(control_groups.MEMBERSHIPS, "0::/a\n")
        machine = memory_limit()
        write(groups / "a/memory.max", "max\n")
        assert memory_limit() == machine > 1_000_000
        write(groups / "memory.max", "1000000\n")
        assert memory_limit() == 1_000_000

    def test_version_1(self, groups: Path) -> None:
        write(control_groups.MEMBERSHIPS, "4:memory:/docker/1\n3:cpu,cpuacct:/\n")
        write(groups / "memory/memory.limit_in_bytes", "2000000\n")
        assert memory_limit() == 2_000_000
