"""Workers: real processes, real signals, and the threads in their place."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from advunlearn.runtime import workers
from advunlearn.runtime.memory import ShortOfMemory
from advunlearn.runtime.settings import Settings
from advunlearn.runtime.signals import Halted, Interrupted, halt_point, heed_signals, is_asked
from advunlearn.runtime.workers import run_tasks
from advunlearn.training.fit import seeded

FORKS = workers.forks()
processes_only = pytest.mark.skipif(not FORKS, reason="workers are threads here")


@pytest.fixture(params=["processes", "threads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "processes" and not FORKS:
        pytest.skip("workers are threads here")
    monkeypatch.setattr(workers, "forks", lambda: request.param == "processes")
    return str(request.param)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def endless(started: Path, ended: Path) -> Callable[[], None]:
    """Return a task that says in files when it begins and when it ends because it is told to."""

    def run() -> None:
        started.touch()
        try:
            while True:
                time.sleep(0.001)
                halt_point()
        except (Halted, Interrupted):
            ended.touch()
            raise

    return run


def test_all_results_come_and_the_next_tasks_run(way: str) -> None:
    for _ in range(2):
        assert sorted(run_tasks([lambda: 1, lambda: 2, lambda: 3], 2)) == [1, 2, 3]
    assert list(run_tasks([], 2)) == []


def test_workers_are_processes_or_threads_and_have_none_themselves(way: str) -> None:
    def inner() -> tuple[int, int, list[int]]:
        return os.getpid(), threading.get_ident(), list(run_tasks([os.getpid, threading.get_ident], 2))

    for pid, thread, inside in run_tasks([inner] * 2, 2):
        assert inside == [pid, thread]
        assert (pid != os.getpid()) == (way == "processes")
        assert gone(pid) == (way == "processes")  # and not even a zombie


def test_workers_compute_on_one_core_each_and_the_setting_comes_back(way: str) -> None:
    torch.set_num_threads(2)
    assert list(run_tasks([torch.get_num_threads] * 4, 2)) == [1] * 4
    assert list(run_tasks([torch.get_num_threads] * 2, 1)) == [1] * 2
    assert torch.get_num_threads() == 2


def test_an_error_in_one_task_ends_the_long_ones_and_the_waiting_ones(way: str, tmp_path: Path) -> None:
    started, ended, late = (tmp_path / name for name in ("started", "ended", "late"))

    def fails() -> None:
        assert eventually(started.exists)
        raise ZeroDivisionError("by nothing")

    tasks: list[Callable[[], Any]] = [endless(started, ended), fails, late.touch]
    with pytest.raises(ZeroDivisionError, match="by nothing") as raised:
        for _ in run_tasks(tasks, 2):
            pass
    assert ended.exists()
    if way == "processes":
        assert not late.exists()
        assert "in fails" in str(raised.value.__cause__)  # the log then says where


def test_results_that_are_no_longer_wanted_end_the_tasks(way: str, tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"

    def first() -> int:
        assert eventually(started.exists)
        return 1

    results = run_tasks([endless(started, ended), first], 2)
    assert next(results) == 1
    results.close()
    assert ended.exists()


@processes_only
def test_an_error_that_cannot_be_sent_is_told() -> None:
    class Local(Exception):
        pass

    def fails() -> None:
        raise Local("here")

    with pytest.raises(RuntimeError, match="Local: here"):
        list(run_tasks([fails, fails], 2))


@processes_only
@pytest.mark.parametrize("half_sent", [False, True])
def test_a_worker_that_is_killed_names_memory_and_the_option_that_lowers_it(half_sent: bool) -> None:
    """The kernel kills one with signal 9 when memory is short: before its result is sent, or while it is."""

    def task() -> Any:
        if half_sent:
            # The length of a message, and a part of it.
            os.write(sys._getframe(2).f_locals["writing"].fileno(), b"\0\0\1\0half")
        os.kill(os.getpid(), signal.SIGKILL)

    words = r"the system killed one of 4 worker processes, most likely because memory ran out \(try workers=2,"
    with pytest.raises(ShortOfMemory, match=words) as raised:
        list(run_tasks([task] * 4, 4))
    assert raised.value.status == 137


@processes_only
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_a_worker_without_memory_names_the_option_as_well(error: Exception) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(ShortOfMemory, match=r"memory ran out in one of 2 worker processes \(try workers=1,") as raised:
        list(run_tasks([fails] * 2, 2))
    assert raised.value.status == 1


@processes_only
def test_any_other_end_of_a_worker_is_an_error() -> None:
    for end, code in ((lambda: os._exit(3), 3), (lambda: os.kill(os.getpid(), signal.SIGUSR2), -signal.SIGUSR2)):
        with pytest.raises(RuntimeError, match=f"a worker process ended with exit code {code}$"):
            list(run_tasks([end] * 2, 2))


@processes_only
def test_where_no_more_processes_can_be_started_fewer_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on processes, `ulimit -u` or that of a container, makes a fork fail."""
    fork, running = os.fork, [0]

    def limited() -> int:
        running[0] = len(multiprocessing.active_children())
        if running[0] >= 2:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", limited)
    assert sorted(run_tasks([lambda n=n: n for n in range(6)], 4)) == list(range(6))
    monkeypatch.setattr(os, "fork", lambda: limited() if running[0] > 9 else _no_fork())
    with pytest.raises(OSError, match="temporarily"):
        list(run_tasks([int] * 2, 2))


