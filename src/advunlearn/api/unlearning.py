"""Unlearning of the caller's own model."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from advunlearn.api.arguments import ConfigDir, check_functions, check_model, in_python, kind_of
from advunlearn.api.experiments import SeedsOf, with_method
from advunlearn.api.own_trainer import Train, own_trainer
from advunlearn.api.parts import Part, check_trainable, read_parts, understand
from advunlearn.config.experiment import Experiment
from advunlearn.data.dataset import Transform
from advunlearn.data.examples import Examples
from advunlearn.models.foreign import Forward, Understood, own_module
from advunlearn.options import UserError, located
from advunlearn.runtime.seeding import clean_state
from advunlearn.stages.unlearn import reference_set
from advunlearn.training.fit import first_logits, place
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.sg import SG
from advunlearn.unlearners.unlearner import Loss, MakeOptimizer, Task, Unlearner


@dataclass(frozen=True)
class UnlearnedModel:
    """The result of `unlearn`.

    Attributes:
        network: a copy of the caller's model without the forget set's influence, of the same class.
        seconds: that unlearning took.
        trace: what the method recorded; of the game, columns with a value for each audit step. See `Trace`.
        reads: which parts of the data the method has read.
        method: the unlearner, with its options.
        task: the request, with the data.
    """

    network: nn.Module
    seconds: float
    trace: dict[str, Any]
    reads: tuple[str, ...]
    method: Unlearner
    task: Task = field(repr=False)


@in_python
def unlearn(
    model: nn.Module,
    *,
    retain: Part,
    forget: Part,
    audit: Part,
    selection: Part | None = None,
    method: str | Unlearner = "sg",
    forward: Forward | None = None,
    transform: Transform | None = None,
    loss: Loss | None = None,
    optimizer: MakeOptimizer | None = None,
    train: Train | None = None,
    seed: int = 0,
    seeds: SeedsOf = None,
    device: str = "auto",
    config_dir: ConfigDir = None,
    **options: Any,
) -> UnlearnedModel:
    """Return a copy of the model with the forget set's influence removed; the model itself is unchanged.

    Args:
        model: maps inputs (n, ...) to outputs that contain logits (n, classes): a tensor, a tuple, a dict or object
            with `logits`, or for two classes one logit of a sigmoid.
        retain, forget, audit: what to keep, what to remove, and held-out examples that were never trained on, for the
            auditor: pairs of inputs, as the model takes them, and whole-number labels (n,), tensors or arrays; or
            torch Datasets or DataLoaders. Inputs may be a dict of several by name. No example may be in two sets.
        selection: further held-out examples, on which `keep_epoch="best"` chooses the epoch.
        method: an option of the group `unlearner` (sg, finetune, ...), or an unlearner such as `SG(alpha=3)`.
        forward: a function of the model and a batch of inputs to outputs, for a model that is called otherwise.
        transform: preprocessing of each batch of inputs (n, ...).
        loss: of logits (n, classes) and labels, a scalar, instead of the cross-entropy of methods that have no loss of
            their own.
        optimizer: a function of the weights that returns a torch optimizer, for the steps of methods by gradients; the
            options `lr`, `momentum`, `weight_decay` and `schedule` of the method are then not used.
        train: a function of a torch Dataset and a seed that returns a trained model, as in `compare`; for methods and
            auditors that compare with models that they train, such as `auditor="likelihood_ratio"`.
        seed: root of all random streams.
        seeds: of parts of the work, which are otherwise `seed`: `{"training": 1, "unlearning": 2, "audit": 3}`.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`, which is CUDA if it is available.
        config_dir: a folder with the YAML files of your own parts, which may then be given by name.
        options: the options of a method that is given by name, such as `alpha=3, epochs=10, batch_size=100`,
            `auditor="logistic"`, or `auditor=SVM(regularization=0.5)`.

    Raises:
        ConfigError: for an unknown method or a bad option, one line each.
        UserError: if inputs and labels do not fit together, or the method cannot work on them.

    Examples:
        >>> import torch, advunlearn
        >>> inputs, labels = torch.randn(60, 8), torch.arange(60) % 3
        >>> model = torch.nn.Linear(8, 3)
        >>> unlearned = advunlearn.unlearn(
        ...     model,
        ...     retain=(inputs[:30], labels[:30]),
        ...     forget=(inputs[30:45], labels[30:45]),
        ...     audit=(inputs[45:], labels[45:]),
        ...     method="sg",
        ...     epochs=2,
        ... )
        >>> unlearned.network(inputs).shape
        torch.Size([60, 3])
    """
    check_model(model, "model")
    check_functions(forward=forward, transform=transform, loss=loss, optimizer=optimizer, train=train)
    experiment = with_method(method, options, seed, seeds, device, config_dir)
    settings = experiment.settings
    with clean_state(settings.seed), settings.switches():
        needed = {"retain": retain, "forget": forget, "audit": audit}
        parts = read_parts(needed, {"selection": selection}, model, settings.torch_device(), transform)
        network = place(understand(copy.deepcopy(model), parts, settings.torch_device(), forward), settings)
        check_trainable(network)
        experiment.unlearner.check_network(network)
        experiment.unlearner.check({name: part.labels.cpu().numpy() for name, part in parts.items()})
        if loss is not None:
            _check_loss(loss, experiment.unlearner, network, parts["retain"])
        if optimizer is not None:
            _check_optimizer(optimizer, experiment.unlearner, network)
        task = _task(experiment, parts, network, train, forward)
        task = replace(task, loss=loss, optimizer=optimizer)
        start = time.perf_counter()
        unlearned = experiment.unlearner.run(network, task)
        seconds = time.perf_counter() - start
    own = own_module(unlearned.network)
    for part, before in zip(own.modules(), model.modules(), strict=True):
        part.training = before.training
    own = own.to(next(model.parameters()).device)
    return UnlearnedModel(own, seconds, unlearned.trace, experiment.unlearner.parts_read(), experiment.unlearner, task)


def _task(
    experiment: Experiment,
    parts: Mapping[str, Examples],
    network: Understood,
    train: Train | None,
    forward: Forward | None,
) -> Task:
    """Return the request to forget; with a function that trains models, unlearners may use such models."""
    settings = replace(experiment.settings, seed=experiment.seed_of("unlearning"))
    task = Task(parts["retain"], parts["forget"], parts["audit"], settings, parts.get("selection"))
    if train is None:
        return task
    trainer, splits = own_trainer(experiment, parts, network, train, forward)
    references = reference_set(experiment, trainer, splits, splits.forget)
    return replace(
        task,
        retrain=lambda stream: trainer.seeded(settings.seed).fitted(splits.retain, stream)[0],
        references=(references.observe(splits.forget), references.observe(splits.audit)) if references else None,
    )


def _leader(method: Unlearner) -> Unlearner:
    """Return the method that takes the steps: in the game, its base."""
    return method.leader() if isinstance(method, SG) else method


def _check_loss(loss: Loss, method: Unlearner, network: nn.Module, examples: Examples) -> None:
    """Check that the method descends the cross-entropy, which another loss can replace, and what that loss returns.

    Raises:
        UserError: in one line, if not.
    """
    leader = _leader(method)
    plain = isinstance(leader, GradientUnlearner) and type(leader).loss is GradientUnlearner.loss
    if not plain or getattr(leader, "descent", None) is not Descent:
        raise UserError(f"loss= replaces a cross-entropy, and {type(leader).__name__} has a loss of its own")
    logits = first_logits(network, examples).to(examples.labels.device).requires_grad_()
    try:
        found: Any = loss(logits, examples.labels[: len(logits)])
    except Exception as error:  # a function of the caller may raise any
        raise UserError(f"loss fails: {located(error)}") from error
    if not (isinstance(found, Tensor) and found.dim() == 0 and found.requires_grad):
        got = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) and found.dim() else kind_of(found)
        raise UserError(f"loss must return a scalar tensor that depends on the logits, got {got}")


def _check_optimizer(optimizer: MakeOptimizer, method: Unlearner, network: nn.Module) -> None:
    """Check that the method takes gradient steps, and that the function returns an optimizer.

    Raises:
        UserError: in one line, if not.
    """
    leader = _leader(method)
    if not isinstance(leader, GradientUnlearner):
        raise UserError(f"optimizer= is for methods that take gradient steps, and {type(leader).__name__} does not")
    try:
        found: Any = optimizer(network.parameters())
    except Exception as error:  # a function of the caller may raise any
        raise UserError(f"optimizer fails: {located(error)}") from error
    if not isinstance(found, torch.optim.Optimizer):
        raise UserError(f"optimizer must return a torch.optim.Optimizer, got {kind_of(found)}")
