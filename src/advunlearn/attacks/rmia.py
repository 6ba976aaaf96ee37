"""The robust membership-inference attack (Zarifzadeh et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import STDERR, Attack, Observations, Outputs
from advunlearn.attacks.jackknife import jackknife_error
from advunlearn.attacks.statistics import share_below
from advunlearn.options import UserError, option
from advunlearn.runtime.arrays import Floats
from advunlearn.shadows.outputs import ShadowOutputs

MODES = ("online", "offline")


def relative_score(
    target: Floats,
    references: Floats,
    membership: NDArray[np.bool_],
    population: Floats,
    population_references: Floats,
    *,
    mode: str = "online",
    gamma: float = 1.0,
    a: float = 0.3,
    trim: float = 0.0,
) -> Floats:
    """Return each example's share (n,) of a population that it beats, LARGE for members, the mean over its queries.

    Example x beats z where p(x | target) / p(x) > gamma p(z | target) / p(z), strictly, as in the authors' code
    (Zarifzadeh et al. 2024). With one query the score ranks the examples as p(x | target) / p(x) does, in steps of one
    over z: what lies above or below all of a small population is tied.
    An example that has no reference model on a side that is needed gets NaN.

    Args:
        target: (n, q) log-probabilities of the true class under the attacked model, n examples, q queries each.
        references: (k, n, q), the same under k reference models.
        membership: (k, n), True where the example is in the reference model's training set.
        population, population_references: (z, q) and (h, z, q), the same of non-members; the h reference models of
            `offline` never saw them.
        mode: how p(x) is estimated. `online` is the mean probability over all reference models, of which as many should
            have seen the example as not; `offline` is ((1 + a) p_out + 1 - a) / 2, where p_out is the mean over those
            that did not see it.
        gamma: how much larger x's ratio has to be, at least 1.
        a: in [0, 1], how the probability under models that saw an example grows with that under those that did not:
            p_in = a p_out + 1 - a.
        trim: in [0, 0.5), the share of reference models that the mean leaves out at each end.

    Raises:
        ValueError: for shapes that do not fit, an empty population, what cannot be a log-probability, and bad options.
    """
    _check(target, references, membership, population, population_references)
    _check_options(mode, gamma, a, trim)
    seen = np.zeros(population_references.shape[:2], dtype=bool)
    own = target - _log_marginal(references, membership, mode, a, trim)
    if mode == "online":
        own[membership.all(0) | ~membership.any(0)] = np.nan
    others = population - _log_marginal(population_references, seen, mode, a, trim)
    return share_below(own - np.log(gamma), others)


def relative_error(
    target: Floats,
    references: Floats,
    membership: NDArray[np.bool_],
    population: Floats,
    population_references: Floats,
    **options: Any,
) -> Floats:
    """Return the standard error (n,) of each score over the k reference models; see `jackknife_error`.

    The population's reference models are the same k. An example with fewer than two of them on a side that is needed
    gets NaN. See `relative_score` for arguments and errors.
    """
    models = np.arange(len(references))
    if len(models) == 1:
        return np.full(len(target), np.nan)
    without = [
        relative_score(target, references[rest], membership[rest], population, population_references[rest], **options)
        for rest in (models != left_out for left_out in models)
    ]
    return jackknife_error(np.stack(without), membership)


def _log_marginal(references: Floats, membership: NDArray[np.bool_], mode: str, a: float, trim: float) -> Floats:
    """Return log p(x), (n, q), from log-probabilities (k, n, q); NaN without a model to estimate it from."""
    if mode == "online":
        return _log_mean(references, np.ones_like(membership), trim)
    outside = _log_mean(references, ~membership, trim)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.logaddexp(np.log((1 + a) / 2) + outside, np.log((1 - a) / 2))


def _log_mean(references: Floats, used: NDArray[np.bool_], trim: float) -> Floats:
    """Return the logarithm of the mean probability over the models that are `used` (k, n), without outliers."""
    in_order = np.sort(np.where(used[..., None], references, np.inf), axis=0)
    cut = np.floor(trim * used.sum(0))
    place = np.arange(len(references))[:, None]
    kept = (place >= cut) & (place < used.sum(0) - cut)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.logaddexp.reduce(np.where(kept[..., None], in_order, -np.inf), axis=0)
        return np.asarray(total - np.log(kept.sum(0))[:, None])


def _check(
    target: Floats,
    references: Floats,
    membership: NDArray[np.bool_],
    population: Floats,
    population_references: Floats,
) -> None:
    for name, model, others in (("", target, references), ("population ", population, population_references)):
        if model.ndim != 2 or others.ndim != 3 or others.shape[1:] != model.shape:
            raise UserError(
                f"{name}outputs (n, q) and {name}references (k, n, q) must fit together, got "
                f"{model.shape} and {others.shape}"
            )
        if len(others) == 0:
            raise UserError(f"at least one of {name}references is needed, got none")
        if not all(np.isfinite(each).all() and (each <= 0).all() for each in (model, others)):
            raise UserError("log-probabilities must be finite and at most 0")
    if membership.shape != references.shape[:2] or population.shape[1] != target.shape[1]:
        raise UserError(
            "membership must be (k, n) and the population must have the same queries, got "
            f"{membership.shape} and {population.shape}"
        )
    if len(population) == 0:
        raise UserError("population needs at least one non-member, got none")


def _check_options(mode: str, gamma: float, a: float, trim: float) -> None:
    if mode not in MODES:
        raise UserError(f"mode must be one of {', '.join(MODES)}, got {mode}")
    if not (1 <= gamma < np.inf and 0 <= a <= 1 and 0 <= trim < 0.5):
        raise UserError(f"gamma >= 1, 0 <= a <= 1 and 0 <= trim < 0.5 must hold, got {gamma}, {a} and {trim}")


@dataclass
class RMIA(Attack):
    """Robust membership inference: the share of non-members that the example's likelihood ratio exceeds.

    It works with few shadow models, even two. The score is a multiple of one over the size of the population, the
    selection set: with a small one the highest scores are tied, and low false-positive rates cannot be measured.

    Attributes:
        mode: `online` uses shadow models of which half were trained on the example; `offline` uses only those that were
            not.
        gamma: the factor by which the ratio must exceed theirs; 1 has the best resolution with a small population.
        a: of the offline estimate, see `relative_score`; the authors use 0.3 for CIFAR-10, 0.6 for CIFAR-100, and 1 if
            nothing is known.
        trim: share of shadow models left out at each end, as outliers; the authors use 0.2.

    References:
        [zarifzadeh2024] S. Zarifzadeh, P. Liu and R. Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML
            2024. https://arxiv.org/abs/2312.03262 (formulas in `relative_score`)
    """

    mode: str = option("online", choices=MODES)
    gamma: float = option(1.0, at_least=1)
    a: float = option(0.3, at_least=0, at_most=1)
    trim: float = option(0.2, at_least=0, below=0.5)

    needs_shadows: ClassVar[bool] = True
    needs_population: ClassVar[bool] = True

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return the shares and their standard errors; see `Attack.score`.

        Raises:
            ValueError: without shadow models or a population.
        """
        if shadows is None or target.population is None:
            raise UserError("rmia needs shadow models and a population")
        arguments = (
            -target.losses(),
            _log_probabilities(shadows.logits, target.labels),
            shadows.membership,
            -target.population.losses(),
            _log_probabilities(shadows.population, target.population.labels),
        )
        options: dict[str, Any] = {"mode": self.mode, "gamma": self.gamma, "a": self.a, "trim": self.trim}
        return {"": relative_score(*arguments, **options), STDERR: relative_error(*arguments, **options)}


def _log_probabilities(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Floats:
    """Return (k, n, q) from logits (k, n, q, c) of k models and labels (n,)."""
    return np.stack([-Outputs(each, labels).losses() for each in logits])
