"""Who holds a claim, and who loses it: with real processes, real signals and a short lease."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from advunlearn.runtime.workers import run_tasks
from advunlearn.storage import locks
from advunlearn.storage.locks import claim, seems_held
from tests.storage.at_once import exit_codes

fork = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims" / "thing"


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "LEASE", 1.0)


@pytest.fixture
def endless_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LEASE", float("inf"))


def hold(path: Path, until: Path) -> None:
    with claim(path):
        (until.parent / "held").touch()
        wait_for(until.exists)


def wait_for(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.01)


@pytest.fixture
def holder(path: Path) -> Iterator[Any]:
    """Give a process that holds the claim until the file `end` is there, or until it is killed."""
    process = fork.Process(target=hold, args=(path, path.parents[1] / "end"))
    process.start()
    wait_for((path.parents[1] / "held").exists)
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def of_another_host(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("process 1 on elsewhere", encoding="utf-8")


def test_one_holds_it_and_the_file_says_who(path: Path) -> None:
    with claim(path) as first, claim(path, wait=False) as second:
        assert (first, second) == (True, False)
        assert path.read_text(encoding="utf-8") == f"process {os.getpid()} on {os.uname().nodename}"
        assert seems_held(path)
    assert not path.exists()
    assert not seems_held(path)


def test_what_fails_gives_the_claim_up(path: Path) -> None:
    with pytest.raises(RuntimeError), claim(path):
        raise RuntimeError
    with claim(path, wait=False) as ours:
        assert ours


@pytest.mark.usefixtures("endless_lease")
def test_a_killed_holder_loses_it_at_once(path: Path, holder: Any) -> None:
    with claim(path, wait=False) as ours:
        assert not ours
    assert seems_held(path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert path.exists()
    assert not seems_held(path)
    with claim(path, wait=False) as ours:
        assert ours


@pytest.mark.usefixtures("endless_lease")
def test_a_holder_that_is_done_is_waited_for_and_named_once(
    path: Path, holder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    end = path.parents[1] / "end"
    threading.Timer(0.3, end.touch).start()
    with caplog.at_level(logging.INFO), claim(path) as ours:
        assert ours
        assert end.exists()
    assert [record.message.split(",")[0] for record in caplog.records] == [
        f"waiting for process {holder.pid} on {os.uname().nodename}"
    ]


@pytest.mark.usefixtures("short_lease")
def test_a_holder_elsewhere_keeps_it_while_it_gives_signs_of_life(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of_another_host(path)
    died = threading.Event()

    def live() -> None:
        for _ in range(15):
            time.sleep(0.1)
            os.utime(path)
        died.set()

    threading.Thread(target=live).start()
    with claim(path, wait=False, sure=True) as ours:
        assert not ours
    assert seems_held(path)
    with caplog.at_level(logging.WARNING), claim(path) as ours:
        assert ours
        assert died.is_set()
    assert caplog.messages == [f"taking over from process 1 on elsewhere, silent for 1 s ({path})"]


@pytest.mark.usefixtures("short_lease")
def test_who_does_not_wait_takes_it_once_it_has_seen_silence_long_enough(path: Path) -> None:
    of_another_host(path)
    with claim(path, wait=False) as ours:
        assert not ours
    time.sleep(1.0)
    with claim(path, wait=False) as ours:
        assert ours


@pytest.mark.usefixtures("short_lease")
def test_who_must_be_sure_takes_it_from_the_dead_alone(path: Path, holder: Any) -> None:
    with claim(path, wait=False, sure=True) as ours:
        assert not ours
    other = path.with_name("other")
    of_another_host(other)
    with claim(other, wait=False, sure=True) as ours:
        assert ours


def test_an_old_claim_of_another_host_does_not_seem_held(path: Path) -> None:
    of_another_host(path)
    os.utime(path, (time.time() - 3600,) * 2)
    assert not seems_held(path)


@pytest.mark.usefixtures("short_lease")
def test_a_stopped_holder_loses_it_and_leaves_it_to_the_next(path: Path, holder: Any) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    with claim(path) as ours:
        assert ours
        (path.parents[1] / "end").touch()
        os.kill(holder.pid, signal.SIGCONT)
        holder.join()
        assert holder.exitcode == 0
        assert path.read_text(encoding="utf-8").startswith(f"process {os.getpid()} ")
    assert not path.exists()


def refuse_locks(file: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "no locks available")


@pytest.mark.usefixtures("short_lease")
def test_without_locks_the_signs_of_life_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse_locks)
    process = fork.Process(target=hold, args=(path, path.parents[1] / "end"))
    process.start()
    wait_for((path.parents[1] / "held").exists)
    with claim(path, wait=False, sure=True) as ours:
        assert not ours
    os.kill(process.pid or 0, signal.SIGKILL)
    with claim(path) as ours:
        assert ours
    process.join()


@pytest.mark.usefixtures("short_lease")
def test_the_holder_touches_it_until_it_gives_it_up(path: Path) -> None:
    for _ in range(2):  # the thread ends with the first claim, and begins again with the second
        with claim(path):
            before = path.stat().st_mtime_ns
            wait_for(lambda before=before: path.stat().st_mtime_ns > before)  # type: ignore[misc]
        wait_for(lambda: all(thread.name != "claims" for thread in threading.enumerate()))


@pytest.mark.usefixtures("short_lease")
def test_a_fork_of_the_holder_holds_its_own_claims_only(path: Path) -> None:
    other = path.with_name("other")

    def child() -> None:
        hold(other, path.parents[1] / "end")

    with claim(path):
        process = fork.Process(target=child)
        process.start()
        wait_for((path.parents[1] / "held").exists)
        before = other.stat().st_mtime_ns
        wait_for(lambda: other.stat().st_mtime_ns > before)
    with claim(path, wait=False) as ours:  # the fork lives, and does not keep what its parent gave up
        assert ours
    (path.parents[1] / "end").touch()
    process.join()
    assert process.exitcode == 0


def test_the_claim_of_a_killed_holder_does_not_last_as_long_as_its_forks(path: Path) -> None:
    pids = path.parents[1] / "pids"

    def parent() -> None:
        with claim(path):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            time.sleep(0.1)  # the fork has let go
            pids.write_text(str(child))
            time.sleep(60)

    process = fork.Process(target=parent)
    process.start()
    wait_for(lambda: pids.exists() and pids.read_text() != "")
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with claim(path, wait=False) as ours:
        assert ours
    os.kill(int(pids.read_text()), signal.SIGKILL)


def test_a_worker_that_waits_ends_with_the_others(path: Path) -> None:
    waits = multiprocessing.get_context("fork").Event()  # workers are processes

    def wait() -> None:
        waits.set()
        with claim(path):
            raise AssertionError

    def fail() -> None:
        waits.wait()
        raise RuntimeError("another task failed")

    with claim(path), pytest.raises(RuntimeError, match="another task failed"):
        list(run_tasks([wait, fail], 2))


def _count(path: Path, counter: Path, begin: Path) -> None:
    wait_for(begin.exists)
    for _ in range(5):
        with claim(path), counter.open("r+", encoding="utf-8") as file:
            number = int(file.read())
            time.sleep(0.002)
            file.seek(0)
            file.write(str(number + 1))


def test_eight_processes_hold_it_one_at_a_time(path: Path, tmp_path: Path) -> None:
    counter, begin = tmp_path / "counter", tmp_path / "begin"
    counter.write_text("0")
    assert exit_codes(_count, [(path, counter, begin)] * 8, begin) == [0] * 8
    assert counter.read_text() == "40"
