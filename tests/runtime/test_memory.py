from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = """
import resource
import torch
from advunlearn.runtime.seeding import clean_state

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [torch.ones(4_000_000) for _ in range(8)]  # 128 MB, in 31,250 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def pages():
    return int(open("/proc/self/statm").read().split()[1])

before = pages()
with clean_state(0):
    first, then = faults(), faults()
print(first, then, pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is an option of glibc")
def test_freed_memory_is_used_again_and_given_back_at_the_end(tmp_path: Path) -> None:
    script = tmp_path / "count.py"
    script.write_text(COUNT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    first, then, kept = map(int, done.stdout.split())
    assert first < 5 * 31_250  # by default 20 times
    assert then < 1_000
    assert kept < 10_000
