"""How much memory, disk and how many cores this process may use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int | None:
    """Return the bytes of memory that this process can still get, swap included; None where that is unknown.

    That is what the machine has left, or less if a batch system or container limits the process.
    """
    try:
        lines = [line.split() for line in _MEMINFO.read_text(encoding="ascii").splitlines()]
        kilobytes = {line[0].rstrip(":"): int(line[1]) for line in lines}
        machine = 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return min([machine, *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """Return what is left of the memory limits of this process's control group and of those above it."""
    try:
        groups = [
            line.split(":", 2) for line in _GROUPS.read_text(encoding="utf-8").splitlines() if line.count(":") > 1
        ]
    except OSError:
        return []
    left = []
    for _, controllers, path in groups:
        if controllers in ("", "memory"):  # the second and the first version of control groups
            root = _MOUNT / controllers
            own = root / path.lstrip("/")
            left += [_left(folder) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return [each for each in left if each is not None]


def _left(folder: Path) -> int | None:
    """Return what is left of one group's limit; None if it has none."""
    first = (folder / "memory.limit_in_bytes").exists()
    names = ("limit_in_bytes", "usage_in_bytes") if first else ("max", "current")
    try:
        limit, used = (int((folder / f"memory.{name}").read_text(encoding="ascii")) for name in names)
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    return limit - used + int(statistics.get("inactive_file", 0))  # a cache that the kernel gives up


def free_disk(path: Path) -> int:
    """Return the bytes that are free on the disk where `path` is or will be."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def size(count: int) -> str:
    """Return bytes in MB or GB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
