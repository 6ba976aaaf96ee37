"""Run processes at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def exit_codes(target: Callable[..., object], arguments: Iterable[tuple[Any, ...]], begin: Path) -> list[int | None]:
    """Start a process for each tuple of arguments, let all begin by the file `begin`, and return their exit codes."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    begin.touch()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]
