from __future__ import annotations

import importlib
import io
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest

# Read once, when NumPy is imported. On two busy cores, threads that wait for each other made fits take four times
# the CPU time.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import torch

from advunlearn.cli import main
from advunlearn.report.run.page import draw_pictures
from advunlearn.report.summary.page import _draw
from advunlearn.runtime.threads import kept_threads
from advunlearn.stages import clock

torch.set_num_threads(1)  # the suite runs beside other work, and these networks are tiny

os.environ.pop("COLUMNS", None)  # tables are as in a pipe, whatever the terminal that the suite runs in

GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")  # for the process of the tests marked `gpu`


# Where the pictures of a run and of several runs are drawn.
DRAWING: dict[str, Callable[..., dict[str, bytes]]] = {
    "advunlearn.stages.report.draw_pictures": draw_pictures,
    "advunlearn.report.run.page.draw_pictures": draw_pictures,
    "advunlearn.report.summary.page._draw": _draw,
}


LONGEST = ("sweeps/test_slurm.py", "tests/test_run.py", "tests/test_resume.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process works on one of them alone at the end."""
    items.sort(key=lambda item: not str(item.path).endswith(LONGEST))


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from a suite that is about the CPU, before torch looks for them: device=auto would take one."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """Leave torch's threads and switches as they were: no test depends on which ones ran before it."""
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    with kept_threads():
        yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)


@pytest.fixture(autouse=True)
def process_as_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Restore what a command changes: where classes are found, what Hydra reads, and the levels of logging.

    Modules that a test wrote are forgotten: another test has a file of the same name.
    """
    path, arguments, latest = list(sys.path), list(sys.argv), next(reversed(sys.modules))
    levels = {logger: logger.level for logger in (logging.getLogger(), logging.getLogger("advunlearn"))}
    yield
    sys.path[:], sys.argv = path, arguments
    for name in list(takewhile(lambda name: name != latest, reversed(sys.modules))):  # comparing all takes long
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path_factory.getbasetemp()):
            del sys.modules[name]
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def no_pictures() -> Iterator[None]:
    """Draw nothing in a report's picture: pictures take half the time of runs as short as these."""
    with pytest.MonkeyPatch.context() as patch:
        for place in DRAWING:
            patch.setattr(place, lambda *_: {"roc": b"\x89PNG"})
        yield


@pytest.fixture(scope="session", autouse=True)
def short_estimates() -> Iterator[None]:
    """Measure the steps of an estimate for a millisecond: the usual 50 ms take as long as many runs here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "SLICE", 0.001)
        yield


FSYNC = os.fsync


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Do not sync files, which matters only after a power failure and takes milliseconds; `tests/storage` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # a descriptor that is closed is still an error
        yield


def with_pictures(patch: pytest.MonkeyPatch) -> None:
    """Let reports have pictures, also those of a process that is forked."""
    for place, draw in DRAWING.items():
        patch.setattr(place, draw)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reports of a test have pictures."""
    with_pictures(monkeypatch)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty current directory and an empty cache."""
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def command(workplace: Path) -> Command:
    """Return a function that runs `advunlearn` in a process of its own, in the workplace, and waits for its end."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return Running(*words, **environment).finish()

    return run


@cache
def load_libraries() -> None:
    """Import what a run imports when it needs it: once here instead of in each process that is forked."""
    for name in ("torch._dynamo", "advunlearn.train", "advunlearn.report.run.pictures", "sklearn.svm", "hydra.main"):
        importlib.import_module(name)


class Running:
    """`advunlearn` in a process of its own: a fork of this one, which has loaded the libraries already.

    Attributes:
        process: to ask for its number, and to kill.
    """

    def __init__(self, *words: str, **environment: str) -> None:
        load_libraries()
        self.words = words
        self.outputs = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(environment,))
        self.process.start()

    def _run(self, environment: dict[str, str]) -> None:
        for number, output in enumerate(self.outputs, start=1):
            os.dup2(output.fileno(), number)
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["advunlearn", *self.words]
        os.environ.update(environment)
        logging.getLogger().handlers.clear()  # pytest's
        sys.exit(main(list(self.words)))

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that happens while it runs."""
        while not happened():
            assert self.process.is_alive(), self.finish().stderr
            time.sleep(0.01)

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, at most 300 s; the status is negative after a signal that it does not handle."""
        self.process.join(300)
        self.process.kill()  # of one that hangs
        self.process.join()
        texts = []
        for output in self.outputs:
            output.seek(0)
            texts.append(output.read())
            output.close()
        return subprocess.CompletedProcess(self.words, self.process.exitcode or 0, *texts)


def stages_of(folder: Path) -> int:
    """Return how many stages the run in this folder has begun."""
    manifest = folder / "manifest.json"
    return len(json.loads(manifest.read_text(encoding="utf-8"))["stages"]) if manifest.is_file() else 0


def own_unlearner(folder: Path, name: str, method: str) -> None:
    """Write an unlearner of the user: `NAME.py` and `my/unlearner/NAME.yaml`, to be chosen with `--config-dir my`.

    Args:
        method: the lines of its `unlearn(self, network, task)`.
    """
    body = textwrap.indent(textwrap.dedent(method).strip(), " " * 8)
    (folder / f"{name}.py").write_text(
        "from dataclasses import dataclass\nfrom pathlib import Path\n"
        "from advunlearn.unlearners.finetune import Finetune\n"
        "from advunlearn.unlearners.unlearner import Unlearned, Unlearner\n\n\n"
        f"@dataclass\nclass Own(Finetune):\n    def unlearn(self, network, task):\n{body}\n",
        encoding="utf-8",
    )
    options = folder / "my" / "unlearner" / f"{name}.yaml"
    options.parent.mkdir(parents=True, exist_ok=True)
    options.write_text(f"# mine\n_target_: {name}.Own\n", encoding="utf-8")
