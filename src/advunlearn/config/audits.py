"""What a run audits beyond its attacks, if it is asked to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from advunlearn.options import Component, option


@dataclass
class Audits(Component):
    """Further audits of the three models; none of them by default, because each takes time.

    Attributes:
        relearning: epochs that each model is fine-tuned for on the retain set alone, to see whether the forget set
            comes back; 0: none. See `stages/relearning.py`.
        relearning_lr: its learning rate; null: that of the optimizer.
        retained: attack retained examples as well. See `stages/retained.py`.
        swap: train and unlearn once more with forget and test examples in each other's place. See `stages/swap.py`.
    """

    relearning: int = option(0, at_least=0)
    relearning_lr: float | None = option(None, above=0)
    retained: bool = option(False)
    swap: bool = option(False)

    def chosen(self) -> dict[str, Any]:
        """Return the options that are not at their defaults: the audits' part in the key of a run."""
        defaults = dataclasses.asdict(type(self)())
        return {name: value for name, value in dataclasses.asdict(self).items() if value != defaults[name]}
