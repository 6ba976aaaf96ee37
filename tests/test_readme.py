"""Every command and every piece of code in the README, docs/runs.md and docs/extend.md, run as it stands there."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import check_sweep, jobs_to_check
from advunlearn.sweeps.comparison import comparison_of
from advunlearn.unlearners.unlearner import Unlearner
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS, EXTEND = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("runs.md", "extend.md"))
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README + RUNS + EXTEND, re.DOTALL)
COMMANDS = [
    line.split("   #")[0].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("advunlearn")
]
SMALL = ["optimizer.epochs=2", "attack.shadows=2"]
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
"""


def code(marker: str) -> str:
    """Return the one block of code that holds the marker."""
    (block,) = (block for _, block in BLOCKS if marker in block)
    return block


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a finished run."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVUNLEARN_CACHE", str(folder / "cache"))
        return advunlearn.run([*SMALL, "unlearner.epochs=1"], folder / "run").folder


@pytest.fixture
def persons_folder(workplace: Path) -> Path:
    """Give what the README supposes beside a person: arrays, rows, a trained model, a method and an attack."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    images = (40 * labels[:, None, None] + rng.integers(0, 90, (240, 8, 8))).astype(np.uint8)
    np.savez("mine.npz", images=images, labels=labels)
    Path("rows.txt").write_text("\n".join(map(str, range(0, 40, 2))), encoding="utf-8")
    Path("mynet.py").write_text(NET, encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(NET, scope)
    torch.save(scope["Net"]().state_dict(), "model.pt")
    Path("mymethods.py").write_text(code("class Shrink"), encoding="utf-8")
    Path("my/unlearner").mkdir(parents=True)
    Path("my/unlearner/shrink.yaml").write_text(code("mymethods.Shrink"), encoding="utf-8")
    Path("myattacks.py").write_text(code("class InputGradient"), encoding="utf-8")
    Path("my/attack").mkdir()
    Path("my/attack/input_gradient.yaml").write_text(code("myattacks.InputGradient"), encoding="utf-8")
    return workplace


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_is_right(
    line: str, persons_folder: Path, finished: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run what is quick as it stands; of a run, check all of it, and run those on small data at a small size."""
    verb, *words = shlex.split(line)[1:]
    if verb == "compare":
        assert len(comparison_of(words).jobs) == (36 if "seeds." in line else 21)
        return
    if verb == "tune":
        words += ["--trials", "1", "seed=1", "optimizer.epochs=2"]
    if verb not in ("run", "unlearn"):
        if verb in ("report", "status", "resume"):
            shutil.copytree(finished, Path(words[0]) / "0")
        if verb == "submit":
            words.append("--dry-run")
        assert main([verb, *words]) == 0
        return
    monkeypatch.syspath_prepend(str(persons_folder))
    if "--cfg" in words:
        assert "dataset:" in command(verb, *words).stdout
        return
    config_dir = words[words.index("--config-dir") + 1] if "--config-dir" in words else None
    overrides = [word for word in words if "=" in word]
    if "-m" in words:
        assert check_sweep(overrides, config_dir)[1] == (3 if "~" in line else 10 if "finetune" in line else 16 * 5)
        return
    assert jobs_to_check(overrides, config_dir, multirun=False)
    if "cifar10" in line:
        return
    done = command(verb, *words, *SMALL)
    assert done.returncode == 0, done.stderr
    assert ("in the store" if "attack.shard" in line else "report.html") in done.stdout


def test_the_two_first_commands_are_the_ones_that_ci_runs() -> None:
    bash = [block.strip() for language, block in BLOCKS if language == "bash"]
    assert bash[0] == "pip install . && advunlearn run"
    script = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    install, test = bash[1].split(" && ")
    assert install in script
    assert test in script


def test_the_errors_are_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    session = code("$ advunlearn run dataset=cifar11").splitlines()
    assert main(shlex.split(session[0])[2:]) == 2
    assert capsys.readouterr().err.splitlines() == session[1:]


def test_the_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    parts = {name: (torch.randn(30, 5), torch.arange(30) % 3) for name in ("", "f", "a", "t")}
    names = {f"{kind}{name}": value for name, pair in parts.items() for kind, value in zip("xy", pair, strict=True)}
    scope = {**names, "model": torch.nn.Linear(5, 3), "train": lambda dataset, seed: torch.nn.Linear(5, 3)}
    exec(code("advunlearn.compare("), scope)
    assert 0 <= scope["found"].metrics["models"]["unlearned"]["attacks"]["lira"]["auc"] <= 1
    assert (tmp_path / "audit.html").stat().st_size > 10_000


def test_the_method_is_one(persons_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(persons_folder))
    assert issubclass(importlib.import_module("mymethods").Shrink, Unlearner)


def test_files_that_it_points_to_are_there() -> None:
    for text, folder in ((README, ROOT), (RUNS, ROOT / "docs"), (EXTEND, ROOT / "docs")):
        for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
            assert (folder / target).exists(), target
