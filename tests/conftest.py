from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the suite runs beside other work, and these networks are tiny


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty current directory and an empty cache."""
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
