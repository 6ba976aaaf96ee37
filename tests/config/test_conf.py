"""One method is one file, one class and one YAML of the same name, and every one of them can be composed."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_class
from omegaconf import OmegaConf

from advunlearn.attacks.attack import Attack
from advunlearn.auditors.auditor import Auditor
from advunlearn.config.compose import experiment_from, hydra_words
from advunlearn.config.experiment import BASES
from advunlearn.config.part_files import ATTACK
from advunlearn.loggers.logger import Logger
from advunlearn.options import Component
from advunlearn.storage.paths import config_folder

CONF = config_folder()
FOLDERS = {
    "dataset": "data",
    "forget": "data/forget",
    "model": "models",
    "optimizer": "optimizers",
    "unlearner": "unlearners",
    "auditor": "auditors",
    "attack": "attacks",
    "logger": "loggers",
}
OPTIONS = sorted(path for group in FOLDERS for path in (CONF / group).glob("*.yaml"))
KEYWORDS = {"class": "class_"}
OWN_DATA = ("npz", "folder", "table", "python", "torchvision", "huggingface")
NEED_SOMETHING = {  # of the person's own, or another attack
    *(("dataset", name) for name in OWN_DATA),
    ("forget", "indices"),
    ("forget", "subclass"),
    ("model", "module"),
    ("model", "huggingface"),
    ("attack", "weight_change"),
}
BIBLIOGRAPHY = {
    key: entry
    for entry in (Path(__file__).parents[2] / "docs" / "references.bib").read_text().split("\n@")
    for key in re.findall(r"^\w+\{(\w+),", entry)
}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_an_option_is_one_class_in_a_file_of_its_name(path: Path) -> None:
    target = yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"]
    module, _, name = target.rpartition(".")
    stem = KEYWORDS.get(path.stem, path.stem)
    assert module == f"advunlearn.{FOLDERS[path.parent.name].replace('/', '.')}.{stem}"
    assert name.lower().rstrip("_") == path.stem.replace("_", "")
    classes = [
        each
        for _, each in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if each.__module__ == module and issubclass(each, Component)
    ]
    assert classes == [get_class(target)]


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_file_lists_every_option_with_its_default(path: Path) -> None:
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    cls = get_class(node.pop("_target_"))
    nested = {key.split("@")[1] for each in node.pop("defaults", []) if isinstance(each, dict) for key in each}
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    assert set(node) | nested == set(fields)
    built = cls(**node)  # so that every shipped value is within its limits
    shipped_differently = {("digits", "train_size"), ("cifar10", "augment")}
    for name, value in node.items():
        default = fields[name].default
        default = fields[name].default_factory() if default is dataclasses.MISSING else default  # type: ignore[misc]
        if (path.stem, name) in shipped_differently:
            continue
        same = math.isclose(value, default) if isinstance(default, float) else value == default
        assert same, f"{name}: {value} in the file, {default} in the class"
    assert isinstance(built, Component)


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_option_is_explained_where_a_person_reads_it(path: Path) -> None:
    comments = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#") and "@package" not in line
    ]
    assert comments
    assert get_class(yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"]).__doc__


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_part_names_its_publication_or_says_that_there_is_none(path: Path) -> None:
    described = inspect.getdoc(get_class(yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"])) or ""
    _, _, references = described.partition("\nReferences:\n")
    entries = re.findall(r"^ {4}\[(\w+)\] ([^\[]+)", references, re.MULTILINE)
    assert entries or references.strip().startswith("No publication.")
    for key, text in entries:
        assert key in BIBLIOGRAPHY
        (link,) = re.findall(r"https://\S+", text)
        assert f"url = {{{link}}}" in re.sub(r" +", " ", BIBLIOGRAPHY[key])
    assert set(re.findall(r"\[(\w+\d{4})\]", described)) <= BIBLIOGRAPHY.keys()


def test_every_publication_is_cited() -> None:
    sources = "".join(path.read_text() for path in (Path(__file__).parents[2] / "src").rglob("*.py"))
    assert {key for key in BIBLIOGRAPHY if f"[{key}]" not in sources} == set()


def test_every_class_in_the_rooms_has_its_file() -> None:
    bases = (*BASES.values(), Attack, Auditor, Logger)
    listed = {yaml.safe_load(path.read_text())["_target_"] for path in OPTIONS}
    for room in set(FOLDERS.values()):
        package = Path(inspect.getfile(Component)).parent / room
        for file in package.glob("*.py"):
            module = importlib.import_module(f"advunlearn.{room.replace('/', '.')}.{file.stem}")
            for _, cls in inspect.getmembers(module, inspect.isclass):
                concrete = issubclass(cls, bases) and "Base class of" not in (cls.__doc__ or "")
                if cls.__module__ == module.__name__ and concrete:
                    assert f"{cls.__module__}.{cls.__qualname__}" in listed


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_composes_to_what_its_file_sets(path: Path) -> None:
    experiment = experiment_from([f"experiment={path.stem}"])
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    chosen = {key: value for each in node.pop("defaults") if isinstance(each, dict) for key, value in each.items()}
    attacks = chosen.pop("override /attack", ["threshold", "classifier", "lira"])
    if (recipe := chosen.pop("override /recipe", None)) is not None:
        of_recipe = yaml.safe_load((CONF / "recipe" / f"{recipe}.yaml").read_text())["defaults"]
        chosen |= {key: value for each in of_recipe for key, value in each.items()}
    assert set(experiment.attacks) == set(attacks)
    for key, value in chosen.items():
        group, _, place = key.removeprefix("override /").partition("@")
        assert (
            OmegaConf.select(OmegaConf.create(experiment.config), place or group)["_target_"]
            == yaml.safe_load((CONF / group / f"{value}.yaml").read_text())["_target_"]
        )
    node.pop("hydra", None)
    for group, options in node.items():
        assert holds(experiment.config[group], options)


def holds(config: Any, options: Any) -> bool:
    """Return whether a config has all of these options, with the same values."""
    if not isinstance(options, dict):
        return bool(config == options)
    return all(holds(config[name], value) for name, value in options.items())


@pytest.mark.parametrize("unlearner", [path.stem for path in OPTIONS if path.parent.name == "unlearner"])
def test_an_experiment_takes_every_unlearner(unlearner: str) -> None:
    assert experiment_from(["experiment=cifar10_cpu", f"unlearner={unlearner}"]).dataset.train_size == 5000


@pytest.mark.parametrize(
    "override",
    [f"{path.parent.name}={path.stem}" for path in OPTIONS if (path.parent.name, path.stem) not in NEED_SOMETHING],
)
def test_every_option_composes(override: str) -> None:
    larger = [f"model={name}" for name in ("torchvision", "vgg16_bn", "airbench")]  # than digits
    colors = ["dataset=cifar10"] if override in larger else []
    group, name = override.split("=")
    # A dataset brings a recipe, which sets options of the groups in its folder: no others are composed with one here.
    recipe = [] if group in ("dataset", "forget", "optimizer", "unlearner") else ["recipe=none"]
    experiment = experiment_from(["model=mlp", *recipe, *colors, override])
    node = experiment.config["unlearner"] if group == "auditor" else experiment.config
    assert name.replace("_", "") in str(node["auditor" if group == "auditor" else group]).lower().replace("_", "")


def test_names_that_do_not_change() -> None:
    experiment = experiment_from(
        [
            "dataset.train_size=300",
            "forget.fraction=0.1",
            "model.hidden=32",
            "optimizer.lr=0.01",
            "unlearner.alpha=2",
            "attack.shadows=4",
            "seed=3",
            "device=cpu",
            "precision=bf16",
        ]
    )
    assert experiment.dataset.train_size == 300
    assert experiment.shadow_options.shadows == 4
    assert experiment.settings.seed == 3
    assert experiment.config[ATTACK]["shadows"] == 4
    assert experiment.settings.precision == "bf16"


def test_what_is_typed_wins_over_an_experiment() -> None:
    assert experiment_from(["experiment=cifar10_cpu", "attack.shadows=2"]).shadow_options.shadows == 2
    assert experiment_from(["attack.shadows=2", "experiment=cifar10_cpu"]).shadow_options.shadows == 2


def test_the_auditor_has_a_short_name() -> None:
    assert hydra_words(["auditor=svm", "auditor.folds=5"]) == [
        "auditor@unlearner.auditor=svm",
        "unlearner.auditor.folds=5",
    ]
    assert experiment_from(["auditor.folds=5"]).unlearner.auditor.folds == 5  # type: ignore[attr-defined]
