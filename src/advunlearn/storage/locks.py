"""Claims: only one process makes an artefact at a time, on one machine or on several that share a folder.

A claim is a file that names its holder. The kernel releases the lock on the file when the holder ends, which is enough
on one machine. The lock may not be visible on other machines, or survive the crash of one. So the holder also touches
the file every few seconds (its heartbeat), and a waiting process takes over after it has seen no heartbeat for `LEASE`
seconds. The clocks of two machines are never compared. A holder that was only stopped, or disconnected, may continue
meanwhile: a claim saves work, and the result must be correct even if it is made twice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import platform
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from advunlearn.options import UserError
from advunlearn.runtime.signals import halt_point
from advunlearn.storage.folders import make_folder, share

logger = logging.getLogger(__name__)

BEAT = 5.0  # seconds between two heartbeats
LEASE = 60.0  # seconds without a heartbeat after which a holder counts as dead
LONGEST_PAUSE = 1.0  # seconds between two checks of another's claim
_NOT_LOCKED = (errno.EWOULDBLOCK, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def claim(path: Path, *, wait: bool = True, sure: bool = False) -> Iterator[bool]:
    """Hold a claim, which is released when this process or its machine ends; yield whether it is held.

    Args:
        path: of the claim's file.
        wait: for another holder; otherwise yield False.
        sure: with `wait=False`, yield False only after the holder was seen to be alive; may take up to `LEASE` seconds.
    """
    make_folder(path.parent)
    file, pause = _take(path), 0.02
    if file is None and wait:
        logger.info("waiting for %s, which is making the same (%s)", _holder(path) or "another process", path)
    seen = _watched.get(path)
    while file is None and (wait or (sure and _watched.get(path) == seen)):
        halt_point()
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)
        file = _take(path)
    if file is None:
        yield False
        return
    _heart.begin(file)
    try:
        yield True
    finally:
        if _heart.end(file):  # else this is a fork of the holder
            _drop(path, file)


def seems_held(path: Path) -> bool:
    """Return whether another process seems to hold a claim: without waiting, so by comparing two machines' clocks."""
    if path.is_symlink() or not path.is_file():
        return False
    with claim(path, wait=False) as free, contextlib.suppress(FileNotFoundError):
        return not free and time.time() - path.stat().st_mtime < 5 * LEASE
    return False


def _take(path: Path) -> int | None:
    """Return the descriptor of the claim's file if it is ours now, None while another process holds it."""
    file = _create(path)
    if file is not None:
        return file
    try:
        file = _open(path)
    except FileNotFoundError:
        return None  # released at this moment
    except PermissionError:  # of another user, and either not shared yet or never
        return _take_from_silent(path, None)
    ours = False
    try:
        locked = _lock(file)
        if not _names(path, file):
            return None
        holder = _holder(path)
        if locked and holder is not None and holder.endswith(f" on {platform.node()}"):
            _sign(path, file)
            ours = True
            return file
        return _take_from_silent(path, holder)
    finally:
        if not ours:
            os.close(file)


def _open(path: Path) -> int:
    """Return the descriptor of another's claim.

    Raises:
        UserError: if it is not a regular file: writing to it could change another file.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UserError(f"{path} is not a regular file; remove it (rm {path})")
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW)


def _take_from_silent(path: Path, holder: str | None) -> int | None:
    """Return the claim's new descriptor if its holder has had no heartbeat for `LEASE` seconds, else None."""
    try:
        if _silence(path) < LEASE:
            return None
    except FileNotFoundError:
        return None
    logger.warning("taking over from %s, silent for %.0f s (%s)", holder or "another process", LEASE, path)
    path.unlink(missing_ok=True)
    return _create(path)


def _create(path: Path) -> int | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    try:
        _lock(file, fcntl.LOCK_EX)  # waits only while another process reads the file, which is still empty
        _sign(path, file)
        with contextlib.suppress(FileNotFoundError):
            share(path)  # so that another user can see at once that this process died
    except BaseException:
        _drop(path, file)
        raise
    return file


def _drop(path: Path, file: int) -> None:
    with contextlib.suppress(OSError):
        if _names(path, file):
            path.unlink(missing_ok=True)
    os.close(file)


def _lock(file: int, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> bool:
    """Lock the file; False if another holds the lock, or if this file system has none."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in _NOT_LOCKED:
            raise
        return False
    return True


def _names(path: Path, file: int) -> bool:
    """Return whether the open file is still the one at this path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _sign(path: Path, file: int) -> None:
    name = f"process {os.getpid()} on {platform.node()}".encode()
    try:
        os.ftruncate(file, os.pwrite(file, name, 0))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _holder(path: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8") or None
    return None


_watched: dict[Path, tuple[tuple[int, int], float]] = {}  # the last state of others' claims, and since when


def _silence(path: Path) -> float:
    """Return for how many seconds this process has seen no heartbeat of a claim, from its first check on."""
    status, now = os.lstat(path), time.monotonic()
    state = (status.st_ino, status.st_mtime_ns)
    last, since = _watched.get(path, (None, now))
    if state != last:
        _watched[path], since = (state, now), now
    return now - since


class _Heart:
    """Touch the claims that this process holds, from one thread that runs while there are any."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.lock = threading.Lock()
        self.beats = False

    def begin(self, file: int) -> None:
        with self.lock:
            self.held.add(file)
            if not self.beats:
                self.beats = True
                threading.Thread(target=self.beat, name="claims", daemon=True).start()

    def end(self, file: int) -> bool:
        """Return whether this process, and not one that it was forked from, held the claim."""
        with self.lock:
            held = file in self.held
            self.held.discard(file)
            return held

    def beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self.lock:
                if not self.held:
                    self.beats = False
                    return
                for file in self.held:
                    with contextlib.suppress(OSError):
                        os.utime(file)

    def forked(self) -> None:
        """Close the parent's claims in a fork: a lock would last until both processes had closed the file."""
        for file in self.held:
            os.close(file)
        self.held, self.lock, self.beats = set(), threading.Lock(), False


_heart = _Heart()
os.register_at_fork(after_in_child=_heart.forked)
