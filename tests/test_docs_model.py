"""The code and the commands of docs/model.md, as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from advunlearn.config.compose import experiment_from
from advunlearn.models.foreign import own_module
from advunlearn.models.model import skeleton
from advunlearn.stages.estimate import before_a_run

TEXT = (Path(__file__).parents[1] / "docs" / "model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
MODULE, SAVE = (block for language, block in BLOCKS if language == "python")
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]


@pytest.fixture
def mynet(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mynet.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workplace))
    Path("rows.txt").write_text("3\n5\n8\n13\n", encoding="utf-8")
    exec(MODULE + SAVE, {})


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_composes_and_its_network_is_the_one_that_is_named(line: str, mynet: None) -> None:
    words = [word for word in shlex.split(line)[2:] if not word.startswith(("hydra.", "original.run="))]
    experiment = experiment_from(words)
    info = experiment.dataset.info()
    network = own_module(skeleton(experiment.model, info.shape, len(info.classes)))
    assert type(network).__module__.split(".")[0] in line.replace("huggingface", "transformers")


def test_the_checkpoint_is_that_of_the_command(mynet: None) -> None:
    (line,) = (line for line in COMMANDS if "original.path" in line)
    before_a_run(experiment_from([*shlex.split(line)[2:], "unlearner=finetune", "attack=threshold", "device=cpu"]))
