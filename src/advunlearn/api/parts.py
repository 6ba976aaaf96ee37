"""The caller's data and model: read in any common form, and checked; `stages/data.py` has the checks of a run."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from advunlearn.api.arguments import kind_of
from advunlearn.data.dataset import Transform
from advunlearn.data.examples import Examples
from advunlearn.data.inputs import Batch, mapped, named, shape_in_words
from advunlearn.models.foreign import Forward, Understood, understood
from advunlearn.options import UserError, first_line, located
from advunlearn.stages.data import check_transform
from advunlearn.training.fit import first_logits, largest

Part = Any
"""Examples of the caller: a pair of inputs and labels, tensors, arrays or tables of pandas; a torch Dataset or a
DataLoader, whose items or batches are such pairs, or dicts with `labels` (or `label`). Inputs may be a dict of several
by name."""

logger = logging.getLogger(__name__)

LABELS = ("labels", "label")
LOADED = 256  # examples of a Dataset that are read at once


def read_parts(
    needed: Mapping[str, Part],
    further: Mapping[str, Part | None],
    model: nn.Module,
    device: torch.device,
    transform: Transform | None = None,
) -> dict[str, Examples]:
    """Return the needed parts, and those of the further ones that are not None, on the device.

    Floating-point inputs get the type of the model's weights: NumPy's are float64 by default, and torch's weights
    float32.

    Raises:
        UserError: in one line, if the inputs and labels of a part cannot be used, if two parts share examples, or if
            the transform fails.
    """
    floats = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    given = {**needed, **{name: part for name, part in further.items() if part is not None}}
    parts = {name: _read(part, name, floats, device, transform) for name, part in given.items()}
    for examples in parts.values():
        check_transform(examples, "transform")
    (first, (shape, kind)), *others = [(name, (part.shape, _kinds(part))) for name, part in parts.items()]
    for name, (other, other_kind) in others:
        if other != shape:
            raise UserError(
                f"{name} inputs must have the shape of {first} inputs, "
                f"{shape_in_words(shape)} per example, got {shape_in_words(other)}"
            )
        if other_kind != kind:
            raise UserError(f"{name} inputs must have the type of {first} inputs, {kind}, got {other_kind}")
    _check_disjoint(parts)
    return parts


def _check_disjoint(parts: Mapping[str, Examples]) -> None:
    """Refuse parts that share examples.

    Only a warning is given if a few examples are in two parts other than `retain` and `forget`: the same example may
    occur more than once in the data.
    """
    contents = {name: _contents(part) for name, part in parts.items()}
    for one, two in itertools.combinations(parts, 2):
        shared, smaller = len(contents[one] & contents[two]), min(len(contents[one]), len(contents[two]))
        if not shared:
            continue
        if shared == smaller or {one, two} == {"retain", "forget"}:
            raise UserError(f"{one} and {two} must not share examples, and {shared} of them are in both")
        logger.warning("%d examples are both in %s and in %s: they are no evidence of membership", shared, one, two)


def understand(
    model: nn.Module, parts: Mapping[str, Examples], device: torch.device, forward: Forward | None
) -> Understood:
    """Return a network, on the device, that maps inputs to logits by the caller's model; see `models.foreign`.

    Raises:
        UserError: in one line, if the model returns no logits, or too few for the labels.
    """
    model = model.to(device)
    classes = _classes(model, next(iter(parts.values())), forward)
    network = understood(model, classes, forward)
    for name, part in parts.items():
        last = int(part.labels.max())
        if last >= classes:
            raise UserError(
                f"{name} labels must be at most {classes - 1}, as the model has {classes} logits, got {last}"
            )
        if not math.isfinite(largest(first_logits(network, part))):
            raise UserError(f"the model's logits for {name} are not finite; it has diverged in its training")
    return network


def check_trainable(network: nn.Module) -> None:
    """Raise a UserError, in one line, if the model has no weight that an unlearner may change."""
    if not any(weight.requires_grad for weight in network.parameters()):
        raise UserError("the model has no weight to change: none has requires_grad=True")


def _classes(model: nn.Module, part: Examples, forward: Forward | None) -> int:
    """Return the number of classes of a model's outputs: that of its logits, or two for one logit of a sigmoid."""
    try:
        return first_logits(understood(model, 2, forward), part).shape[1]
    except UserError:
        raise
    except Exception as error:  # a model of the caller may raise any error
        shape, kinds = shape_in_words(part.shape), _kinds(part)
        fails = "the model fails" if forward is None else "forward fails"
        raise UserError(f"{fails} on inputs of {shape} ({kinds}): {located(error)}") from error


