"""A network that a class or function of the user makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from advunlearn.data.inputs import Shape
from advunlearn.models.foreign import Foreign, made_by
from advunlearn.options import OptionError, imported, source_digest


@dataclass
class Module(Foreign):
    """Any network of torch: `factory` is called with `arguments` only.

    Attributes:
        factory: import path of the class or function, such as `mypkg.net:Net`.

    References:
        No publication.
    """

    factory: str | None = None

    def network(self, shape: Shape, classes: int) -> nn.Module:
        """Return a new network; see `Foreign.network`."""
        return made_by(self._function(), str(self.factory), self.arguments)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the model in the store, with the factory's source."""
        return {**super().identity(), "factory_source": source_digest(self._function())}

    def _function(self) -> Callable[..., Any]:
        if self.factory is None:
            raise OptionError(["factory must name a class or function (try factory=mypkg.net:Net)"])
        factory: Callable[..., Any] = imported(self.factory, "factory")
        return factory
