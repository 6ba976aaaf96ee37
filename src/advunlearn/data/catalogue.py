"""The datasets that `advunlearn data` lists: the options of the group `dataset`."""

from __future__ import annotations

import importlib

import yaml

from advunlearn.data.dataset import Dataset
from advunlearn.storage.paths import config_folder


def datasets() -> dict[str, type[Dataset]]:
    """Return the class of every shipped dataset by its name."""
    found: dict[str, type[Dataset]] = {}
    for path in sorted((config_folder() / "dataset").glob("*.yaml")):
        module, _, name = yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"].rpartition(".")
        found[path.stem] = getattr(importlib.import_module(module), name)
    return found