def _read(part: Part, name: str, kind: torch.dtype, device: torch.device, transform: Transform | None) -> Examples:
    inputs, labels = _tensors(part, name)
    if any(each.dim() == 0 for each in named(inputs).values()):
        raise UserError(f"{name} inputs must have an axis of examples, got one number")
    if labels.dim() == 2 and labels.shape[1] == 1 and not labels.is_floating_point():
        labels = labels[:, 0]
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise UserError(
            f"{name} labels must be whole numbers (n,), got {labels.dtype} {tuple(labels.shape)}; regression is not "
            "supported"
        )
    lengths = {len(each) for each in named(inputs).values()}
    if lengths != {len(labels)}:
        raise UserError(
            f"{name} must be (inputs, labels) of one length, got {', '.join(map(str, lengths))} and {len(labels)}"
        )
    if len(labels) == 0:
        raise UserError(f"{name} must hold at least one example, got none")
    if labels.min() < 0:
        raise UserError(
            f"{name} labels must be at least 0, got {int(labels.min())}; leave out examples without a class"
        )
    if not all(each.isfinite().all() for each in named(inputs).values()):
        raise UserError(f"{name} inputs must be finite, got NaN or infinity")
    inputs = mapped(lambda each: each.to(kind) if each.is_floating_point() else each, inputs)
    on_device = mapped(lambda each: _usable(each).to(device), inputs)
    return Examples(on_device, _usable(labels).long().to(device), transform=transform)


def _tensors(part: Part, name: str) -> tuple[Batch, Tensor]:
    """Return inputs and labels of a part in any of its forms."""
    if isinstance(part, DataLoader):
        _check_loader(part, name)
        return _joined(part, name)
    if isinstance(part, IterableDataset):
        return _joined(DataLoader(part, batch_size=LOADED), name)
    if isinstance(part, (tuple, list)) and len(part) == 2 and not isinstance(part, Dataset):
        return _pair(part, name)
    if isinstance(part, Mapping):
        return _pair(part, name)
    if isinstance(part, Dataset) or _is_sequence(part):
        if len(part) == 0:
            raise UserError(f"{name} must hold at least one example, got none")
        return _joined(DataLoader(cast("Dataset[Any]", part), batch_size=LOADED), name)
    raise UserError(
        f"{name} must be a pair (inputs, labels) of tensors or arrays of numbers, a torch Dataset or a DataLoader, "
        f"got {kind_of(part)}"
    )


def _is_sequence(part: Any) -> bool:
    """Return whether a part is a sequence of examples, and not a single array, table or text."""
    alone = isinstance(part, (Tensor, str, type)) or hasattr(part, "to_numpy") or hasattr(part, "__array__")
    return not alone and hasattr(part, "__getitem__") and hasattr(part, "__len__")


def _check_loader(loader: DataLoader[Any], name: str) -> None:
    """Raise a UserError, in one line, if a DataLoader leaves out the examples of its last batch."""
    if not loader.drop_last or loader.batch_size is None or isinstance(loader.dataset, IterableDataset):
        return
    if left := len(cast("Any", loader.sampler)) % loader.batch_size:
        raise UserError(f"{name}: its DataLoader leaves out {left} examples, as it has drop_last=True (use False)")


def _joined(batches: Iterable[Any], name: str) -> tuple[Batch, Tensor]:
    try:
        return _concatenated([_pair(batch, name) for batch in batches], name)
    except UserError:
        raise
    except Exception as error:  # a dataset of the caller may raise any, and torch for items of different shapes
        raise UserError(f"{name}: its items cannot be put into batches ({first_line(error)})") from error


def _concatenated(pairs: list[tuple[Batch, Tensor]], name: str) -> tuple[Batch, Tensor]:
    if not pairs:
        raise UserError(f"{name} must hold at least one example, got none")
    labels = torch.cat([labels for _, labels in pairs])
    first = pairs[0][0]
    if isinstance(first, dict):
        return {key: torch.cat([named(inputs)[key] for inputs, _ in pairs]) for key in first}, labels
    return torch.cat([cast("Tensor", inputs) for inputs, _ in pairs]), labels


def _pair(batch: Any, name: str) -> tuple[Batch, Tensor]:
    if isinstance(batch, Mapping):
        key = next((key for key in LABELS if key in batch), None)
        if key is None:
            raise UserError(f"{name}: a batch that is a dict must have `labels`, got {', '.join(map(str, batch))}")
        batch = {other: value for other, value in batch.items() if other != key}, batch[key]
    try:
        inputs, labels = batch
        return mapped(_tensor, dict(sorted(inputs.items())) if isinstance(inputs, Mapping) else inputs), _tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} must be a pair (inputs, labels) of tensors or arrays of numbers ({error})") from error


def _tensor(values: Any) -> Tensor:
    if hasattr(values, "to_numpy"):  # of pandas
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "biufc":
            raise TypeError(f"an array of {values.dtype} does not hold numbers; try .astype(float)")
        values = np.require(values, requirements=["C", "W"])  # torch takes no other arrays without a warning
    tensor = torch.as_tensor(values)
    if tensor.is_meta or tensor.layout != torch.strided:
        raise TypeError("a tensor without values, or a sparse one; try .to_dense()")
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype not in (torch.bool, torch.uint8)
    return tensor.long() if whole else tensor


def _usable(tensor: Tensor) -> Tensor:
    """Return a tensor for which gradients can be computed; one from inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _kinds(part: Examples) -> str:
    return ", ".join(str(each.dtype).removeprefix("torch.") for each in named(part.prepared(1)).values())


def _contents(part: Examples) -> set[int]:
    tensors = named(cast("Batch", part.inputs)).values()
    whole = [each.cpu().reshape(len(part), -1).contiguous().view(torch.uint8).numpy() for each in tensors]
    labels = part.labels.tolist()
    return {hash((labels[row], *(each[row].tobytes() for each in whole))) for row in range(len(part))}
