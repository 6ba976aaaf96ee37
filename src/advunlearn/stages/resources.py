"""Before the first stage: whether memory and disk suffice, and the option that lowers what is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from advunlearn.runtime.resources import free_disk, free_memory, size
from advunlearn.shadows.originals import TrainedOriginals
from advunlearn.stages.estimate import Estimate, Estimator

OPTIONS = {
    "memorization": "forget.models",
    "reference": "auditor.references",
    "shadow": "attack.shadows",
    "shadow_original": "attack.originals",
    "shadow_unlearned": "attack.originals",
}


@dataclass(frozen=True)
class Need:
    """The resources for the logits of one set of models.

    Attributes:
        words: the purpose.
        memory, disk: bytes; in memory, logits are read and then copied for the examples under attack.
        option: the override that lowers it, without its value.
        count: its value now.
    """

    words: str
    memory: int
    disk: int
    option: str
    count: int


def needs(estimator: Estimator, estimate: Estimate) -> Iterator[Need]:
    """Yield the needs of the logits of each set of models in the estimate."""
    splits, classes = estimator.splits, estimator.trainer.pool.classes
    sharded = estimator.experiment.shadow_options.shard is not None
    for line in estimate.lines:
        models = line.models
        if models is None:
            continue
        rows, networks = len(models.observed), 3 if isinstance(models, TrainedOriginals) else 1
        each = networks * rows * models.options.queries * classes * 4
        attacked = min(1.0, (len(splits.forget) + len(splits.test) + len(splits.selection)) / rows)
        memory = 0 if sharded else int(models.count * each * (1 + attacked))
        words = f"the logits of {models.count} {line.name} for {rows:,} examples of {classes:,} classes"
        yield Need(words, memory, line.missing * each, OPTIONS[models.kind], models.count)


def shortage(estimator: Estimator, estimate: Estimate) -> str | None:
    """Return in one line what the run lacks, and an override with which it fits; None if it fits or is unknown."""
    root = estimator.trainer.store.root
    memory, disk = free_memory(), free_disk(root)
    for need in needs(estimator, estimate):
        for wanted, free, what in ((need.memory, memory, "memory"), (need.disk, disk, f"disk in {root}")):
            if free is not None and wanted > free:
                fits = max(2, int(need.count * free / wanted) // 2 * 2)
                return (
                    f"the run needs about {size(wanted)} of {what} for {need.words}, {size(free)} are free "
                    f"(try {need.option}={fits})"
                )
    return None
