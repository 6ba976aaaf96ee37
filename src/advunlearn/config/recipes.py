"""Recipes: what suits a dataset, chosen by the size of its images and by their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advunlearn.config.composer import RECIPE, Composer, single
from advunlearn.config.experiment import GROUPS, build_dataset
from advunlearn.data.dataset import DatasetInfo

SIDE = 16  # pixels: on smaller images convolutions have next to nothing to share
MANY = 10_000  # training images: with fewer, ResNet-18 is more network than there is data


@dataclass(frozen=True)
class Recipe:
    """The recipe of one run.

    Attributes:
        name: an option of the group `recipe`.
        reason: why it was chosen, in words.
        brought: the overrides that would have the same effect, without what the user typed or what is the default.
    """

    name: str
    reason: str
    brought: list[str]

    def __str__(self) -> str:
        """Return the choice and its reason in one line."""
        return f"recipe={self.name} for {self.reason}: {' '.join(self.brought) or 'the defaults'}"


def is_chosen(overrides: Sequence[Override]) -> bool:
    """Return whether the user chose a recipe, or an experiment, which is a whole setting."""
    return bool({RECIPE, "experiment"} & {override.key_or_group for override in overrides})


def choose(composer: Composer, typed: Sequence[Override]) -> tuple[str, str] | None:
    """Return the recipe of the run's dataset and the reason for it, unless the user chose a setting.

    A file of the dataset's name, among the user's own options for example, comes before the choice by size.
    """
    if is_chosen(typed):
        return None
    of_dataset = [each for each in typed if each.key_or_group.split(".")[0] == "dataset"]
    config = composer.compose(of_dataset, [])
    if config is None:
        return None
    name = config.hydra.runtime.choices.dataset
    if name in composer.options(RECIPE):
        return name, f"dataset={name}"
    try:
        dataset = build_dataset(OmegaConf.to_container(config.dataset, resolve=True))
        return None if dataset is None else by_size(dataset.info())
    except (ValueError, OmegaConfBaseException):  # a mistake, which is found with all others
        return None


def by_size(info: DatasetInfo) -> tuple[str, str]:
    """Return the name of the recipe for such a dataset and the reason.

    All training images count, however many of them `dataset.train_size` takes: a sweep over it compares like with like.
    """
    side = min(info.shape[1:])
    reason = f"{info.train:,} training images of {info.shape[1]}x{info.shape[2]} pixels"
    if side < SIDE:
        return "tiny_images", reason
    return "few_images" if info.train < MANY else "many_images", reason


def describe(
    composer: Composer,
    chosen: tuple[str, str],
    typed: Sequence[Override],
    choices: Mapping[str, Any],
    config: DictConfig,
) -> Recipe:
    """Return the recipe with what it brought: what differs from the same options without it."""
    plain = composer.compose(typed, [])
    same = [single(f"{group}={choices[group]}") for group in GROUPS if choices[group]]
    parts = composer.compose([*same, *typed], [])
    if plain is None or parts is None:
        return Recipe(*chosen, [])
    before = plain.hydra.runtime.choices
    groups = [f"{group}={choices[group]}" for group in GROUPS if choices[group] != before[group]]
    del parts["hydra"]
    raw, other = (OmegaConf.to_container(each, throw_on_missing=False) for each in (config, parts))
    return Recipe(*chosen, groups + differences(raw, other))  # type: ignore[arg-type]


def differences(config: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the overrides that turn the other config into this one, of the same parts."""
    found = []
    for name, value in config.items():
        if isinstance(value, dict):
            found += differences(value, other.get(name, {}), f"{prefix}{name}.")
        elif value != other.get(name):
            found.append(f"{prefix}{name}={'null' if value is None else value}")
    return found
