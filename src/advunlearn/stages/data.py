"""Stage `data`: load the dataset, move it to the device, and split it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.comparable import comparable
from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.examples import Examples, examples_of
from advunlearn.data.inputs import named, shape_in_words
from advunlearn.data.requests import new_rows
from advunlearn.data.splits import Splits
from advunlearn.models.foreign import Foreign, own_module
from advunlearn.options import UserError, is_shipped, located
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.resources import free_memory, size
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.stages.attack import able_attacks
from advunlearn.stages.original import check_original, source_of, splits_of
from advunlearn.stages.rounds import request_splits
from advunlearn.stages.swap import swapped_splits
from advunlearn.storage.store import Store
from advunlearn.training.fit import first_logits, largest
from advunlearn.training.trainer import Trainer
from advunlearn.training.weights import weights_of
from advunlearn.unlearners.unlearner import Unlearner

logger = logging.getLogger(__name__)

NARROW = 8  # input channels; see `_has_narrow_shortcut`
COPIES = 3  # in memory: the dataset, the copy that is trained on, and the rows of the current training


def prepare(experiment: Experiment, manifest: Manifest) -> tuple[Experiment, Trainer, Splits]:
    """Load the data, move it to the device and split it; write the splits to the run's folder.

    The returned experiment is without the attacks that cannot work with the data; see `check_parts`.
    """
    with manifest.stage("data"):
        check_memory(experiment.dataset.info())
        experiment, trainer, splits = split(experiment, experiment.dataset.load())
        splits.save(manifest.folder / "splits.npz")
        sizes = {part: len(rows) for part, rows in vars(splits).items()}
        manifest.note(splits=sizes, dataset_checksum=trainer.pool.checksum, source=source_of(experiment))
        trainer.policy.most_workers = manifest.most_workers()
    manifest.note(threads=torch.get_num_threads())
    return experiment, trainer, splits


def split(experiment: Experiment, pool: Pool) -> tuple[Experiment, Trainer, Splits]:
    """Split a dataset and move it to the device, and check that all parts of the experiment can work with it.

    The returned experiment is without the attacks that cannot; see `check_parts`.

    Raises:
        UserError: in one line, if the run would be refused before its first training.
    """
    splits = splits_of(experiment, pool)
    pool = perturbed(experiment, relabelled(experiment, pool, splits), splits)
    experiment = check_parts(experiment, splits, pool.labels)
    trainer = trainer_of(experiment, pool, splits.train, Store())
    check_original(experiment, trainer, splits)
    return experiment, trainer, splits


def relabelled(experiment: Experiment, pool: Pool, splits: Splits) -> Pool:
    """Return the pool with the labels that the forget scenario gives the forget set, by default its own."""
    if not experiment.forget.relabels:
        return pool
    labels, rng = pool.labels.copy(), numpy_stream(experiment.settings.seed, "relabel")
    classes = np.unique(labels[splits.train])
    labels[splits.forget] = experiment.forget.relabelled(labels[splits.forget], classes, rng)
    return replace(pool, labels=labels, true_labels=pool.labels)


def perturbed(experiment: Experiment, pool: Pool, splits: Splits) -> Pool:
    """Return the pool with the images that the forget scenario gives the forget set, by default its own."""
    if not experiment.forget.perturbs:
        return pool
    assert isinstance(pool.inputs, np.ndarray)  # images; see `Canaries.problems`
    images, forget = np.array(pool.inputs), splits.forget
    clean = images[forget]
    images[forget] = experiment.forget.perturbed(clean, forget, experiment.settings.seed)
    return replace(pool, inputs=images, digest=None, moments=None, clean_inputs=clean)


def check_memory(info: DatasetInfo) -> None:
    """Raise a UserError, in one line, if the inputs of a dataset do not fit into memory."""
    needed, free = COPIES * info.memory, free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"dataset needs about {size(needed)} of memory for {info.train + info.test:,} {info.examples_in_words}, "
            f"{size(free)} are free (use fewer or smaller ones)"
        )


def check_parts(experiment: Experiment, splits: Splits, labels: NDArray[np.int64]) -> Experiment:
    """Check before any training that the unlearner and the attacks can work with these parts of the data.

    Returns:
        The experiment without the attacks that cannot work with them, for example because an attack is fitted to the
        forget set, and that has one example. Each of these attacks is logged.

    Raises:
        UserError: in one line, if the unlearner cannot work with them, or no attack can.
    """
    found = np.unique(labels[splits.train])
    if len(found) < 2:
        raise UserError(f"dataset: all training examples are of class {found[0]}; two classes or more are needed")
    members, others, remark = comparable(labels[splits.forget], labels[splits.test])
    if remark:
        logger.warning(remark)
    if experiment.audits.swap:
        swapped_splits(splits, labels, experiment.settings.seed)
    able = able_attacks(experiment.attacks, np.arange(len(members) + len(others)) < len(members))
    try:
        after = request_splits(experiment, splits, labels)
        for each in after:
            experiment.unlearner.check({part: labels[rows] for part, rows in vars(each).items()})
        for rows in new_rows(after):
            comparable(labels[rows], labels[splits.test])
    except UserError as error:
        keys = "the forget options, dataset.train_size, dataset.audit_fraction and dataset.selection_fraction"
        raise UserError(f"{error} ({keys} determine the parts of the data)") from error
    return replace(experiment, attacks=able)


def check_transform(examples: Examples, name: str) -> None:
    """Check the user's own preprocessing, on three examples and on one.

    Raises:
        UserError: in one line that begins with the name, if it fails, or changes the number of examples.
    """
    if examples.transform is None:
        return
    for count in {min(3, len(examples)), 1}:
        try:
            prepared = examples.prepared(count)
        except Exception as error:  # a function of the user may raise any
            raise UserError(f"{name} fails: {located(error)}") from error
        found = named(prepared).values()
        if not all(isinstance(each, Tensor) and each.dim() and len(each) == count for each in found):
            raise UserError(f"{name} must return a tensor, or several by name, with a row for each example of a batch")


def check_network(network: nn.Module, trainer: Trainer, unlearner: Unlearner) -> None:
    """Check an untrained network: it has an output for each class, and can be stored and unlearned from.

    Raises:
        UserError: in one line, if not.
    """
    classes, name = trainer.pool.classes, type(trainer.model).__name__
    outputs = _outputs(network, trainer, name)
    if outputs.dim() != 2 or outputs.shape[1] < classes:
        raise UserError(
            f"model: {name} must return logits of shape (n, {classes}), one for each class; "
            f"for {len(outputs[:2])} examples it returns {tuple(outputs[:2].shape)}"
        )
    if not math.isfinite(largest(outputs)):
        raise UserError(f"model: the logits of {name} are not finite before any training")
    weights = {name: each.cpu() for name, each in weights_of(network).items()}
    try:
        save(weights)
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"model: the weights of {name} cannot be stored ({error})") from error
    if isinstance(trainer.model, Foreign) or not is_shipped(trainer.model):
        check_random(trainer)
    unlearner.check_network(network)


def _outputs(network: nn.Module, trainer: Trainer, name: str) -> Tensor:
    """Return the first outputs of a network.

    Raises:
        UserError: in one line, if it cannot take these inputs.
    """
    try:
        return first_logits(network, trainer.examples)
    except UserError as error:
        raise UserError(f"model: {error} (try model.forward=mypkg.net:forward)") from error
    except Exception as error:  # a network of the user may raise any
        shape, inputs = shape_in_words(trainer.examples.shape), trainer.examples.prepared(1)
        if isinstance(inputs, Tensor) and not inputs.is_floating_point():
            shape += ", which are whole numbers (dataset.mean=[0] dataset.std=[1] makes them floating-point numbers)"
        raise UserError(f"model: {name} fails on inputs of {shape}: {located(error)}") from error


def check_random(trainer: Trainer) -> None:
    """Check that two networks of different seeds differ in every weight tensor that is not constant.

    If they do not, the weights may be trained ones. The retrained model would then start from them, and would be no
    gold standard.

    Raises:
        UserError: in one line that names a tensor, if they do not differ.
    """
    if trainer.model.pretrained:
        return
    first, second = (own_module(trainer.built("warm", index)) for index in (0, 1))
    others = dict(second.named_parameters())
    trained = {name: each for name, each in first.named_parameters() if each.requires_grad and each.numel()}
    same = [name for name, each in trained.items() if torch.equal(each, others[name])]
    fixed = [name for name in same if (trained[name] != trained[name].flatten()[0]).any()]
    if fixed or len(same) == len(trained):
        raise UserError(
            f"model: {[*fixed, *same, '(none)'][0]} has the same weights at every seed: the retrained model must start "
            "from random ones (for the weights of a trained original, use original.path; model.pretrained=true "
            "allows weights that have never seen this dataset)"
        )


def trainer_of(experiment: Experiment, pool: Pool, train: Rows, store: Store) -> Trainer:
    """Move a pool to the device; return the trainer of its models, after choosing torch's CPU threads for it.

    The rows are those that the original is trained on.

    Raises:
        UserError: see `check_network`.
    """
    settings, dataset = replace(experiment.settings, seed=experiment.seed_of("training")), experiment.dataset
    examples = examples_of(pool, dataset, train, settings.torch_device(), channels_last=settings.channels_last)
    trainer = Trainer(pool, examples, dataset, experiment.model, experiment.optimizer, settings, store)
    check_transform(examples, f"dataset.transform={dataset.transform}")
    network = trainer.fresh("warm")
    check_network(network, trainer, experiment.unlearner)
    if settings.channels_last and settings.torch_device().type == "cpu" and _has_narrow_shortcut(network):
        logger.info("channels_last=false: on a CPU, torch has an error in strided 1x1 convolutions of few channels")
        plain = replace(settings, channels_last=False)
        trainer = replace(trainer, examples=replace(examples, channels_last=False), settings=plain)
    trainer.policy.choose_threads()
    return trainer


def _has_narrow_shortcut(network: nn.Module) -> bool:
    """Return whether the network has a strided 1x1 convolution of few channels, as a narrow ResNet's shortcuts.

    In channels_last format such a layer corrupts the memory of the process: torch 2.14 on a CPU with AVX2, for 2 to 6
    channels.
    """
    return any(
        isinstance(layer, nn.Conv2d)
        and max(layer.kernel_size) == 1
        and max(layer.stride) > 1
        and layer.in_channels < NARROW
        for layer in network.modules()
    )
