"""Where the cache is."""

from __future__ import annotations

from pathlib import Path

import pytest

from advunlearn.storage.paths import cache_folder

HOME = Path("/home/of/somebody")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, HOME / ".cache/advunlearn"),
        ({"XDG_CACHE_HOME": "/scratch"}, Path("/scratch/advunlearn")),
        ({"XDG_CACHE_HOME": "not/absolute"}, HOME / ".cache/advunlearn"),
        ({"XDG_CACHE_HOME": "/scratch", "ADVUNLEARN_CACHE": "/own"}, Path("/own")),
        ({"XDG_CACHE_HOME": "/scratch", "ADVUNLEARN_CACHE": ""}, Path("/scratch/advunlearn")),
        ({"ADVUNLEARN_CACHE": "~/own"}, HOME / "own"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    environment: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "ADVUNLEARN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(HOME), **environment}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == folder
