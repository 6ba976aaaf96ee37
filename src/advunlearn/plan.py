"""What a run would compute, said before it does."""

from __future__ import annotations

from advunlearn.config import Experiment
from advunlearn.data.splits import train_size_of
from advunlearn.models.model import skeleton


def describe(experiment: Experiment) -> str:
    """Return the stages of a run, one line each, with the sizes that are known without loading the data."""
    info = experiment.dataset.info()
    network = skeleton(experiment.model, info.shape, len(info.classes))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    train = train_size_of(info, experiment.dataset)
    shadowed = [name for name, attack in experiment.attacks.items() if attack.needs_shadows]
    name = type(experiment.model).__name__
    lines = [
        f"pretrain  {name}, {parameters:,} parameters, {train:,} examples, {experiment.optimizer.epochs} epochs",
        "retrain   the same, without the forget set",
        f"unlearn   {type(experiment.unlearner).__name__}",
        f"attack    {', '.join(experiment.attacks)}",
    ]
    if shadowed:
        lines.append(f"          {experiment.shadow_options.shadows} shadow models for {', '.join(shadowed)}")
    audited = [name for name, attack in experiment.attacks.items() if attack.needs_originals]
    if audited:
        originals = experiment.shadow_options.originals
        lines.append(f"          {originals} shadow originals, unlearned and retrained twice, for {', '.join(audited)}")
    return "would compute, unless the store holds it:\n" + "\n".join(f"  {line}" for line in lines)
