"""A run without an experiment gets the recipe that suits its dataset; every part of it is overridden by one word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from advunlearn.cli import main
from advunlearn.config import recipes
from advunlearn.config.compose import experiment_from, jobs_from, jobs_to_check
from advunlearn.models.cnn import CNN
from advunlearn.models.mlp import MLP
from advunlearn.models.resnet18 import ResNet18
from advunlearn.optimizers.adamw import AdamW
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import ConfigError
from advunlearn.storage.paths import config_folder
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.retrain import Retrain
from advunlearn.unlearners.sg import SG
from tests.conftest import Command

RECIPES = sorted(path.stem for path in (config_folder() / "recipe").glob("*.yaml"))
UNLEARNERS = sorted((config_folder() / "recipe").glob("*/unlearner/*.yaml"))


def written(folder: Path, count: int, side: int) -> str:
    """Write an npz of so many images and return the override that names it."""
    path = folder / f"{count}_{side}.npz"
    np.savez_compressed(path, images=np.zeros((count, side, side), np.uint8), labels=np.arange(count) % 10)
    return f"dataset.path={path}"


def chosen(*overrides: str) -> recipes.Recipe:
    (job,) = jobs_to_check(overrides, multirun=False)
    assert job.recipe is not None
    return job.recipe


def test_cifar10_brings_resnet18_and_an_unlearner_that_passes_over_less_than_retraining() -> None:
    experiment = experiment_from(["dataset=cifar10", "attack=lira"])
    assert isinstance(experiment.model, ResNet18)
    assert isinstance(experiment.optimizer, SGD)
    assert isinstance(experiment.unlearner, SG)
    assert experiment.settings.precision == "auto"
    assert experiment.shadow_options.shadows < 64
    retain = 50_000 * (1 - experiment.config["forget"]["fraction"])
    game = experiment.unlearner
    audits = game.epochs * retain / game.batch_size / game.audit_every
    passed = game.epochs * retain + audits * 2 * game.audit_size
    assert passed < experiment.optimizer.epochs * retain / 2


@pytest.mark.parametrize(
    ("word", "part", "kind"),
    [
        ("model=cnn", "model", CNN),
        ("optimizer=adamw", "optimizer", AdamW),
        ("unlearner=finetune", "unlearner", Finetune),
    ],
)
def test_one_word_overrides_what_a_dataset_brings(word: str, part: str, kind: type) -> None:
    assert type(getattr(experiment_from(["dataset=cifar10", word]), part)) is kind


def test_numbers_made_for_one_choice_do_not_reach_another() -> None:
    assert experiment_from(["dataset=cifar10"]).optimizer != SGD()
    assert experiment_from(["dataset=cifar10", "optimizer=adamw"]).optimizer == AdamW()
    assert experiment_from(["dataset=cifar10", "model=cnn"]).optimizer == SGD()
    assert experiment_from(["dataset=cifar10", "unlearner=finetune"]).config["unlearner"]["batch_size"] == 500
    assert experiment_from(["dataset=cifar10", "forget=class"]).config["forget"]["classes"] == [0]


def test_what_is_typed_wins_over_the_recipe() -> None:
    words = [
        "optimizer.lr=0.123",
        "attack.shadows=4",
        "precision=fp32",
        "unlearner.audit_every=7",
        "forget.fraction=0.3",
    ]
    experiment = experiment_from(["dataset=cifar10", *words])
    assert experiment.optimizer.lr == 0.123
    assert experiment.shadow_options.shadows == 4
    assert experiment.settings.precision == "fp32"
    assert experiment.config["unlearner"]["audit_every"] == 7
    assert experiment.config["forget"]["fraction"] == 0.3
    assert not {word.split("=")[0] for word in words} & {
        word.split("=")[0] for word in chosen("dataset=cifar10", *words).brought
    }


@pytest.mark.parametrize("path", UNLEARNERS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_the_recipe_of_an_unlearner_reaches_it_and_no_other(path: Path) -> None:
    words = [f"recipe={path.parts[-3]}", "dataset=cifar10"]
    options = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert options.items() <= experiment_from([*words, f"unlearner={path.stem}"]).config["unlearner"].items()
    other = "finetune" if path.stem != "finetune" else "retrain"
    own = (path.parent / f"{other}.yaml").is_file()
    assert own or not options.items() <= experiment_from([*words, f"unlearner={other}"]).config["unlearner"].items()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_with_an_unlearner_without_options(recipe: str) -> None:
    assert experiment_from([f"recipe={recipe}", "dataset=cifar10", "unlearner=retrain"]).unlearner == Retrain()


def test_what_a_recipe_brought_typed_by_hand_makes_the_same_experiment() -> None:
    for overrides in (["dataset=cifar10"], ["dataset=cifar10", "unlearner=finetune", "model=mlp"], []):
        brought = chosen(*overrides).brought
        assert experiment_from([*overrides, "recipe=none", *brought]).config == experiment_from(overrides).config


def test_an_experiment_is_whole_and_gets_no_recipe() -> None:
    (job,) = jobs_to_check(["experiment=game_twin"], multirun=False)
    assert job.recipe is None
    assert job.choices["recipe"] == "none"
    assert job.experiment.unlearner == SG(audit_size=job.experiment.config["unlearner"]["audit_size"])


def test_recipe_none_leaves_every_part_its_own_defaults() -> None:
    experiment = experiment_from(["recipe=none", "dataset=cifar10"])
    assert (experiment.model, experiment.optimizer, experiment.unlearner) == (MLP(), AdamW(), SG())


@pytest.mark.parametrize(
    ("count", "side", "name"),
    [(400, 15, "tiny_images"), (400, 16, "few_images"), (9_999, 16, "few_images"), (10_000, 16, "many_images")],
)
def test_own_images_get_a_recipe_by_size_and_number(workplace: Path, count: int, side: int, name: str) -> None:
    word = written(workplace, count, side)
    recipe = chosen("dataset=npz", word)
    assert recipe.name == name
    assert f"{count:,} training images of {side}x{side}" in recipe.reason
    assert chosen("dataset=npz", word, "dataset.train_size=100").name == name  # the whole file counts


def test_a_dataset_that_cannot_be_read_is_reported_once_and_as_such(workplace: Path) -> None:
    with pytest.raises(ConfigError) as error:
        experiment_from(["dataset=npz", "dataset.path=missing.npz"])
    (problem,) = error.value.problems
    assert problem.startswith("dataset.path=missing.npz cannot be read")


def test_the_users_own_recipe_of_a_datasets_name_comes_first(workplace: Path) -> None:
    folder = workplace / "my" / "recipe"
    folder.mkdir(parents=True)
    (folder / "cifar10.yaml").write_text("# @package _global_\ndefaults:\n  - override /model: cnn\n")
    (folder / "cifar10" / "unlearner").mkdir(parents=True)
    (folder / "cifar10" / "unlearner" / "sg.yaml").write_text("lr: 0.077\n")
    (job,) = jobs_to_check(["dataset=cifar10"], "my", multirun=False)
    assert job.recipe is not None
    assert (job.recipe.name, job.recipe.reason) == ("cifar10", "dataset=cifar10")
    assert isinstance(job.experiment.model, CNN)
    assert job.experiment.config["unlearner"]["lr"] == 0.077


def test_each_run_of_a_sweep_gets_the_recipe_of_its_dataset() -> None:
    jobs = jobs_from(["dataset=digits,cifar10", "seed=1,2"])
    assert [type(job.experiment.model) for job in jobs] == [MLP, MLP, ResNet18, ResNet18]
    assert [job.overrides[0] for job in jobs] == ["dataset=digits"] * 2 + ["dataset=cifar10"] * 2  # as typed


def test_hydras_own_sweep_over_datasets_of_several_recipes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "hydra/launcher=basic", "dataset=digits,cifar10"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: recipe: these datasets need several (digits, many_images)")


def test_the_config_is_printed_without_the_recipes_line(command: Command) -> None:
    done = command("run", "--cfg", "job", "dataset=cifar10", "model=cnn")
    assert yaml.safe_load(done.stdout) == experiment_from(["dataset=cifar10", "model=cnn"]).config
    (line,) = done.stderr.splitlines()
    assert line.startswith("recipe=many_images for 50,000 training images of 32x32 pixels: optimizer=sgd")


def test_an_option_cannot_be_null_and_the_recipe_cannot_be_deleted() -> None:
    for word, start in (("recipe=null", "recipe=null: choose one of"), ("~recipe", "~recipe: use recipe=none")):
        with pytest.raises(ConfigError) as error:
            experiment_from([word])
        (problem,) = error.value.problems
        assert problem.startswith(start)


def test_the_users_values_of_a_recipe_replace_the_shipped_ones(tmp_path: Path) -> None:
    own = tmp_path / "recipe" / "digits" / "unlearner" / "sg.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("alpha: 7\n")
    shipped, changed = experiment_from(["unlearner=sg"]), experiment_from(["unlearner=sg"], tmp_path)
    assert getattr(shipped.unlearner, "alpha", None) == 3.0
    assert getattr(changed.unlearner, "alpha", None) == 7.0
    assert getattr(changed.unlearner, "audit_every", None) == 1  # the whole file counts
    other = ["unlearner=finetune"]
    assert experiment_from(other, tmp_path).unlearner == experiment_from(other).unlearner
