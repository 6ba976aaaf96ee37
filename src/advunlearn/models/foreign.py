"""Networks of other libraries and of the user, whose outputs are converted to logits."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.inputs import Batch, Shape, named
from advunlearn.models.model import Model
from advunlearn.options import OptionError, UserError, imported, nearest, option, source_digest

Forward = Callable[[nn.Module, Batch], Any]
"""The user's own forward pass: a network and inputs to outputs, which contain logits; see `logits_of`."""


class Understood(nn.Module):
    """Maps inputs (n, ...) to logits (n, classes) by a network of another class; see `understood`."""

    def __init__(self, network: nn.Module, classes: int, forward: Forward | None = None) -> None:
        super().__init__()
        self.network = network
        self.classes = classes
        self.own_forward = forward

    def forward(self, inputs: Batch) -> Tensor:
        """Return the logits; named inputs are keyword arguments of the network.

        Raises:
            UserError: in one line, if the network returns no logits, or not one row for each example.
        """
        if self.own_forward is not None:
            outputs = self.own_forward(self.network, inputs)
        else:
            outputs = self.network(**inputs) if isinstance(inputs, dict) else self.network(inputs)
        return logits_of(outputs, self.classes, len(next(iter(named(inputs).values()))))


def understood(network: nn.Module, classes: int, forward: Forward | None = None) -> Understood:
    """Return a network from inputs to logits (n, classes) that wraps the given network.

    The given network may return a tensor (n, classes), a tuple or list with exactly one tensor (n,) or (n, k), or a
    dict or an object with `logits`, such as a ModelOutput of Hugging Face. For two classes, the logit z of a sigmoid,
    (n,) or (n, 1), becomes [0, z].

    Args:
        network: maps inputs to outputs; named inputs are its keyword arguments.
        classes: number of classes.
        forward: a function from the network and the inputs to outputs, called in place of the network.
    """
    return Understood(network, classes, forward)


def own_module(network: nn.Module) -> nn.Module:
    """Return the network inside a wrapper of `understood`; any other network is returned unchanged."""
    return network.network if isinstance(network, Understood) else network


def logits_of(outputs: Any, classes: int, count: int) -> Tensor:
    """Return the logits (n, classes) that a network's outputs contain; see `understood`.

    Args:
        outputs: of the network.
        classes: number of classes.
        count: n. For one example, `squeeze` may have removed the axis of examples, which is then added again.

    Raises:
        UserError: in one line, if they do not contain logits of n examples.
    """
    found = _tensor_in(outputs)
    if not isinstance(found, Tensor):
        raise UserError(f"the network must return logits, a tensor (n, {classes}), got {_in_words(outputs)}")
    if count == 1 and (found.dim() == 0 or (found.dim() == 1 and len(found) > 1)):
        found = found[None]
    if found.dim() and len(found) != count:
        raise UserError(f"the network must return logits of each example, got {len(found)} rows for {count} examples")
    if found.is_floating_point() and found.dim() == 2 and found.shape[1] >= classes:
        return found
    one = found.dim() == 1 or (found.dim() == 2 and found.shape[1] == 1)
    if found.is_floating_point() and one and classes == 2:
        return F.pad(found.reshape(-1, 1), (1, 0))
    wanted = f"the network must return logits (n, {classes}), one for each class"
    regression = "; a regression has no classes, and is not supported" if one else ""
    shape = ", ".join(["n", *map(str, found.shape[1:])]) if found.dim() else ""
    raise UserError(f"{wanted}, got ({shape}) of {str(found.dtype).removeprefix('torch.')}{regression}")


def _tensor_in(outputs: Any) -> Any:
    if isinstance(outputs, Mapping):
        return outputs.get("logits")
    if hasattr(outputs, "logits"):
        return outputs.logits
    if isinstance(outputs, (tuple, list)):
        return _only(each for each in outputs if isinstance(each, Tensor))
    return outputs


def _only(tensors: Iterable[Tensor]) -> Tensor | None:
    """Return the only tensor, (n,) or (n, k), that can be logits; None if no tensor can.

    Raises:
        UserError: in one line, if several can.
    """
    found = [each for each in tensors if each.is_floating_point() and each.dim() in (1, 2)]
    if len(found) > 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in found)
        raise UserError(f"the network returns several tensors that may be the logits, of shapes {shapes}")
    return found[0] if found else None


def _in_words(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return f"a dict without `logits`: {', '.join(map(str, outputs))}"
    return f"{type(outputs).__name__}"


@dataclass
class Foreign(Model):
    """Base class of models whose networks are classes of other libraries or of the user.

    Attributes:
        arguments: further keyword arguments of the function or class that makes the network.
        forward: import path of a function from the network and the inputs to outputs, called in place of the network.
        pretrained: allow weights that are the same for every new network. They must not be trained on this dataset,
            because the retrained model starts from them as well.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    forward: str | None = None
    pretrained: bool = option(False)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network, wrapped so that it returns logits; see `Model.build`."""
        return understood(self.network(shape, classes), classes, self.own_forward())

    def own_forward(self) -> Forward | None:
        """Return the user's own forward pass; None if it is not given."""
        return None if self.forward is None else imported(self.forward, "forward")

    def network(self, shape: Shape, classes: int) -> nn.Module:
        """Return a new network of the other class."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Return what identifies the model in the store, with the source of the user's own forward pass."""
        own = self.own_forward()
        return super().identity() | ({} if own is None else {"forward_source": source_digest(own)})


def made_by(factory: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the network that a function or class makes from these arguments.

    Raises:
        OptionError: in one line, if it does not take these arguments.
        UserError: in one line, if it returns something else than a network.
    """
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        taken = ", ".join(inspect.signature(factory).parameters)
        raise OptionError([f"arguments do not fit {name}({taken}): {error}"]) from error
    network = factory(**arguments)
    if not isinstance(network, nn.Module):
        raise UserError(f"{name} must make a torch.nn.Module, got {type(network).__name__}")
    return network


def first_of(words: Collection[str]) -> str:
    """Return the first three words and the number of the others, such as `a, b, c and 2 more`."""
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return ", ".join(list(words)[:3]) + more


def one_of(name: str, known: Iterable[str]) -> None:
    """Raise an OptionError, in one line, unless the name is a known one."""
    if name not in (known := list(known)):
        raise OptionError([f"name={name}: there is no such model{nearest(name, known)}"])


def extra(package: str, name: str) -> ModuleType:
    """Return an optional package.

    Raises:
        UserError: in one line that names the extra, if it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"needs the package {package}, an extra (pip install 'advunlearn[{name}]')") from error
