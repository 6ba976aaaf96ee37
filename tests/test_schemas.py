"""Schema numbers guard the store: each is in the keys of what it guards, and guarded code does not change unnoticed.

After a change of guarded code, raise its number if results change, and record the new state:

    python tests/test_schemas.py
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import io
import json
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advunlearn.config.compose import experiment_from
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.attack import attack_key
from advunlearn.stages.data import prepare
from advunlearn.stages.shadows import original_set
from advunlearn.stages.unlearn import unlearner_identity
from advunlearn.storage.artefacts import Artefact
from advunlearn.train import run_key

SOURCE = Path(__file__).parents[1] / "src" / "advunlearn"
RECORD = Path(__file__).with_name("schemas.json")
# What each number guards, files or folders below the package.
GUARDED = {
    "training.setup.SCHEMA": ["training", "models", "optimizers", "data/examples.py", "data/splits.py"],
    "training.stack.SCHEMA": ["training/stack.py", "training/layers.py"],
    "api.own_trainer.SCHEMA": ["api/own_trainer.py"],
    "shadows.originals.SCHEMA": ["shadows/originals.py"],
    "stages.unlearn.UNLEARN_SCHEMA": ["unlearners", "auditors", "stages/unlearn.py"],
    "stages.attack.ATTACK_SCHEMA": [
        *("attacks", "shadows", "stages/attack.py", "stages/thresholds.py"),
        *("evaluation/metrics.py", "evaluation/operating.py"),
    ],
    "stages.report.PICTURES_SCHEMA": ["report/run/pictures.py"],
    "stages.weights.WEIGHTS_SCHEMA": ["stages/weights.py"],
    "stages.selection.SELECTION_SCHEMA": ["stages/selection.py"],
    "stages.relearning.RELEARNING_SCHEMA": ["stages/relearning.py"],
    "stages.retained.RETAINED_SCHEMA": ["stages/retained.py"],
    "stages.swap.SWAP_SCHEMA": ["stages/swap.py"],
    "stages.canaries.CANARIES_SCHEMA": ["stages/canaries.py", "data/forget/canaries.py"],
    "stages.neighbours.NEIGHBOURS_SCHEMA": ["stages/neighbours.py", "evaluation/neighbours.py"],
    "stages.distributions.DISTRIBUTIONS_SCHEMA": ["stages/distributions.py", "evaluation/distributions.py"],
}
WORDS = ["dataset.train_size=40", "attack=[ulira,threshold]", "attack.originals=4", "optimizer.epochs=1", "device=cpu"]
WORDS += ["audits.relearning=1", "forget=canaries"]


def number(name: str) -> int:
    module, _, attribute = name.rpartition(".")
    return int(getattr(importlib.import_module(f"advunlearn.{module}"), attribute))


def state(name: str) -> dict[str, Any]:
    """Return a number and the checksum of the code that it guards, without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for guarded in GUARDED[name]:
        path = SOURCE / guarded
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(SOURCE)} {code(file)}".encode())
    return {"number": number(name), "checksum": digest.hexdigest()}


def code(file: Path) -> str:
    """Return the lines of a file that compute something, the same in every version of Python."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    names = {name.rpartition(".")[2] for name in GUARDED}
    for node in ast.walk(ast.parse(text)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        imported = isinstance(node, ast.Import | ast.ImportFrom)  # which a move changes, and no result
        is_number = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in names
        if docstring or imported or is_number:
            for row in range(node.lineno - 1, node.end_lineno or 0):
                lines[row] = ""
    return "\n".join(line.strip() for line in lines if line.strip())


@pytest.mark.parametrize("name", GUARDED)
def test_guarded_code_changes_with_its_number(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    recorded, found = json.loads(RECORD.read_text())[name], state(name)
    assert found == recorded, (
        f"raise {attribute} in src/advunlearn/{module.replace('.', '/')}.py if the results of "
        f"{', '.join(GUARDED[name])} have changed; then run: python tests/test_schemas.py"
    )


@pytest.fixture
def keys(workplace: Path) -> Callable[[], dict[str, Any]]:
    """Give a function that returns the keys of a run's artefacts."""
    experiment = experiment_from(WORDS)
    with Manifest(workplace / "run") as manifest:
        experiment, trainer, splits = prepare(experiment, manifest)
    artefacts = dict.fromkeys(("original", "retrained", "unlearned"), Artefact({}, {}, {}, digest="0", content="0"))

    def made() -> dict[str, Any]:
        originals = original_set(experiment, trainer, splits)
        return {
            "model": trainer.key(splits.train, "original"),
            "original": originals.key(0),
            "unlearner": unlearner_identity(experiment, splits, None),
            "attack": attack_key(experiment, splits, artefacts, originals),
            "run": run_key(experiment, trainer, splits),
        }

    return made


@pytest.mark.parametrize(
    ("name", "guarded"),
    [
        ("training.setup.SCHEMA", {"model", "original", "run"}),
        ("training.stack.SCHEMA", {"original", "attack", "run"}),
        ("shadows.originals.SCHEMA", {"original", "attack", "run"}),
        ("stages.unlearn.UNLEARN_SCHEMA", {"original", "unlearner", "attack", "run"}),
        ("stages.attack.ATTACK_SCHEMA", {"attack", "run"}),
        ("stages.report.PICTURES_SCHEMA", {"run"}),
        ("stages.weights.WEIGHTS_SCHEMA", {"run"}),
        ("stages.distributions.DISTRIBUTIONS_SCHEMA", {"run"}),
        ("stages.selection.SELECTION_SCHEMA", {"run"}),
        ("stages.relearning.RELEARNING_SCHEMA", {"run"}),
        ("stages.retained.RETAINED_SCHEMA", {"run"}),
        ("stages.swap.SWAP_SCHEMA", {"run"}),
        ("stages.canaries.CANARIES_SCHEMA", {"run"}),
    ],
)
def test_a_raised_number_changes_the_keys_of_what_it_guards(
    keys: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, name: str, guarded: set[str]
) -> None:
    before = keys()
    monkeypatch.setattr(f"advunlearn.{name}", number(name) + 1)
    if name != "training.setup.SCHEMA":  # a name that was imported is a name of its own
        monkeypatch.setattr(f"advunlearn.train.{name.rpartition('.')[2]}", number(name), raising=False)
    after = keys()
    assert {key for key in before if before[key] != after[key]} == guarded


if __name__ == "__main__":
    RECORD.write_text(json.dumps({name: state(name) for name in GUARDED}, indent=1) + "\n")
