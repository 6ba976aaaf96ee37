from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from advunlearn.runtime import memory
from advunlearn.runtime.seeding import clean_state

COUNT = """
import resource
from advunlearn.runtime.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        [b"x" * 16_000_000 for _ in range(8)]  # 128 MB, in 31,250 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def pages():
    return int(open("/proc/self/statm").read().split()[1])

before = pages()
with kept_memory():
    faults()
    inside = faults()
print(inside, pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is an option of glibc")
def test_freed_memory_is_used_again_and_given_back_at_the_end(tmp_path: Path) -> None:
    script = tmp_path / "count.py"
    script.write_text(COUNT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    inside, kept = map(int, done.stdout.split())
    assert inside < 1_000  # by default five times each page
    assert kept < 10_000


class Glibc:
    """A C library that remembers the options that it accepted."""

    def __init__(self, largest: int) -> None:
        self.largest, self.options, self.said = largest, dict[int, int](), list[dict[int, int]]()

    def mallopt(self, option: int, value: int) -> int:
        if option == memory._MMAP_THRESHOLD and value > self.largest:
            return 0
        self.options[option] = value
        return 1

    def malloc_trim(self, _: int) -> None:
        self.said.append({**self.options})


@pytest.mark.parametrize("largest", [1 << 30, 1 << 25])
def test_the_largest_threshold_that_is_accepted(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    library = Glibc(largest)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: library)
    with clean_state(0):
        with memory.kept_memory():
            assert library.options == {memory._MMAP_THRESHOLD: largest, memory._TRIM_THRESHOLD: -1}
        assert library.options == {memory._MMAP_THRESHOLD: largest, memory._TRIM_THRESHOLD: -1}
    assert library.said[-1] == {memory._MMAP_THRESHOLD: 1 << 25, memory._TRIM_THRESHOLD: 1 << 26}


@pytest.mark.parametrize("library", [Glibc(0), SimpleNamespace()])
def test_a_c_library_that_refuses_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, library: Glibc) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: library)
    with memory.kept_memory():
        pass
    assert not getattr(library, "options", {})
