"""Recipes: what suits a dataset, chosen by the size of its images and by their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override

from advunlearn.data.dataset import DatasetInfo

RECIPE = "recipe"
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


def by_size(info: DatasetInfo) -> tuple[str, str]:
    """Return the name of the recipe for such a dataset and the reason.

    All training images count, however many of them `dataset.train_size` takes: a sweep over it compares like with like.
    """
    side = min(info.shape[1:])
    reason = f"{info.train:,} training images of {info.shape[1]}x{info.shape[2]} pixels"
    if side < SIDE:
        return "tiny_images", reason
    return "few_images" if info.train < MANY else "many_images", reason


def differences(config: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the overrides that turn the other config into this one, of the same parts."""
    found = []
    for name, value in config.items():
        if isinstance(value, dict):
            found += differences(value, other.get(name, {}), f"{prefix}{name}.")
        elif value != other.get(name):
            found.append(f"{prefix}{name}={'null' if value is None else value}")
    return found
