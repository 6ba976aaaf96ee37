"""What depends on the line of Hydra that is installed: its private parser of arguments, and its deprecations."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path

import hydra
import pytest

import advunlearn
from advunlearn.config.compose import experiment_from, split_arguments
from advunlearn.config.composer import CREATED_BY_HYDRA, main_keywords, register_resolvers, version_base
from advunlearn.options import ConfigError
from advunlearn.storage.paths import config_folder

LINE = ".".join(hydra.__version__.split(".")[:2])


@pytest.mark.parametrize("line", [LINE])  # so that a report of a failure names the line
def test_arguments_are_split_by_this_line_of_hydra(line: str) -> None:
    known, unknown = split_arguments(["seed=1", "~forget", "-m", "--config-dir", "own", "--no-such-flag"])
    assert known.overrides == ["seed=1", "~forget"]
    assert known.multirun
    assert known.config_dir == "own"
    assert (known.config_name, known.config_path, known.experimental_rerun) == (None, None, None)
    assert unknown == ["--no-such-flag"]


@pytest.mark.parametrize("line", [LINE])
def test_this_line_of_hydra_warns_of_nothing_that_is_used(line: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_resolvers()
        experiment = experiment_from(["unlearner.alpha=1", "optimizer.lr=1", "model.hidden=8"])
    assert isinstance(experiment.config["unlearner"]["alpha"], int)  # as it was typed; the option is a float:
    assert isinstance(experiment.unlearner.alpha, float)  # type: ignore[attr-defined]
    assert version_base() == ({"version_base": "1.3"} if line == "1.3" else {})


def test_hydra_may_create_what_its_own_config_names() -> None:
    """Hydra 1.4 warns of every other class, and 1.5 refuses it."""
    text = "".join(path.read_text(encoding="utf-8") for path in (config_folder() / "hydra").rglob("*.yaml"))
    text += (config_folder() / "config.yaml").read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?:_target_|class): (advunlearn\.[\w.]+)", text)) == sorted(CREATED_BY_HYDRA)
    parameters = inspect.signature(hydra.main).parameters
    assert main_keywords().keys() <= parameters.keys()
    assert LINE == "1.3" or main_keywords() == {"execution_whitelist": list(CREATED_BY_HYDRA)}


def test_a_number_beyond_all_floats_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"^unlearner.alpha must be a number, got 1000"):
        experiment_from([f"unlearner.alpha=1{'0' * 400}"])


def test_private_parts_of_hydra_are_imported_in_one_place() -> None:
    source = Path(advunlearn.__file__).parent
    importing = [path for path in source.rglob("*.py") if "hydra._internal" in path.read_text()]
    assert [str(path.relative_to(source)) for path in importing] == ["config/compose.py"]
