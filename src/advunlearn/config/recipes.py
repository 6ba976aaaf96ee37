"""Recipes: what suits a dataset, chosen by the size of its images and by their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from advunlearn.config.composer import RECIPE, Composed, Composer, single
from advunlearn.config.part_files import GROUPS
from advunlearn.config.yaml_files import read_yaml
from advunlearn.storage.paths import config_folder

if TYPE_CHECKING:
    from advunlearn.data.dataset import DatasetInfo

SIDE = 16  # pixels: on smaller images convolutions have next to nothing to share
MANY = 10_000  # training images: with fewer, ResNet-18 is more network than there is data


@dataclass(frozen=True)
class Recipe:
    """The recipe of one run.

    Attributes:
        name: an option of the group `recipe`.
        reason: why it was chosen, in words.
        brought: the overrides with the same effect, without those that the user typed.
    """

    name: str
    reason: str
    brought: list[str]

    def __str__(self) -> str:
        """Return the choice and its reason in one line."""
        return f"recipe={self.name} for {self.reason}: {' '.join(self.brought) or 'the defaults'}"


@dataclass
class Recipes:
    """Choose the recipes of runs.

    Attributes:
        composer: that composes the runs.
        known: what was chosen before, by the words that matter: the runs of a sweep over seeds share one recipe.
    """

    composer: Composer
    known: dict[tuple[str, ...], Recipe | None] = field(default_factory=dict)

    def recipe_for(self, typed: Sequence[Override]) -> Recipe | None:
        """Return the recipe for a run's dataset; None if the user chose a recipe, or an experiment, a whole setting."""
        if {RECIPE, "experiment"} & {override.key_or_group for override in typed}:
            return None
        words = tuple(map(self._word, typed))
        if words not in self.known:
            plain = self.composer.compose(typed, [])  # None for a mistake, which is reported later
            self.known[words] = self._recipe(typed, plain) if plain else None
        return self.known[words]

    def _word(self, override: Override) -> str:
        """Return what a recipe can depend on: the key, and for the dataset and for groups the value as well."""
        key = override.key_or_group
        whole = override.is_delete() or key.startswith("dataset.") or self.composer.options(key)
        return str(override.input_line) if whole else key

    def _recipe(self, typed: Sequence[Override], plain: Composed) -> Recipe | None:
        """Return the recipe for a run that without one is `plain`; None if its dataset cannot be read."""
        found = self._name(plain)
        return Recipe(*found, self._brought(found[0], typed, plain)) if found else None

    def _name(self, plain: Composed) -> tuple[str, str] | None:
        """Return the name of the recipe and the reason; None if the dataset cannot be read, a mistake reported later.

        A recipe with the dataset's name, for example one of the user's own, takes precedence over the choice by size.
        """
        name = plain.choices["dataset"]
        if name in self.composer.options(RECIPE):
            return name, f"dataset={name}"
        from advunlearn.config.experiment import build_dataset

        try:
            dataset = build_dataset(OmegaConf.to_container(plain.config.dataset, resolve=True))
            return None if dataset is None else by_size(dataset.info())
        except Exception:  # a user's dataset may raise any; the error is reported when the run is read
            return None

    def _brought(self, name: str, typed: Sequence[Override], plain: Composed) -> list[str]:
        """Return what the recipe changes, as overrides: first the choices of groups, then the options."""
        whole = self.composer.compose([single(f"{RECIPE}={name}"), *typed], [])
        if whole is None:
            return []
        chosen, before = whole.choices, plain.choices
        groups = [f"{group}={chosen[group]}" for group in GROUPS if chosen[group] != before[group]]
        parts = self.composer.compose([*map(single, groups), *typed], []) if groups else plain
        return groups + differences(_plain(whole.config), _plain(parts.config)) if parts else []


def recipe_values(recipe: str, method: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Return what a recipe sets of an unlearner's options; `folders` are those of the user and of packages."""
    for folder in [*folders, config_folder()]:
        path = folder / RECIPE / recipe / "unlearner" / f"{method}.yaml"
        if path.is_file():
            return {str(name): value for name, value in read_yaml(path).items()}
    return {}


def by_size(info: DatasetInfo) -> tuple[str, str]:
    """Return the name of the recipe for such a dataset and the reason.

    All training images count, however many of them `dataset.train_size` takes: a sweep over it compares like with like.
    """
    if not info.images:
        return "features", f"{info.train:,} training {info.examples_in_words}"
    _, height, width = info.image
    reason = f"{info.train:,} training images of {height}x{width} pixels"
    if min(height, width) < SIDE:
        return "tiny_images", reason
    return "few_images" if info.train < MANY else "many_images", reason


def _plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, throw_on_missing=False)


def differences(config: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the overrides that turn the other config into this one, of the same parts."""
    found = []
    for name, value in config.items():
        if isinstance(value, dict):
            found += differences(value, other.get(name, {}), f"{prefix}{name}.")
        elif value != other.get(name):
            found.append(f"{prefix}{name}={'null' if value is None else value}")
    return found
