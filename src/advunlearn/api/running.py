"""A whole run from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from advunlearn.api.arguments import ConfigDir, check_config_dir, check_path, kind_of
from advunlearn.config.compose import experiment_from, hydra_words
from advunlearn.options import UserError
from advunlearn.report.run.result import Result
from advunlearn.runs.manifest import Manifest
from advunlearn.storage.paths import new_output_folder
from advunlearn.train import run_experiment


def run(overrides: Sequence[str] = (), folder: str | Path | None = None, *, config_dir: ConfigDir = None) -> Result:
    """Run one experiment, as `advunlearn run` does with the same overrides, and return its result.

    Args:
        overrides: the arguments you would pass to `advunlearn run`.
        folder: where to write; None makes a new one under `outputs/`.
        config_dir: a folder with the YAML files of your own parts, as `--config-dir`.

    Raises:
        ConfigError: with every mistake in the overrides, one line each.
        UserError: if a stage cannot work with these options.

    Examples:
        >>> import advunlearn
        >>> result = advunlearn.run(["attack=threshold", "optimizer.epochs=20", "unlearner.epochs=5"])
        >>> sorted(result.metrics["models"])
        ['original', 'retrained', 'unlearned']
    """
    check_path(folder, "folder")
    check_config_dir(config_dir)
    _check_words(overrides)
    if folder is not None and any(each.is_file() for each in (Path(folder), *Path(folder).parents)):
        raise UserError(f"folder={folder}: it, or a folder above it, is a file")
    experiment = experiment_from(overrides, config_dir)
    config = OmegaConf.create(experiment.config)
    with Manifest(
        Path(folder or new_output_folder("api")), {"overrides": hydra_words(overrides)}, config=config
    ) as manifest:
        return run_experiment(experiment, manifest)


def _check_words(overrides: Sequence[str]) -> None:
    """Raise a UserError, in one line, unless the overrides are a list of texts without flags."""
    if isinstance(overrides, (str, Mapping)) or not isinstance(overrides, Sequence):
        raise UserError(f'overrides must be a list of texts, such as ["seed=1"], got {kind_of(overrides)}')
    for word in overrides:
        if not isinstance(word, str):
            raise UserError(f'overrides must be texts, such as "seed=1", got {kind_of(word)}')
        if word.startswith("-"):
            raise UserError(f"{word}: flags belong to the command line; advunlearn.run takes only overrides")
