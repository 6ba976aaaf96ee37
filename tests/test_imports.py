"""The import graph: nothing imports what is above it, nothing imports in a circle, and kernels import no torch."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import advunlearn

SOURCE = Path(advunlearn.__file__).parent
# A room is a folder or a file of the package's root. Rooms of one floor do not import each other.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["api"],
    ["train", "sweeps"],
    ["stages"],
    ["report"],
    ["config"],
    ["unlearners", "attacks"],
    ["auditors"],
    ["shadows"],
    ["training"],
    ["models"],
    ["data", "optimizers", "runs", "loggers"],
    ["evaluation"],
    ["storage"],
    ["runtime"],
    ["options"],
    ["__init__"],
]
HEIGHT = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Two imports go up: that of the package's own functions, when they are first used, and that of train.py as a script.
UPWARDS = {("__init__", "api"), ("train", "cli")}


@dataclass(frozen=True)
class Import:
    """One import of one of the package's modules by another; names are relative to the package."""

    importer: str
    imported: str
    typing_only: bool

    @property
    def rooms(self) -> tuple[str, str]:
        return self.importer.split(".")[0], self.imported.split(".")[0]


def modules(source: Path) -> dict[str, ast.Module]:
    """Return the syntax trees of a package by the modules' dotted names; a folder's is that of its `__init__`."""
    trees = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        trees[name] = ast.parse(path.read_text())
    return trees


def imports(trees: dict[str, ast.Module]) -> list[Import]:
    """Return every import between these modules, those inside functions and under `if TYPE_CHECKING` included."""
    return [each for name, tree in trees.items() for each in _imports(name, tree, trees, False)]


def _imports(name: str, node: ast.AST, trees: dict[str, ast.Module], typing_only: bool) -> Iterator[Import]:
    for target in _targets(node):
        yield Import(name, _module(target, trees), typing_only)
    for field, value in ast.iter_fields(node):
        guarded = isinstance(node, ast.If) and field == "body" and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _imports(name, child, trees, typing_only or guarded)


def _targets(node: ast.AST) -> list[str]:
    """Return what a statement imports of the package, with the package's name taken off; `` is the package itself."""
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        names = []
    return [name.removeprefix("advunlearn").removeprefix(".") for name in names if name.split(".")[0] == "advunlearn"]


def _module(target: str, trees: dict[str, ast.Module]) -> str:
    """Return the module that holds an imported name, which may be a module itself."""
    while target and target not in trees:
        target = target.rpartition(".")[0]
    return target or "__init__"


def upwards(found: list[Import]) -> list[str]:
    """Return the imports that do not go down, as `importer -> imported`."""
    return [
        f"{each.importer} -> {each.imported}"
        for each in found
        if each.rooms[0] != each.rooms[1]
        and each.rooms not in UPWARDS
        and HEIGHT[each.rooms[0]] <= HEIGHT[each.rooms[1]]
    ]


def circle(found: list[Import]) -> list[str]:
    """Return the modules of a circle, in order, or none. What only a type checker imports closes no circle."""
    graph: dict[str, set[str]] = {}
    for each in found:
        if not each.typing_only and each.rooms not in UPWARDS:
            graph.setdefault(each.importer, set()).add(each.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


TREES = modules(SOURCE)
FOUND = imports(TREES)


def found_with(module: str, code: str) -> list[Import]:
    """Return the package's imports and those of a piece of code in one of its modules."""
    return [*FOUND, *_imports(module, ast.parse(code), TREES, False)]


def test_the_roots_files_are_the_five_and_every_room_has_its_floor() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} == {"__init__", "__main__", "train", "options"}
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms == HEIGHT.keys()


def test_nothing_imports_what_is_above_it() -> None:
    assert len(FOUND) > 300  # the package was found
    assert upwards(FOUND) == []


def test_nothing_imports_in_a_circle() -> None:
    assert circle(FOUND) == []


def test_an_import_upwards_is_for_the_packages_functions_or_for_a_script() -> None:
    """Both are not imported with the module: one is in a function, one under `if __name__ == "__main__"`."""
    for room, above in UPWARDS:
        at_once = [statement for statement in TREES[room].body if not isinstance(statement, ast.FunctionDef | ast.If)]
        for statement in at_once:
            assert not any(target.split(".")[0] == above for target in _targets(statement))


PLANTED = [
    ("attacks.lira", "from advunlearn.unlearners.sg import SG", ["attacks.lira -> unlearners.sg"]),
    ("unlearners.sg", "import advunlearn.attacks.attack", ["unlearners.sg -> attacks.attack"]),
    ("storage.store", "def f():\n    from advunlearn.runs import state", ["storage.store -> runs.state"]),
    (
        "training.fit",
        "if TYPE_CHECKING:\n    from advunlearn.shadows import outputs",
        ["training.fit -> shadows.outputs"],
    ),
    ("stages.data", "from advunlearn.cli import main", ["stages.data -> cli"]),
    ("stages.data", "from advunlearn.storage.store import Store", []),
]


@pytest.mark.parametrize(("module", "code", "expected"), PLANTED)
def test_an_import_that_goes_up_is_found_wherever_it_is(module: str, code: str, expected: list[str]) -> None:
    assert upwards(found_with(module, code)) == expected


def test_a_circle_is_found_unless_only_a_type_checker_sees_it() -> None:
    guarded = "if TYPE_CHECKING:\n    from advunlearn.attacks.lira import LiRA"
    assert circle(found_with("attacks.attack", guarded)) == []
    inside = "def f():\n    from advunlearn.attacks.lira import LiRA"
    assert {"attacks.attack", "attacks.lira"} <= set(circle(found_with("attacks.attack", inside)))


def loaded(code: str, packages: set[str]) -> set[str]:
    """Return which of these packages a fresh process has imported after this code."""
    check = f"{code}\nimport sys\nprint(*({packages} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_attacks_import_no_torch_and_neither_do_metrics_and_the_outputs_of_shadow_models() -> None:
    attacks, metrics = ([n for n in TREES if n.startswith(f"{room}.")] for room in ("attacks", "evaluation"))
    assert "attacks.lira" in attacks
    assert "evaluation.metrics" in metrics
    code = [f"import advunlearn.{name}" for name in [*attacks, "shadows.outputs"]]
    assert loaded("\n".join(code), {"torch", "safetensors", "hydra", "sklearn"}) == set()
    code = [f"import advunlearn.{name}" for name in metrics]
    assert loaded("\n".join(code), {"torch", "safetensors", "hydra", "advunlearn.attacks"}) == set()


def test_a_check_of_the_default_run_imports_no_scikit_learn() -> None:
    check = "from advunlearn.config.compose import experiment_from; experiment_from([])"
    assert loaded(check, {"torch", "sklearn", "matplotlib"}) == {"torch"}
