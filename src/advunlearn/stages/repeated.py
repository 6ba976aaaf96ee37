"""Repeat a part of the original's training: its first epochs, or a training on shards of its examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import nn
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LambdaLR

from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.curves import unheard
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer


class FirstEpochs(Optimizer):
    """The options of another optimizer with fewer epochs, and with the learning rates of the whole training."""

    def __init__(self, whole: Optimizer, epochs: int) -> None:
        vars(self).update(vars(whole), epochs=epochs)
        self.whole = whole

    def create(self, parameters: Iterable[nn.Parameter], steps: int) -> tuple[TorchOptimizer, LambdaLR]:
        """Return torch's optimizer and the schedule of the whole training; see `Optimizer.create`."""
        return self.whole.create(parameters, steps // self.epochs * self.whole.epochs)


@dataclass(frozen=True)
class Repeated:
    """The training of a run's original; see `Training`.

    A shadow original was trained with another random stream than the one used here. Its earlier state, as computed
    here, is that of another model from the same distribution.

    Attributes:
        trainer: of the original.
        retain, forget: the rows of its training.
        checkpoint: of the unlearning.
        seed: of what is trained anew; None: that of the trainer.
    """

    trainer: Trainer
    retain: Rows
    forget: Rows
    checkpoint: Checkpoint | None
    seed: int | None = None

    @property
    def rows(self) -> Rows:
        """Return the rows of the training, sorted."""
        return np.sort(np.concatenate([self.retain, self.forget]))

    def earlier(self, share: float) -> nn.Module:
        """Return the model as it was after a share of its epochs; see `Training.earlier`."""
        trainer = self.trainer
        epochs = round(share * trainer.optimizer.epochs)
        if epochs == 0:
            return trainer.fresh("original").eval()
        first = replace(trainer, optimizer=FirstEpochs(trainer.optimizer, epochs))
        with unheard():
            return first.fitted(self.rows, "original", checkpoint=self._part("earlier"))[0].eval()

    def shards(self, count: int) -> Iterator[nn.Module]:
        """Yield a model for each shard of the training; see `Training.shards`."""
        again = self.trainer if self.seed is None else self.trainer.seeded(self.seed)
        drawn = numpy_stream(self.trainer.settings.seed, "sisa").permutation(self.rows)
        for shard in range(count):
            rows, stream = np.sort(drawn[shard::count]), f"sisa/{count}/{shard}"
            kept = np.setdiff1d(rows, self.forget)
            if len(kept) == 0:
                raise UserError(f"all examples of shard {shard} are to be forgotten (lower unlearner.shards={count})")
            if len(kept) == len(rows):
                yield self.trainer.train(rows, stream)[0]
            else:
                yield again.fitted(kept, stream, checkpoint=self._part(f"shard-{shard}"))[0].eval()

    def _part(self, name: str) -> Checkpoint | None:
        return self.checkpoint.part(name) if self.checkpoint is not None else None
