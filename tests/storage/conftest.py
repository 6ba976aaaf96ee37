"""Tests of storage sync files, as the program does."""

from __future__ import annotations

import os

import pytest

from tests.conftest import FSYNC


@pytest.fixture(autouse=True)
def wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync files, as outside of tests."""
    monkeypatch.setattr(os, "fsync", FSYNC)
