"""What a run measures, for models of the caller: against a retrained model, under any attack."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advunlearn.api.arguments import ConfigDir, check_attacks, check_functions, check_model, in_python
from advunlearn.api.experiments import Attacks, SeedsOf, with_attacks
from advunlearn.api.own_trainer import OwnTrainer, Train, own_trainer
from advunlearn.api.parts import Part, read_parts, understand
from advunlearn.api.unlearning import UnlearnedModel
from advunlearn.config.experiment import Experiment
from advunlearn.data.dataset import Transform
from advunlearn.data.examples import Examples
from advunlearn.data.splits import Splits
from advunlearn.models.foreign import Forward, Understood, own_module
from advunlearn.options import UserError
from advunlearn.report.run.result import Result
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import clean_state
from advunlearn.stages.attack import attack_models
from advunlearn.stages.data import check_parts
from advunlearn.stages.distributions import compare_distributions
from advunlearn.stages.evaluate import Further, evaluate
from advunlearn.stages.neighbours import compare_neighbours
from advunlearn.stages.report import result_of
from advunlearn.stages.unlearn import Models
from advunlearn.stages.weights import compare_weights
from advunlearn.storage.artefacts import Artefact, key_digest
from advunlearn.training.fit import place
from advunlearn.training.weights import tensors_digest, weights_of


@in_python
def compare(
    *,
    original: nn.Module,
    unlearned: nn.Module | UnlearnedModel,
    retrained: nn.Module | None = None,
    train: Train | None = None,
    retain: Part,
    forget: Part,
    test: Part,
    audit: Part | None = None,
    selection: Part | None = None,
    attacks: Attacks = ("threshold", "classifier"),
    shadows: int = 128,
    originals: int = 64,
    forward: Forward | None = None,
    transform: Transform | None = None,
    seed: int = 0,
    seeds: SeedsOf = None,
    device: str = "auto",
    config_dir: ConfigDir = None,
) -> Result:
    """Return what a run measures, for your own models: accuracies, attacks, and the gap to a retrained model.

    Args:
        original: the model that was trained on `retain` and `forget`; see `unlearn` for models.
        unlearned: a model from which `forget` was removed, or the result of `unlearn`.
        retrained: a model that was trained on `retain` only, the gold standard.
        train: a function of a torch Dataset and a seed that returns a trained model. It trains the retrained model, if
            that is not given, and the models that LiRA, RMIA and U-LiRA compare with. Items of the dataset are
            (inputs, label), without `transform`. Results are kept in the store, and models are trained in parallel on
            a CPU, one per core.
        retain, forget, test: examples, in any form that `unlearn` takes; `test` was never trained on.
        audit: the examples that the auditor of the game has seen; for U-LiRA on an unlearner that reads them.
        selection: further examples that were never trained on: the population of the attacks that need one.
        attacks: options of the group `attack`, or attacks such as `LiRA()`.
        shadows: shadow models, shared by the attacks; an even number.
        originals: shadow originals of `ulira`, which unlearns them by the method of `unlearned`.
        forward, transform, seed, seeds, device, config_dir: as in `unlearn`.

    Raises:
        ConfigError: for an unknown attack or a bad number of models.
        UserError: in one line, if data and models do not fit together, or a model is not given and cannot be trained.

    Examples:
        >>> import torch, advunlearn
        >>> inputs, labels = torch.randn(90, 8), torch.arange(90) % 3
        >>> parts = {"retain": slice(0, 30), "forget": slice(30, 45), "test": slice(45, 90)}
        >>> found = advunlearn.compare(
        ...     original=torch.nn.Linear(8, 3),
        ...     unlearned=torch.nn.Linear(8, 3),
        ...     retrained=torch.nn.Linear(8, 3),
        ...     **{name: (inputs[rows], labels[rows]) for name, rows in parts.items()},
        ... )
        >>> sorted(found.metrics["gap"])
        ['original', 'unlearned']
    """
    check_model(original, "original")
    check_model(unlearned.network if isinstance(unlearned, UnlearnedModel) else unlearned, "unlearned")
    if retrained is not None:
        check_model(retrained, "retrained")
    check_functions(train=train, forward=forward, transform=transform)
    words = ["unlearner=none", f"attack.shadows={shadows}", f"attack.originals={originals}"]
    experiment = with_attacks(attacks, words, seed, seeds, device, config_dir)
    _check_models(experiment, unlearned, retrained, train)
    needed, further = {"retain": retain, "forget": forget, "test": test}, {"audit": audit, "selection": selection}
    check_attacks(experiment.attacks, needed | further, "selection")
    settings = experiment.settings
    with clean_state(settings.seed), settings.switches():
        parts = read_parts(needed, further, original, settings.torch_device(), transform)

        def placed(model: nn.Module) -> Understood:
            return place(understand(copy.deepcopy(model), parts, settings.torch_device(), forward), settings).eval()

        trainer, splits = own_trainer(experiment, parts, placed(original), train, forward)
        experiment = check_parts(experiment, splits, trainer.pool.labels)
        if isinstance(unlearned, UnlearnedModel):
            experiment = replace(experiment, unlearner=unlearned.method)
        with _manifest(experiment, parts) as manifest:
            models = _models(trainer, splits, placed, unlearned, retrained)
            evidence = attack_models(experiment, trainer, splits, models, manifest)
            weights = compare_weights(trainer, splits, models, manifest)
            many = compare_distributions(experiment, trainer, splits, evidence, manifest)
            near = compare_neighbours(trainer, splits, models, manifest)
            found = Further(weights=weights, distributions=many, neighbours=near)
            metrics = evaluate(experiment, splits, models, evidence, further=found)
            return result_of(None, trainer, splits, models, evidence, metrics, manifest.data)


@contextlib.contextmanager
def _manifest(experiment: Experiment, parts: dict[str, Examples]) -> Iterator[Manifest]:
    """Yield a manifest in a temporary folder: it keeps what the report shows of how a comparison was computed."""
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder), {"call": "advunlearn.compare"}) as manifest:
        manifest.computes(experiment.settings.torch_device(), experiment.settings.seed)
        manifest.note(splits={name: len(part) for name, part in parts.items()}, threads=torch.get_num_threads())
        yield manifest


def _models(
    trainer: OwnTrainer,
    splits: Splits,
    placed: Callable[[nn.Module], Understood],
    unlearned: nn.Module | UnlearnedModel,
    retrained: nn.Module | None,
) -> Models:
    """Return the three models of a comparison; the retrained one is trained if it is not given."""
    about: dict[str, Any] = {"trace": {}}
    if isinstance(unlearned, UnlearnedModel):
        about = {"seconds": unlearned.seconds, "trace": unlearned.trace}
        unlearned = unlearned.network
    models = Models({}, {}, None)
    given = {"original": own_module(trainer.network), "retrained": retrained, "unlearned": unlearned}
    for name, model in given.items():
        if model is None:
            models.networks[name], models.artefacts[name] = trainer.train(splits.retain, name)
        else:
            network = placed(model)
            record = about if name == "unlearned" else {}
            models.networks[name], models.artefacts[name] = network, _given(trainer, network, record)
    return models


def _check_models(
    experiment: Experiment, unlearned: nn.Module | UnlearnedModel, retrained: nn.Module | None, train: Train | None
) -> None:
    """Raise a UserError, in one line, if a model is not given and cannot be trained."""
    if retrained is None and train is None:
        raise UserError("a comparison needs a retrained model: give retrained=, or train=, a function that trains it")
    needy = [name for name, attack in experiment.attacks.items() if attack.needs_shadows or attack.needs_originals]
    if needy and train is None:
        raise UserError(f"{', '.join(needy)} compares with other models: give train=, a function that trains them")
    if not experiment.needs_originals:
        return
    if not isinstance(unlearned, UnlearnedModel):
        raise UserError("ulira unlearns other models as well: give the result of advunlearn.unlearn as unlearned=")
    if unlearned.task.loss is not None or unlearned.task.optimizer is not None:
        raise UserError("ulira cannot unlearn other models with loss= or optimizer= of your own")


def _given(trainer: OwnTrainer, network: nn.Module, record: dict[str, Any]) -> Artefact:
    """Return the artefact of a model that the caller has given.

    `content` is the digest of its weights, `digest` that of everything else that its outputs depend on.
    """
    weights = weights_of(network)
    key = {
        "dataset": trainer.pool.checksum,
        "view": trainer.view,
        "settings": trainer.settings.identity(),
        "network": repr(network),
    }
    return Artefact(record, weights, {}, digest=key_digest("given", key), content=tensors_digest(weights))
