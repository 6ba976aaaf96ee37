"""SECURITY.md: what runs as you, and what is only read. Each statement in both directions where that is possible."""

from __future__ import annotations

import ast
import contextlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

import advunlearn
from advunlearn.cli import main
from advunlearn.data.cifar10 import from_torchvision
from advunlearn.data.fetch import Unavailable
from advunlearn.storage.artefacts import MARKER, Artefact, Damaged
from advunlearn.storage.store import Store
from tests.storage.test_damage import Trap
from tests.storage.test_store import KEY, refuse
from tests.test_imports import SOURCE, modules

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold"]


@pytest.fixture
def trap(workplace: Path) -> Callable[[], bool]:
    """Give a function that returns whether a `Trap` was unpickled, or a planted class called."""
    return Path("unpickled").exists


def test_the_trap_works(trap: Callable[[], bool]) -> None:
    pickle.loads(pickle.dumps(Trap()))
    assert trap()


@pytest.mark.parametrize(
    "words",
    [
        ["--experimental-rerun", "config.pickle"],
        ["--experimental-rerun=config.pickle", "seed=1"],
        ["--experimental-r", "config.pickle"],  # argparse takes any beginning of a flag
        ["-m", "--experimental-rerun", "config.pickle", "seed=1,2"],
        ["--help", "--experimental-rerun", "config.pickle"],
        ["--cfg", "job", "--experimental-rerun", "config.pickle"],
    ],
)
def test_a_rerun_from_a_pickle_is_refused(
    words: list[str], trap: Callable[[], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.pickle").write_bytes(pickle.dumps(Trap()))
    assert main(["run", *words]) == 2
    line = "error: --experimental-rerun unpickles a file, which can run any code (try advunlearn resume RUN)\n"
    assert capsys.readouterr().err == line
    assert not trap()


def plant_class(workplace: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the config of a run name a class that leaves a trace where it is imported."""
    (workplace / "planted.py").write_text(
        "import os\nfrom dataclasses import dataclass\nfrom advunlearn.unlearners.none import None_\n"
        "os.makedirs('unpickled', exist_ok=True)\n@dataclass\nclass Planted(None_):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(workplace))
    config = OmegaConf.load(folder / "config.yaml")
    config.unlearner = {"_target_": "planted.Planted"}
    OmegaConf.save(config, folder / "config.yaml")


def test_what_a_runs_config_names_is_run_by_resume_and_by_nothing_else(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, trap: Callable[[], bool]
) -> None:
    done, theirs = advunlearn.run(QUICK, workplace / "sweep" / "0").folder, workplace / "sweep" / "1"
    plant_class(workplace, monkeypatch, done)
    theirs.mkdir()
    shutil.copy(done / "config.yaml", theirs)
    for words in (
        ["report", str(done)],
        ["report", "sweep"],
        ["status", "sweep"],
        ["store", "verify"],
        ["resume", str(done)],
    ):
        assert main(words) in (0, 1)
        assert not trap(), words
    main(["resume", str(theirs)])
    assert trap()


def test_arrays_of_objects_are_refused_and_others_read(
    trap: Callable[[], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8)
    labels = np.arange(60) % 3
    np.savez("good.npz", images=images, labels=labels)
    np.savez("bad.npz", images=images, labels=np.array([Trap()] * 60, dtype=object))
    words = ["check", "dataset=npz", "forget.fraction=0.2", "attack=threshold"]
    assert main([*words, "dataset.path=good.npz"]) == 0
    capsys.readouterr()
    assert main([*words, "dataset.path=bad.npz"]) != 0
    assert "bad.npz" in capsys.readouterr().err
    assert not trap()


@pytest.mark.parametrize("name", ["scores.npz", "splits.npz"])
def test_a_report_of_results_with_pickles_runs_none(
    workplace: Path, name: str, trap: Callable[[], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = advunlearn.run(QUICK, workplace / "run").folder
    with np.load(folder / name) as stored:
        arrays = {key: np.array([Trap()] * len(stored[key]), dtype=object) for key in stored.files}
    np.savez(folder / name, **arrays)
    with contextlib.suppress(ValueError):
        main(["report", "run"])
    assert not trap()


def test_the_pickles_of_torchvision_are_opened_only_with_the_known_checksums(
    workplace: Path, trap: Callable[[], bool]
) -> None:
    folder = workplace / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(Unavailable, match="not found or corrupted"):
        from_torchvision(str(workplace), download=False)
    assert not trap()


def test_a_writer_of_the_store_can_forge_an_artefact_and_damage_is_found(tmp_path: Path) -> None:
    mine, forged = Store(tmp_path / "mine"), Store(tmp_path / "forged")
    digest = mine.get_or_make("model", KEY, lambda: Artefact({"auc": 0.5}, {}, {})).digest
    forged.get_or_make("model", KEY, lambda: Artefact({"auc": 0.9}, {}, {}))
    shutil.copy(forged.folder(digest) / "record.json", mine.folder(digest))
    with pytest.raises(Damaged):
        mine.read(digest)
    shutil.copy(forged.folder(digest) / MARKER, mine.folder(digest))
    assert mine.get_or_make("model", KEY, refuse).record == {"auc": 0.9}


def calls(tree: ast.AST) -> list[str]:
    """Return the calls in a module that can run what they read, as source."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            arguments = {each.arg: ast.unparse(each.value) for each in node.keywords}
            unpickles = name.startswith(("pickle.", "joblib.", "dill.", "marshal.", "shelve.")) and "dump" not in name
            if name in ("np.load", "numpy.load"):
                unpickles = arguments.get("allow_pickle") != "False"
            if name == "torch.load":
                unpickles = arguments.get("weights_only") != "True"
            if unpickles or name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"):
                found.append(ast.unparse(node))
    return found


def test_no_module_unpickles_a_file() -> None:
    found = {name: calls(tree) for name, tree in modules(SOURCE).items() if calls(tree)}
    refusal = "pickle.UnpicklingError(f'{module}.{name} is no part of an array')"
    # A worker looks whether its own error survives the way to the parent process. CIFAR-100 is published as pickles,
    # and read by an unpickler that imports the arrays of numpy and nothing else.
    # What a worker for another GPU loads, its parent has written for it, to a file without a name.
    own = {"runtime.workers": ["pickle.loads(pickle.dumps(error))"], "runtime.on_devices": ["pickle.load(file)"]}
    assert found == {**own, "data.cifar100": [refusal]}


@pytest.mark.parametrize(
    "code", ["np.load(path)", "np.load(path, allow_pickle=True)", "torch.load(path)", "pickle.load(file)", "eval(text)"]
)
def test_a_call_that_unpickles_is_found(code: str) -> None:
    assert calls(ast.parse(code)) == [code]
