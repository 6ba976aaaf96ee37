"""What keeps files whole is tested with all that it does."""

from __future__ import annotations

import os

import pytest

from tests.conftest import FSYNC


@pytest.fixture(autouse=True)
def wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync files, as outside of tests."""
    monkeypatch.setattr(os, "fsync", FSYNC)
