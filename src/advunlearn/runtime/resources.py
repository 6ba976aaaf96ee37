"""The memory, disk space and CPU cores that this process may use, and sizes in words."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from advunlearn.options import UserError

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


def disk(path: Path) -> tuple[int, int]:
    """Return the bytes in total and the free bytes of the disk on which `path` is or will be."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    usage = shutil.disk_usage(there)
    return usage.total, usage.free


def free_disk(path: Path) -> int:
    """Return the free bytes of the disk on which `path` is or will be."""
    return disk(path)[1]


def size(count: int) -> str:
    """Return bytes in MB or GB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Return the bytes that a size such as 20GB or 1.5TiB means.

    Raises:
        UserError: if the text is not a size; the message has no subject, so that the caller can name the option.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B", text.strip(), re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        raise UserError(f"must be a size such as 20GB or 500MB, got {text}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2].upper()])
