"""The weights of a network as named tensors, as the store keeps them, with the names of the user's own class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from advunlearn.models.foreign import first_of, own_module
from advunlearn.options import UserError

PREFIXES = ("module.", "_orig_mod.")  # of all names in a network of DataParallel or torch.compile


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return contiguous copies of the network's weights and buffers; a tied weight is included once, by its first name.

    Raises:
        UserError: if the network's state holds something that is not a tensor.
    """
    state = own_module(network).state_dict()
    names = [name for name, first in _first_names(network).items() if name == first]
    return {name: state[name].detach().clone(memory_format=torch.contiguous_format) for name in names}


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights of `weights_of` into a network of the same class; tied weights stay tied.

    Raises:
        RuntimeError: if they are the weights of another class.
    """
    names = _first_names(network)
    missing = [first for first in names.values() if first not in weights]
    if missing:
        raise RuntimeError(f"the weights lack {', '.join(missing)}")
    known = {name: weights[first] for name, first in names.items()}
    own_module(network).load_state_dict({**weights, **known})


def matched(network: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the user's weights by the names of `weights_of`, after a check that they fit the network.

    Raises:
        UserError: in one line that names the first tensors that are missing, unknown or of another shape.
    """
    state, names = own_module(network).state_dict(), _first_names(network)
    given = dict(_without_prefixes(found, names))
    for name, first in names.items():
        if first not in given and name in given:  # a file may hold a tied weight by its other name
            given[first] = given[name]
    problems = {
        "missing": [first for name, first in names.items() if name == first and first not in given],
        "unknown": [name for name in given if name not in names],
        "of another shape or type": [
            f"{name} {tuple(given[name].shape)} in place of {tuple(tensor.shape)}"
            for name, tensor in state.items()
            if name in given and not _fits(given[name], tensor)
        ],
    }
    if any(problems.values()):
        words = [f"{what}: {first_of(each)}" for what, each in problems.items() if each]
        raise UserError(f"these are not the weights of this model; {'; '.join(words)}")
    return {name: tensor for name, tensor in given.items() if names[name] == name}


def _without_prefixes(found: Mapping[str, Tensor], names: Mapping[str, str]) -> Mapping[str, Tensor]:
    while not names.keys() & found.keys():
        prefix = next((each for each in PREFIXES if all(name.startswith(each) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _fits(given: Tensor, wanted: Tensor) -> bool:
    return given.shape == wanted.shape and given.is_floating_point() == wanted.is_floating_point()


def _first_names(network: nn.Module) -> dict[str, str]:
    """Return, for each name of the state, the first name of the same tensor; it differs for tied weights only."""
    first: dict[object, str] = {}
    names = {}
    for name, tensor in own_module(network).state_dict().items():
        if not isinstance(tensor, Tensor):
            raise UserError(f"model: its state holds {name}, which is not a tensor; only tensors can be stored")
        address = tensor.data_ptr()  # 0 without memory
        place = (address, tensor.shape, tensor.stride(), tensor.dtype) if address else name
        names[name] = first.setdefault(place, name)
    return names
