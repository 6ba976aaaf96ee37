"""One run, from the data to the report.

This file is the chain of its stages:

    dataset, split   forget, retain, audit, selection and test set                  stages/data.py
    estimate         what will be trained, and how long it will take                stages/estimate.py
    memorization     the forget set, if models choose it                            stages/memorization.py
    pretrain         the original model, on everything, unless it is given          stages/models.py
    retrain          the retrained model, without the forget set                    stages/models.py
    unlearn          the unlearned model: the game, or a baseline in its place      stages/unlearn.py
                     in one request or several                                      stages/rounds.py
    attack           membership inference on all three                              stages/attack.py
                     with shadow models to compare with                             stages/shadows.py
    weights          how far they lie from each other                               stages/weights.py
    relearning       do they relearn what they forgot, from retain examples         stages/relearning.py
    retained         the attacks on examples that are kept                          stages/retained.py
    canaries         the noise of the forget set, if it was trained with noise      stages/canaries.py
    swap             once more, with forget and test examples swapped              stages/swap.py
    distributions    many unlearned against many retrained models, if there are     stages/distributions.py
    neighbours       which other classes forgotten classes are taken for            stages/neighbours.py
    selection        the models on the selection set, for a search for options      stages/selection.py
    evaluate         the three models compared                                      stages/evaluate.py
    report           metrics, scores, weights, pictures and the page                stages/report.py

Each stage is a function of a part of the config and of the results of earlier stages. Its result is kept in the store,
so that a second run computes only what is new.

As a script (`python -m advunlearn.train`, `torchrun src/advunlearn/train.py`) it is the same as `advunlearn run`.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # first: as a script, the modules of this folder would hide others of the same names
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path = [os.path.dirname(here) if folder == here else folder for folder in sys.path]
    from advunlearn.cli import main

    sys.exit(main(["run", *sys.argv[1:]]))

import logging
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from advunlearn import __version__
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.evaluation.objective import objective_of
from advunlearn.loggers.logger import LoggedRun, tracked
from advunlearn.report.run.page import rewrite
from advunlearn.report.run.result import Result
from advunlearn.report.summary.folders import flat
from advunlearn.runs import reuse
from advunlearn.runs.manifest import Manifest
from advunlearn.runs.profile import profiled
from advunlearn.runtime.seeding import clean_state
from advunlearn.shadows import originals
from advunlearn.stages.attack import ATTACK_SCHEMA, added, attack_models
from advunlearn.stages.budget import announce
from advunlearn.stages.canaries import CANARIES_SCHEMA, find_canaries
from advunlearn.stages.data import prepare
from advunlearn.stages.distributions import DISTRIBUTIONS_SCHEMA, compare_distributions
from advunlearn.stages.evaluate import Further, evaluate
from advunlearn.stages.memorization import choose_forget_set, memorization_keys
from advunlearn.stages.models import make_models
from advunlearn.stages.neighbours import NEIGHBOURS_SCHEMA, compare_neighbours
from advunlearn.stages.original import given_original, original_key, provenance
from advunlearn.stages.relearning import RELEARNING_SCHEMA, relearn
from advunlearn.stages.report import PICTURES_SCHEMA, result_of, write_results
from advunlearn.stages.retained import RETAINED_SCHEMA, attack_retained
from advunlearn.stages.selection import SELECTION_SCHEMA, measure_selection
from advunlearn.stages.shadows import original_set, shadow_set
from advunlearn.stages.swap import SWAP_SCHEMA, swap
from advunlearn.stages.unlearn import UNLEARN_SCHEMA
from advunlearn.stages.weights import WEIGHTS_SCHEMA, compare_weights
from advunlearn.storage.artefacts import index_digest
from advunlearn.storage.files import atomic_write
from advunlearn.storage.prune import warn_if_nearly_full
from advunlearn.storage.store import Store
from advunlearn.training.trainer import Trainer

logger = logging.getLogger(__name__)


def run_experiment(experiment: Experiment, manifest: Manifest, *, adopt: bool = False, pictures: bool = True) -> Result:
    """Run an experiment in the folder of its manifest, which is open; an interrupted run continues where it ended.

    Args:
        experiment: what to run.
        manifest: of the run's folder.
        adopt: if a finished run of the same config and data exists, take over its files; the result has no
            network then.
        pictures: whether the page has pictures, which take as long as all other work that is not training.

    Raises:
        UserError: in one line, if the data is not available, the run is over budget, or a stage cannot work with these
            options.
    """
    settings, folder = experiment.settings, manifest.folder
    with (
        clean_state(settings.seed),
        settings.switches(),
        profiled(folder, settings.torch_device(), wanted=settings.profile) as manifest.profile,
        tracked(experiment.loggers, _logged(experiment, manifest)) as trackers,
    ):
        manifest.computes(settings.torch_device(), settings.seed)
        manifest.note(request=settings.request)
        warn_if_nearly_full(Store())
        with atomic_write(folder / "config.yaml") as temporary:
            OmegaConf.save(OmegaConf.create(experiment.config), temporary)
        experiment, trainer, splits = prepare(experiment, manifest)
        given = given_original(experiment, splits)
        manifest.note(original=provenance(experiment, given))
        key = run_key(experiment, trainer, splits)
        sharded = experiment.shadow_options.shard is not None
        if adopt and not sharded and (earlier := reuse.find(trainer.store, key)) is not None:
            logger.info("the same run is finished in %s and not done again", earlier)
            metrics = reuse.adopt(manifest, earlier)
            manifest.write()
            rewrite(folder)
            trackers.trace(metrics["trace"])
            trackers.finish(metrics)
            return Result(folder, metrics, objective=objective_of(metrics, settings.objective))
        announce(experiment, trainer, splits, manifest)
        experiment, splits, chosen = choose_forget_set(experiment, trainer, splits, manifest)
        if sharded:
            with manifest.stage("shadows"):
                if experiment.needs_shadows:
                    shadow_set(experiment, trainer, splits).train()
                if experiment.needs_originals:
                    original_set(experiment, trainer, splits).train()
            return Result(folder, None)
        models = make_models(experiment, trainer, splits, manifest)
        trackers.trace(models.artefacts["unlearned"].record["trace"])
        evidence = attack_models(experiment, trainer, splits, models, manifest)
        weights = compare_weights(trainer, splits, models, manifest)
        relearned = relearn(experiment, trainer, splits, models, manifest)
        retained = attack_retained(experiment, trainer, splits, models, manifest)
        canaries = find_canaries(experiment, trainer, splits, models, manifest)
        swapped = swap(experiment, trainer, splits, models, manifest)
        many = compare_distributions(experiment, trainer, splits, evidence, manifest)
        selection = measure_selection(trainer, splits, models, manifest)
        neighbours = compare_neighbours(trainer, splits, models, manifest)
        further = Further(weights, many, selection, neighbours, relearned, retained, canaries, swapped)
        metrics = evaluate(experiment, splits, models, evidence, given, chosen, further)
        write_results(manifest, trainer, models, evidence, metrics, pictures=pictures)
        trackers.finish(metrics)
        reuse.note(trainer.store, key, folder)
        result = result_of(folder, trainer, splits, models, evidence, metrics, manifest.data)
        return replace(result, objective=objective_of(metrics, settings.objective))


def _logged(experiment: Experiment, manifest: Manifest) -> LoggedRun:
    """Return what the loggers are told of a run; the runs of a sweep are grouped by its folder."""
    folder, overrides = manifest.folder.absolute(), manifest.data.get("overrides", [])
    sweep = manifest.data.get("sweep") or (folder / "job.json").is_file()
    name = " ".join(overrides)[:100] if sweep and overrides else folder.name
    return LoggedRun(folder, name, folder.parent.name if sweep else None, dict(flat(experiment.config)))


def run_key(experiment: Experiment, trainer: Trainer, splits: Splits) -> dict[str, Any]:
    """Return everything that determines a run's results, as plain data.

    The splits may be those of `prepare`: with the models that choose the forget set they determine the final ones.
    """
    _, chosen_by = memorization_keys(experiment, trainer, splits.train)
    later = (PICTURES_SCHEMA, WEIGHTS_SCHEMA, DISTRIBUTIONS_SCHEMA, SELECTION_SCHEMA, NEIGHBOURS_SCHEMA)
    choice: dict[str, Any] = {"memorization": [experiment.forget.identity(), *chosen_by]} if chosen_by else {}
    if experiment.forget.perturbs:
        choice["canaries"] = CANARIES_SCHEMA
    if audits := experiment.audits.chosen():
        choice["audits"] = [audits, RELEARNING_SCHEMA, RETAINED_SCHEMA, SWAP_SCHEMA]
    if experiment.forget.rounds > 1:
        choice["rounds"] = experiment.forget.rounds
        if (seed := experiment.settings.seed) != experiment.seed_of("training"):
            choice["seed"] = seed  # of the order of the requests
    return {
        **choice,
        **added(experiment),
        **experiment.separate("unlearning", "audit"),
        "version": __version__,
        "schemas": [originals.SCHEMA, UNLEARN_SCHEMA, ATTACK_SCHEMA, *later],
        "original": original_key(experiment, trainer, splits),
        "splits": {part: index_digest(rows) for part, rows in vars(splits).items()},
        "unlearner": experiment.unlearner.identity(),
        "attacks": {name: attack.identity() for name, attack in experiment.attacks.items()},
        "shadows": {**experiment.shadow_options.identity(), "originals": experiment.shadow_options.originals},
    }
