"""Attacks on the caller's own model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from advunlearn.api.arguments import ConfigDir, check_attacks, check_functions, check_model, in_python
from advunlearn.api.experiments import Attacks, SeedsOf, with_attacks
from advunlearn.api.parts import Part, read_parts, understand
from advunlearn.api.unlearning import UnlearnedModel
from advunlearn.attacks.attack import Observations, Outputs, WhiteBox
from advunlearn.config.experiment import Experiment
from advunlearn.data.comparable import comparable
from advunlearn.data.dataset import Transform
from advunlearn.data.examples import Examples
from advunlearn.evaluation.attack_metrics import AttackMetrics
from advunlearn.evaluation.comparison import measure_attack
from advunlearn.models.foreign import Forward
from advunlearn.options import UserError
from advunlearn.runtime.seeding import clean_state
from advunlearn.stages.attack import able_attacks, score_model, split_scores
from advunlearn.training.fit import place, predict

logger = logging.getLogger(__name__)


@in_python
def audit(
    model: nn.Module | UnlearnedModel,
    *,
    forget: Part,
    test: Part,
    retain: Part | None = None,
    population: Part | None = None,
    attacks: Attacks = ("threshold", "classifier"),
    forward: Forward | None = None,
    transform: Transform | None = None,
    seed: int = 0,
    seeds: SeedsOf = None,
    device: str = "auto",
    config_dir: ConfigDir = None,
) -> dict[str, AttackMetrics]:
    """Return how well each attack separates forget examples from test examples, which the model was never trained on.

    Each attack's dict is that of a run's `metrics.json`: `auc` with its 95 % interval `auc_low` and `auc_high`,
    `tpr_at_fpr_0.01`, `balanced_accuracy` and the counts that they come from, and under `figures` what else its paper
    reports; see `AttackMetrics`.

    Args:
        model: as in `unlearn`, or its result.
        forget, test: examples, in any form that `unlearn` takes. As in a run, examples are left out until `forget` and
            `test` have the same classes in the same shares, which is logged; `members` and `nonmembers` of the result
            count the remaining ones.
        retain: training examples that the model keeps, for the attack `mia_efficacy`.
        population: further examples that were never trained on, for the attack `population`, and for thresholds per
            class of `threshold`.
        attacks: options of the group `attack`, or attacks such as `Population(...)`; in the result, ours are named by
            their file, and your own by their class. Those that need more examples than there are, such as a
            `classifier` of one forget example, are left out, which is logged.
        forward, transform, seed, seeds, device, config_dir: as in `unlearn`.

    Raises:
        ConfigError: for an unknown attack.
        UserError: for an attack that trains shadow models, for which `compare` has `train=`; and for one that compares
            with examples that are not given.

    Examples:
        >>> import torch, advunlearn
        >>> inputs, labels = torch.randn(60, 8), torch.arange(60) % 3
        >>> model = torch.nn.Linear(8, 3)
        >>> found = advunlearn.audit(model, forget=(inputs[:30], labels[:30]), test=(inputs[30:], labels[30:]))
        >>> 0 <= found["threshold"]["auc_low"] <= found["threshold"]["auc"] <= found["threshold"]["auc_high"] <= 1
        True
    """
    own = model.network if isinstance(model, UnlearnedModel) else model
    check_model(own, "model")
    check_functions(forward=forward, transform=transform)
    experiment = with_attacks(attacks, [], seed, seeds, device, config_dir)
    untrained = [name for name, attack in experiment.attacks.items() if attack.needs_shadows or attack.needs_originals]
    if untrained:
        raise UserError(f"{', '.join(untrained)} trains models to compare with: use advunlearn.compare with train=")
    if two := [name for name, attack in experiment.attacks.items() if attack.needs_original]:
        raise UserError(f"{', '.join(two)} compares a model with the original: use advunlearn.compare")
    further = {"retain": retain, "population": population}
    check_attacks(experiment.attacks, further, "population")
    settings = experiment.settings
    with clean_state(settings.seed), settings.switches():
        own = copy.deepcopy(own)
        parts = read_parts({"forget": forget, "test": test}, further, own, settings.torch_device(), transform)
        network = place(understand(own, parts, settings.torch_device(), forward), settings)
        target = _observed(network, parts)
        experiment = replace(experiment, attacks=able_attacks(experiment.attacks, target.members))
        return _measured(experiment, target)


def _observed(network: nn.Module, parts: Mapping[str, Examples]) -> Observations:
    """Return what attacks may see of the model: forget and test examples of the same classes, in the same shares."""
    where, others, remark = comparable(*(parts[name].labels.cpu().numpy() for name in ("forget", "test")))
    if remark:
        logger.warning(remark)
    both = parts["forget"].subset(where).followed_by(parts["test"].subset(others))

    def outputs_of(examples: Examples) -> Outputs:
        return Outputs(predict(network, examples).numpy()[:, None], examples.labels.cpu().numpy())

    attacked = outputs_of(both)
    return Observations(
        attacked.logits,
        attacked.labels,
        members=np.arange(len(both)) < len(where),
        retain=outputs_of(parts["retain"]) if "retain" in parts else None,
        population=outputs_of(parts["population"]) if "population" in parts else None,
        white_box=WhiteBox(network, both),
    )


def _measured(experiment: Experiment, target: Observations) -> dict[str, AttackMetrics]:
    """Return the metrics of every attack on a model."""
    arrays, figures = score_model(experiment, target)
    _, scores = split_scores(arrays)
    return {
        key: measure_attack(
            score,
            target.members,
            seed=experiment.seed_of("audit"),
            cross_fitted=experiment.attacks[key.split("/")[0]].cross_fitted,
            figures=figures.get(key, {}),
        )
        for key, score in scores.items()
    }
