"""Finished runs by what determines them, so that a sweep does not do one of the same config again."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypedDict

from advunlearn.evaluation.metrics_file import Metrics, read_metrics
from advunlearn.runs.manifest import Manifest
from advunlearn.runs.state import read_manifest, state_of
from advunlearn.storage.files import file_digest, read_json, write_json
from advunlearn.storage.folders import make_folder
from advunlearn.storage.store import Store

logger = logging.getLogger(__name__)


class _Entry(TypedDict):
    folder: str


OWN = ("manifest.json", "advunlearn.log", "config.yaml", "job.json")  # a folder's own, whatever run it holds
LOGGED = ("curves.csv", "events.out.tfevents.*")  # which a logger continues in place


def note(store: Store, key: Mapping[str, Any], folder: Path) -> None:
    """Remember that the run which `key`, plain data, determines is finished in this folder.

    The run has all of its results: a store that cannot be written to is no reason for it to fail.
    """
    try:
        make_folder(store.area("runs"))
        write_json(_entry(store, key), {"folder": str(folder.absolute())})
    except OSError as error:
        logger.warning("later runs will not find this one (%s)", error)


def find(store: Store, key: Mapping[str, Any]) -> Path | None:
    """Return the folder of the finished run that `key` determines, if it still exists, whole and readable."""
    try:
        folder = Path(read_json(_entry(store, key), _Entry)["folder"])
        if state_of(folder).name != "completed":
            return None
        checksums = (read_manifest(folder) or {})["checksums"]
        whole = checksums and all(file_digest(folder / name) == digest for name, digest in checksums.items())
        read_metrics(folder)  # raises if an older version wrote them
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if whole else None


def adopt(manifest: Manifest, folder: Path) -> Metrics:
    """Link the files of a finished run, which are never changed in place, into a run's folder; return its metrics."""
    with manifest.stage("run") as stage:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not any(fnmatch(path.name, name) for name in (*OWN, *LOGGED, ".*")):
                _link(path, manifest.folder / path.name)
        stage.note(reused=True, folder=str(folder))
        found = read_manifest(folder) or {}
        manifest.note(checksums=found["checksums"])
    return read_metrics(manifest.folder)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _entry(store: Store, key: Mapping[str, Any]) -> Path:
    return store.area("runs") / f"{store.digest('run', key)}.json"
