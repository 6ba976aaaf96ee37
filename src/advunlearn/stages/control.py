"""The audit of the audit, from the scores of the attacks on retrained models."""

from __future__ import annotations

from advunlearn.config.experiment import LOSS, Experiment
from advunlearn.evaluation.comparison import primary
from advunlearn.evaluation.control import control, probe
from advunlearn.evaluation.further_metrics import Control, Probe
from advunlearn.runtime.arrays import Floats
from advunlearn.stages.attack import Evidence


def probe_retrained(experiment: Experiment, evidence: Evidence) -> Probe:
    """Return whether forget and test examples look alike to the retrained model: to its loss and to every attack."""
    losses, _ = evidence.of("retrained")
    scores = {LOSS: -losses, **_scores(experiment, evidence, "retrained")}
    return probe(scores, evidence.members, _cross_fitted(experiment), sampled=experiment.forget.sampled)


def judge_control(experiment: Experiment, evidence: Evidence, found: Probe) -> Control | None:
    """Return whether the last retrained model passes as an unlearned one; None if the run has only one."""
    repeats = experiment.shadow_options.repeats
    if not repeats:
        return None
    *references, candidate = (_scores(experiment, evidence, name) for name in ("retrained", *repeats))
    alike = found["sampled"] and not found["void"]
    return control(candidate, references, evidence.members, alike=alike, cross_fitted=_cross_fitted(experiment))


def _scores(experiment: Experiment, evidence: Evidence, model: str) -> dict[str, Floats]:
    """Return the primary member scores of a model by attack, without those that compare it with the original."""
    _, scores = evidence.of(model)
    return {name: scores[name] for name in primary(scores) if not experiment.attacks[name].needs_original}


def _cross_fitted(experiment: Experiment) -> list[str]:
    return [name for name, attack in experiment.attacks.items() if attack.cross_fitted]
