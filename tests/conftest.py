from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from advunlearn.runtime.threads import kept_threads

torch.set_num_threads(1)  # the suite runs beside other work, and these networks are tiny

GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")  # for the process of the tests marked `gpu`


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from a suite that is about the CPU, before torch looks for them: device=auto would take one."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """Leave torch's threads and switches as they were: no test depends on which ones ran before it."""
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    with kept_threads():
        yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty current directory and an empty cache."""
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def command(workplace: Path) -> Command:
    """Give a function that runs `advunlearn` as a person does, in a process of its own, in the workplace."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "advunlearn", *words],
            cwd=workplace,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