def _no_fork() -> int:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


@processes_only
def test_a_worker_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "GRACE", 0.2)
    started = tmp_path / "pid"

    def deaf() -> None:
        started.write_text(str(os.getpid()))
        while True:
            time.sleep(1)

    def fails() -> None:
        assert eventually(lambda: started.exists() and started.read_text() != "")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run_tasks([deaf, fails], 2))
    assert gone(int(started.read_text()))


@processes_only
def test_a_worker_computes_after_its_parent_has_on_many_threads_and_nobody_is_warned() -> None:
    torch.set_num_threads(2)
    weights = torch.randn(400, 400, requires_grad=True)

    def train() -> list[float]:
        inputs = torch.ones(400, 400) / 400
        (gradient,) = torch.autograd.grad((inputs @ weights).relu().sum(), weights)
        return [float(gradient.sum()), float(torch.linalg.svdvals(weights.detach())[0])]

    expected = train()
    thread = threading.Thread(target=time.sleep, args=(2,), daemon=True)  # what Python 3.12 warns of at a fork
    thread.start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for result in run_tasks([train] * 4, 2):
            assert result == pytest.approx(expected, rel=1e-5)
    assert caught == []


@processes_only
def test_a_worker_does_not_wait_for_a_thread_that_its_parent_has() -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with seeded(Settings(device="cpu"), "held"):
            inside.set()
            leave.wait(60)

    def draw() -> float:
        with seeded(Settings(device="cpu"), "drawn"):
            return float(torch.rand(()))

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert inside.wait(30)
        first, second = run_tasks([draw, draw], 2)
        assert not leave.is_set()
        assert thread.is_alive()
    finally:
        leave.set()
        thread.join()
    assert first == second == draw()


@processes_only
def test_what_workers_log_is_written_where_the_parents_lines_are(tmp_path: Path) -> None:
    logger, handler = logging.getLogger("advunlearn.test"), logging.FileHandler(tmp_path / "log")
    logger.addHandler(handler)
    try:
        list(run_tasks([lambda: logger.warning("one"), lambda: logger.warning("two")], 2))
        logger.warning("three")
    finally:
        logger.removeHandler(handler)
    assert sorted((tmp_path / "log").read_text().split()) == ["one", "three", "two"]


@processes_only
def test_a_signal_that_is_heeded_ends_the_workers_at_their_next_step(tmp_path: Path) -> None:
    started, ended = ([tmp_path / f"{name}{each}" for each in (1, 2)] for name in ("started", "ended"))

    def told() -> None:
        assert eventually(lambda: all(path.exists() for path in started))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=told, daemon=True).start()
    with heed_signals(), pytest.raises(Interrupted, match="SIGTERM"):
        list(run_tasks([endless(*paths) for paths in zip(started, ended, strict=True)], 2))
    assert all(path.exists() for path in ended)
    assert not is_asked()


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from advunlearn.runtime.signals import halt_point
from advunlearn.runtime.memory import ShortOfMemory
from advunlearn.runtime.workers import run_tasks

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job, as this may be, lacks

def work():
    Path(sys.argv[1], str(os.getpid())).touch()
    while True:
        time.sleep(0.01)
        halt_point()

list(run_tasks([work] * 3, 2))
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Give a process group with two workers, and their numbers."""
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 2, 60)
    yield parent, [int(path.name) for path in tmp_path.iterdir()]
    parent.kill()
    parent.communicate()


@processes_only
def test_no_worker_outlives_a_parent_that_is_killed(running: tuple[subprocess.Popen[str], list[int]]) -> None:
    parent, pids = running
    parent.kill()
    assert eventually(lambda: all(map(gone, pids)))


@processes_only
def test_an_interrupt_from_the_terminal_is_one_error_of_the_parent(
    running: tuple[subprocess.Popen[str], list[int]],
) -> None:
    parent, pids = running
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=120)  # no limit of the test: a busy machine took 39 s
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert all(map(gone, pids))
