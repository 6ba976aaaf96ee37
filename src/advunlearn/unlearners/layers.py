"""Split off the last layers of a network, reinitialise layers, and copy a network as a teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import nn

from advunlearn.options import UserError
from advunlearn.runtime.settings import Settings
from advunlearn.training.fit import seeded


def frozen_copy(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that requires no gradients, for use as a teacher."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def split_layers(network: nn.Module, last: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the modules that own parameters or buffers, in two lists: before the `last` layers, and of these layers.

    A layer is a module with a weight of two dimensions or more, such as a convolution, and the modules after it, such
    as its BatchNorm, up to the next such module. The order is that in which the network registers its modules.
    """
    owners = [each for each in network.modules() if [*_own(each), *each.buffers(recurse=False)]]
    starts = [n for n, each in enumerate(owners) if any(weight.dim() > 1 for weight in _own(each))]
    first = starts[-last] if last <= len(starts) else 0
    return owners[:first], owners[first:]


def check_resettable(modules: Iterable[nn.Module], name: str) -> None:
    """Raise a UserError, in one line that names the unlearner, unless these modules can be reinitialised."""
    for module in modules:
        if _own(module) and not hasattr(module, "reset_parameters"):
            raise UserError(
                f"{name} initialises layers again, which needs the method reset_parameters; "
                f"{type(module).__name__} has weights of its own and no such method (use another unlearner)"
            )


def initialise_again(modules: Iterable[nn.Module], settings: Settings, stream: str) -> None:
    """Reinitialise modules in place by their `reset_parameters`, from a random stream: the same on every device."""
    with seeded(settings, stream):
        for module in modules:
            if hasattr(module, "reset_parameters"):
                fresh = copy.deepcopy(module).cpu()
                fresh.reset_parameters()  # type: ignore[operator]  # torch declares any attribute as Tensor or Module
                module.load_state_dict(fresh.state_dict())


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))
