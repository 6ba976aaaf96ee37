"""`advunlearn audit`."""

from __future__ import annotations

from pathlib import Path

from advunlearn.cli.one_run import audit_in
from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import RunFailed, fail, refuse

RUN_DIR = "hydra.run.dir="
DEFAULT = "[threshold,classifier]"  # attacks that train no other model


def main(arguments: list[str]) -> int:
    """`advunlearn audit`: attack a trained model, without unlearning and without a retrained model.

    The attacks try to tell the forget set, which the forget options choose, from test examples. By default they are
    attacks that train no other model. Options of the unlearner are ignored.
    """
    parser = parser_of("audit", main.__doc__)
    parser.add_argument("--config-dir", help="a folder with your own parts")
    parser.add_argument(
        "--folder", type=Path, help="where to write, as hydra.run.dir=...; by default a new one under outputs/audit"
    )
    parser.add_argument("overrides", nargs="*", help="overrides, as for `advunlearn run`: original.path=model.pt ...")
    options = parser.parse_intermixed_args(arguments)
    from omegaconf import OmegaConf

    from advunlearn.config.compose import hydra_words, jobs_to_check
    from advunlearn.options import ConfigError, UserError
    from advunlearn.runtime.logs import log_to_terminal
    from advunlearn.runtime.signals import heed_signals

    try:
        experiment = jobs_to_check(_words(options.overrides), options.config_dir, multirun=False)[0].experiment
        folder = options.folder or _folder(hydra_words(options.overrides), options.config_dir)
    except ConfigError as error:
        return refuse(error.problems)
    if experiment.weights_file is None:
        return refuse(["audit needs a trained model: original.path=model.pt, or original.run=RUN"])
    log_to_terminal()
    try:
        with heed_signals():
            about = {"overrides": hydra_words(options.overrides), "verb": "audit"}
            audit_in(folder, OmegaConf.create(experiment.config), about)
    except ConfigError as error:
        return refuse(error.problems)
    except (RunFailed, UserError, OSError) as error:
        return fail(error, getattr(error, "status", 1))
    return 0


def _words(overrides: list[str]) -> list[str]:
    """Return the overrides without those of the unlearner, and with the default attacks if none is chosen."""
    words = [word for word in overrides if not word.startswith(("unlearner", "auditor", RUN_DIR))]
    attacks = [] if any(word.startswith("attack=") for word in words) else [f"attack={DEFAULT}"]
    return [*words, *attacks, "unlearner=none"]


def _folder(words: list[str], config_dir: str | None) -> Path:
    """Return the folder that the last `hydra.run.dir=...` names, or a new one."""
    from advunlearn.config.compose import named_folder
    from advunlearn.storage.paths import new_output_folder

    named = [word for word in words if word.startswith(RUN_DIR)]
    if not named:
        return new_output_folder("audit")
    return named_folder(named[-1], [word for word in words if word not in named], config_dir)
