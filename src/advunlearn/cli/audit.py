"""`advunlearn audit`."""

from __future__ import annotations

import argparse
from pathlib import Path

from advunlearn.cli.one_run import failures_in_words
from advunlearn.cli.problems import RunFailed, fail, print_text, refuse

DEFAULT = "[threshold,classifier]"  # attacks that train no other model


def main(arguments: list[str]) -> int:
    """`advunlearn audit`: attack a trained model, without unlearning and without a retrained model.

    The attacks try to tell the forget set, which the forget options choose, from test examples. By default they are
    attacks that train no other model. Options of the unlearner are ignored.
    """
    parser = argparse.ArgumentParser("advunlearn audit", description=main.__doc__)
    parser.add_argument("--config-dir", help="a folder with your own parts")
    parser.add_argument("--folder", type=Path, help="where to write; by default a new one under outputs/audit")
    parser.add_argument("overrides", nargs="*", help="overrides, as for `advunlearn run`: original.path=model.pt ...")
    options = parser.parse_intermixed_args(arguments)
    from omegaconf import OmegaConf

    from advunlearn.config.compose import hydra_words, jobs_to_check
    from advunlearn.options import ConfigError, UserError
    from advunlearn.report.run.table import model_table
    from advunlearn.runs.manifest import Manifest
    from advunlearn.runtime.logs import log_to_terminal
    from advunlearn.runtime.signals import heed_signals
    from advunlearn.stages.audit import audit_model
    from advunlearn.storage.paths import new_output_folder

    try:
        words = [word for word in options.overrides if not word.startswith(("unlearner", "auditor"))]
        if not any(word.startswith("attack=") for word in words):
            words.append(f"attack={DEFAULT}")
        words.append("unlearner=none")
        experiment = jobs_to_check(words, options.config_dir, multirun=False)[0].experiment
    except ConfigError as error:
        return refuse(error.problems)
    if experiment.weights_file is None:
        return refuse(["audit needs a trained model: original.path=model.pt, or original.run=RUN"])
    folder = options.folder or new_output_folder("audit")
    log_to_terminal()
    about = {"overrides": hydra_words(options.overrides), "verb": "audit"}
    try:
        config = OmegaConf.create(experiment.config)
        with (
            heed_signals(),
            failures_in_words(folder, "repeat the command"),
            Manifest(folder, about, config=config) as manifest,
        ):
            found = audit_model(experiment, manifest)
    except ConfigError as error:
        return refuse(error.problems)
    except (RunFailed, UserError, OSError) as error:
        return fail(error, getattr(error, "status", 1))
    print_text(f"\n{model_table(found)}\n\nwritten: {folder / 'audit.json'}\n")
    return 0
