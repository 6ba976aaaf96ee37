"""The weights of a network as named tensors, as the store keeps them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from advunlearn.options import UserError


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return contiguous copies of the network's weights and buffers; a tied one is included once, under its first name.

    Raises:
        UserError: if the network's state holds something that is not a tensor.
    """
    state = network.state_dict()
    names = [name for name, first in _first_names(network).items() if name == first]
    return {name: state[name].detach().clone(memory_format=torch.contiguous_format) for name in names}


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy such weights into a network of the same class; tied weights stay tied.

    Raises:
        RuntimeError: if they are those of another class.
    """
    names = _first_names(network)
    missing = [first for first in names.values() if first not in weights]
    if missing:
        raise RuntimeError(f"the weights lack {', '.join(missing)}")
    known = {name: weights[first] for name, first in names.items()}
    network.load_state_dict({**weights, **known})


def _first_names(network: nn.Module) -> dict[str, str]:
    """Return, for each name of the state, the first name of the same tensor: its own, unless the tensor is tied."""
    first: dict[object, str] = {}
    names = {}
    for name, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise UserError(f"model: its state holds {name}, which is not a tensor; only tensors can be stored")
        address = tensor.data_ptr()  # 0 without memory
        place = (address, tensor.shape, tensor.stride(), tensor.dtype) if address else name
        names[name] = first.setdefault(place, name)
    return names
