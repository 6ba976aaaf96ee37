"""Memory that a process may still get: the machine's, or what is left of its control group's limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from advunlearn.runtime import resources
from advunlearn.runtime.resources import cores, free_disk, free_memory, size

GB = 10**9


def machine(folder: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str]) -> None:
    """Describe a machine with 8 GB of free memory and 2 GB of swap by files like the kernel's."""
    (folder / "meminfo").write_text(f"MemAvailable: {8 * GB // 1024} kB\nSwapFree: {2 * GB // 1024} kB\n")
    (folder / "cgroup").write_text(groups)
    for name, text in files.items():
        path = folder / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(resources, "_MEMINFO", folder / "meminfo")
    monkeypatch.setattr(resources, "_GROUPS", folder / "cgroup")
    monkeypatch.setattr(resources, "_MOUNT", folder / "mount")


SECOND = {
    "job/memory.max": str(4 * GB),
    "job/memory.current": str(3 * GB),
    "job/memory.stat": f"anon 5\ninactive_file {GB // 2}\n",
    "job/step/memory.max": "max\n",
    "job/step/memory.current": "5",
    "job/step/memory.stat": "anon 5\n",
}
FIRST = {
    "memory/slurm/memory.limit_in_bytes": str(5 * GB),
    "memory/slurm/memory.usage_in_bytes": str(2 * GB),
    "memory/slurm/memory.stat": "cache 1\ninactive_file 0\n",
}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 10 * GB),
        ("0::/job/step\n", SECOND, 3 * GB // 2),  # the limit of the group above, less what the kernel gives up
        ("9:cpu:/\n4:memory:/slurm\n0::/\n", FIRST, 3 * GB),
        ("0::/elsewhere\n", SECOND, 10 * GB),
        ("nonsense\n", SECOND, 10 * GB),
    ],
    ids=["no group", "second version", "first version", "another mount", "nonsense"],
)
def test_what_is_left_is_the_least_of_all_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], expected: int
) -> None:
    machine(tmp_path, monkeypatch, groups, files)
    found = free_memory()
    assert found is not None
    assert found == pytest.approx(expected, abs=2048)


def test_where_the_system_does_not_say_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_MEMINFO", tmp_path / "none")
    assert free_memory() is None
    (tmp_path / "none").write_text("MemAvailable:\n")
    assert free_memory() is None


def test_this_machine_has_memory_disk_and_cores(tmp_path: Path) -> None:
    memory = free_memory()
    assert memory is None or 10**7 < memory < 10**14
    assert free_disk(tmp_path / "not" / "there") == pytest.approx(free_disk(tmp_path), rel=0.1)
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_sizes_are_in_mb_or_gb() -> None:
    assert [size(count) for count in (0, 1_500_000, 12_340_000_000)] == ["0 MB", "1.5 MB", "12.3 GB"]
