"""Before the first stage: whether memory and disk suffice, and the option that lowers what is needed."""

from __future__ import annotations

from dataclasses import dataclass

from advunlearn.runtime.room import free_disk, free_memory, size
from advunlearn.shadows.originals import OriginalSet
from advunlearn.shadows.shadow_set import ShadowSet
from advunlearn.stages.estimate import Estimate, Estimator
from advunlearn.stages.shadows import original_set, shadow_set
from advunlearn.stages.unlearn import reference_set

NETWORKS = {
    "references": 1,
    "shadow models": 1,
    "shadow originals": 4,
}  # whose logits are kept, for each model of these sets


@dataclass(frozen=True)
class Need:
    """What the logits of one set of models need.

    Attributes:
        words: the purpose.
        memory, disk: bytes; in memory, logits are read and then copied for the examples that are compared.
        option: the override that lowers it, without its value.
        count: its value now.
    """

    words: str
    memory: int
    disk: int
    option: str
    count: int


def needs(estimator: Estimator, estimate: Estimate) -> list[Need]:
    """Return the needs of the logits of each set of shadow or reference models."""
    experiment, trainer, splits = estimator.experiment, estimator.trainer, estimator.splits
    options = experiment.shadow_options
    sets: dict[str, tuple[ShadowSet | OriginalSet | None, str]] = {
        "references": (reference_set(experiment, trainer, splits, splits.forget), "auditor.references"),
        "shadow models": (shadow_set(trainer, splits, options), "attack.shadows"),
        "shadow originals": (original_set(experiment, trainer, splits), "attack.originals"),
    }
    found = []
    for line in estimate.lines:
        models, option = sets.get(line.name, (None, ""))
        if models is not None:
            rows, classes = len(models.observed), trainer.pool.classes
            each = NETWORKS[line.name] * rows * models.options.queries * classes * 4
            compared = min(1.0, (len(splits.forget) + len(splits.test) + len(splits.selection)) / rows)
            read = 0 if options.shard is not None else models.count * each
            words = f"the logits of {models.count} {line.name} for {rows:,} examples of {classes:,} classes"
            found.append(Need(words, int(read * (1 + compared)), line.missing * each, option, models.count))
    return found


def lack_of_room(estimator: Estimator, estimate: Estimate) -> str | None:
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
