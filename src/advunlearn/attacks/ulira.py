"""The likelihood-ratio audit of an unlearning algorithm (Hayes et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import STDERR, Attack, Observations
from advunlearn.attacks.lira import CENTERS, VARIANCES, default_variance, log_likelihood_ratio, ratio_error
from advunlearn.attacks.statistics import Array, query_margins
from advunlearn.options import UserError, option
from advunlearn.shadows.outputs import ShadowOutputs, UnlearnedOutputs


def cross_fitted_ratios(
    unlearned: Array,
    others: Array,
    forgotten: NDArray[np.bool_],
    *,
    partner: bool,
    center: str = "median",
    variance: str = "pooled",
) -> Array:
    """Return the log-likelihood ratios (2, k, n) of k shadow originals' forgotten examples, LARGE for `unlearned`.

    First of the unlearned model that forgot the example, then of the other model that it has to be told from, both by
    the same two normals: IN those `unlearned` that forgot the example, OUT those `others` whose original never saw it.
    Models 2j and 2j + 1 are complementary. The normals that judge the even pairs are fitted on the odd pairs, and the
    other way round: two folds and not more, because only then `metrics.auc_over_models` knows how far the scores of one
    fold depend on those of the other. NaN where an example was not forgotten, or where no model is on a side.

    Args:
        unlearned: (k, n, q) logit margins, k even.
        others: (k, n, q), those of what the unlearned models are told from.
        forgotten: (k, n), True where the original was trained on the example and forgot it, False where it never saw
            it.
        partner: is the other model the same original's (False) or its complement's (True), which never saw the example?
        center, variance: see `log_likelihood_ratio`.

    Raises:
        ValueError: as `log_likelihood_ratio`, for fewer than four models or an odd number, and if two complementary
            models forgot the same example.
    """
    if len(unlearned) < 4 or len(unlearned) % 2:
        raise UserError(f"an even number of originals is needed, at least 4, got {len(unlearned)}")
    if (forgotten[::2] & forgotten[1::2]).any():
        raise UserError("complementary originals must not forget the same example")
    fold = np.arange(len(unlearned)) // 2 % 2
    shadows = np.where(forgotten[..., None], unlearned, others)
    ratios = np.full((2, *forgotten.shape), np.nan)
    for judge in range(len(unlearned)):
        asked = forgotten[judge]
        rest = fold != fold[judge]
        judged = unlearned[judge], others[judge ^ 1 if partner else judge]
        for side, target in enumerate(judged):
            ratios[side, judge, asked] = log_likelihood_ratio(
                target[asked], shadows[rest][:, asked], forgotten[rest][:, asked], center=center, variance=variance
            )
    return ratios


@dataclass
class ULiRA(Attack):
    """Likelihood-ratio audit of the unlearner, by shadow originals that it unlearns with the same options.

    It asks two questions, both two-sided, because over-unlearning gives an example away as under-unlearning does.

    `privacy`: was the example ever a member? The unlearned models that forgot it against the unlearned models that
    never saw it. This is also the member score that each of the run's own models gets.

    `efficacy`: is the model unlearned or retrained? The unlearned models that forgot the example against models
    retrained without it. A single model's test examples are no negatives to this question, so only `audit` asks it.

    The shadow originals are split into two folds by complementary pairs: no model that comes from a judged original or
    from its complement has a part in the normals that judge it. Retrained models in the place of the unlearned ones
    must give an AUC of one half in both questions: that is the audit's test of itself.

    Attributes:
        center: of each example's shadow margins.
        variance: see `log_likelihood_ratio`; `auto` chooses by the number of shadow originals.

    References:
        [hayes2024] J. Hayes, I. Shumailov, E. Triantafillou, A. Khalifa and N. Papernot, "Inexact Unlearning Needs More
            Careful Evaluations to Avoid a False Sense of Privacy", IEEE SaTML 2025. https://arxiv.org/abs/2403.01218
            (U-LiRA; the folds by pairs and the two questions are this project's)
        [carlini2022] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramer, "Membership Inference Attacks
            From First Principles", IEEE Symposium on Security and Privacy 2022. https://arxiv.org/abs/2112.03570 (the
            likelihood ratio: algorithm 1)
    """

    center: str = option("median", choices=CENTERS)
    variance: str = option("auto", choices=("auto", *VARIANCES))

    needs_originals: ClassVar[bool] = True

    def score(
        self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return the log-likelihood ratios of `privacy` and their standard errors; see `Attack.score`.

        Raises:
            ValueError: without shadow models.
        """
        if shadows is None:
            raise UserError("ulira needs shadow originals")
        known = np.asarray(shadows.membership.any(0))  # on the others some originals may be trained
        arguments = (
            query_margins(target.logits, target.labels)[known],
            query_margins(shadows.logits, target.labels)[:, known],
            shadows.membership[:, known],
        )
        scores = {}
        for name, compute in (("", log_likelihood_ratio), (STDERR, ratio_error)):
            scores[name] = np.full(len(known), np.nan)
            scores[name][known] = compute(*arguments, **self._options(len(shadows.logits)))
        return scores

    def audit(self, shadows: UnlearnedOutputs, labels: NDArray[np.int64]) -> dict[str, dict[str, Array]]:
        """Return the cross-fitted ratios of both questions, for every model in the place of the unlearned one.

        See `Attack.audit`.
        """
        retrained = query_margins(shadows.retrained, labels)
        models = {
            "original": query_margins(shadows.original, labels),
            "retrained": query_margins(shadows.retrained_again, labels),
            "unlearned": query_margins(shadows.logits, labels),
        }
        options = self._options(len(retrained) // 2)

        def ask(*, partner: bool) -> dict[str, Array]:
            return {
                name: cross_fitted_ratios(
                    margins, margins if partner else retrained, shadows.membership, partner=partner, **options
                )
                for name, margins in models.items()
            }

        return {"efficacy": ask(partner=False), "privacy": ask(partner=True)}

    def _options(self, models: int) -> dict[str, Any]:
        variance = self.variance if self.variance != "auto" else default_variance(models, both=True)
        return {"center": self.center, "variance": variance}
