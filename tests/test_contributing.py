"""Every part that CONTRIBUTING.md shows how to write, written and run as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.runs.manifest import Manifest
from advunlearn.train import Result, run_experiment

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
FILES = re.findall(r"`(my/\w+/\w+\.yaml)`:\n\n```yaml\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("advunlearn")
]
QUICK = ["optimizer.epochs=2", "attack.shadows=4", "threads=1"]


@pytest.fixture
def own_parts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the Python code into one file, and each YAML block to the path in the text above it."""
    Path("myparts.py").write_text(
        "\n\n".join(block for language, block in BLOCKS if language == "python"), encoding="utf-8"
    )
    for name, block in FILES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workplace))
    return workplace


def run(*overrides: str) -> Result:
    with Manifest(Path("run"), {}) as manifest:
        return run_experiment(experiment_from([*QUICK, *overrides], "my"), manifest)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_composes(line: str, own_parts: Path) -> None:
    words = shlex.split(line)
    assert words[:4] == ["advunlearn", "run", "--config-dir", "my"]
    assert experiment_from(words[4:], "my")


def test_every_group_has_an_example_that_is_used() -> None:
    assert len(FILES) == sum(language == "yaml" for language, _ in BLOCKS)
    shown = {tuple(name.removesuffix(".yaml").split("/")[1:]) for name, _ in FILES}
    assert {group for group, _ in shown} == {
        "unlearner",
        "attack",
        "auditor",
        "dataset",
        "forget",
        "model",
        "optimizer",
    }
    for group, name in shown:
        assert any(re.search(rf"{group}=\[?[\w,]*\b{name}\b", line) for line in COMMANDS), name


def test_own_parts_of_every_group_run_together(own_parts: Path) -> None:
    parts = ["dataset=stripes", "forget=first", "model=linear", "optimizer=adagrad", "unlearner=noise"]
    result = run(*parts, "attack=[threshold,gap,calibrated]")
    for model in ("original", "retrained", "unlearned"):
        attacks = result.metrics["models"][model]["attacks"]
        assert all(0 <= attacks[name]["auc"] <= 1 for name in ("gap", "calibrated"))
    with np.load(Path("run") / "splits.npz") as splits:
        assert len(splits["forget"]) == 20
        assert splits["forget"].max() < splits["retain"].min()  # the first ones


def test_an_own_loss_is_descended(own_parts: Path) -> None:
    run("unlearner=uniform", "unlearner.epochs=60", "unlearner.lr=0.05", "attack=threshold", "optimizer.epochs=30")
    with np.load(Path("run") / "scores.npz") as scores:
        before, after = (scores[f"{model}/loss"][scores["member"]] for model in ("original", "unlearned"))
    assert after.mean() > 3 * before.mean()  # log 10 where the distribution is uniform


def test_an_own_auditor_plays_the_game(own_parts: Path) -> None:
    trace = run("auditor=mean_gap", "unlearner.epochs=2", "attack=threshold").metrics["trace"]
    assert trace["uninformed_utility"] == 0
    assert min(trace["utility"]) >= 0
    assert all(gradient > 0 for gradient in trace["game_gradient_norm"])
    assert 0 <= min(trace["auditor_accuracy"]) <= max(trace["auditor_accuracy"]) <= 1


def test_the_changelog_names_the_version_and_its_schema_numbers() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    newest = text[text.index("\n## ") :].split("\n## ")[1]
    assert newest.startswith(f"[{advunlearn.__version__}]")
    listed = dict(re.findall(r"`(\w+/\w+\.py)` (\d+)", newest))
    source = Path(advunlearn.__file__).parent
    numbers = {
        str(path.relative_to(source)): number
        for path in source.rglob("*.py")
        for number in re.findall(r"^\w*SCHEMA = (\d+)", path.read_text(), re.MULTILINE)
    }
    assert listed == numbers
    assert {name for name in re.findall(r"`\w*SCHEMA` in `(.+?)`", TEXT)} == numbers.keys()


def test_the_citation_names_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == advunlearn.__version__
    assert citation["references"][0]["url"] in (ROOT / "docs" / "references.bib").read_text()


def test_ci_covers_every_python_that_the_package_promises() -> None:
    matrix = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]["strategy"][
        "matrix"
    ]
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())


def test_files_that_it_points_to_are_there() -> None:
    for target in re.findall(r"`((?:docs|tests|scripts|conf|src)/[\w./]+)`", TEXT):
        assert "NAME" in target or (ROOT / target).exists(), target
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.+)", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= headings
