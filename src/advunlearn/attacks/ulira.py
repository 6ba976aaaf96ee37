"""The likelihood-ratio audit of an unlearning algorithm (Hayes et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import STDERR, Attack, Observations
from advunlearn.attacks.lira import CENTERS, VARIANCES, log_likelihood_ratio, ratio_error, separation
from advunlearn.attacks.statistics import query_margins
from advunlearn.evaluation.attack_metrics import TENTH
from advunlearn.options import UserError, option
from advunlearn.runtime.arrays import Floats, Mask
from advunlearn.shadows.outputs import ShadowOutputs, UnlearnedOutputs


def cross_fitted_ratios(
    unlearned: Floats,
    others: Floats,
    forgotten: Mask,
    *,
    partner: bool,
    center: str = "median",
    variance: str = "student_t",
) -> Floats:
    """Return the log-likelihood ratios (2, k, n) of k shadow originals' forgotten examples, LARGE for `unlearned`.

    First for the unlearned model that forgot the example, then for the other model, with which it is compared, both by
    the same two normals: IN, the `unlearned` models that forgot the example; OUT, the `others` whose original was not
    trained on it. Models 2j and 2j + 1 are complementary. The normals for the even pairs are fitted on the odd pairs,
    and vice versa: with exactly two folds, `metrics.auc_over_models` knows how the scores of one fold depend on those
    of the other. NaN if an example was not forgotten, or without a model for one of the normals.

    Args:
        unlearned: (k, n, q) logit margins, k even.
        others: (k, n, q), those of the models with which they are compared.
        forgotten: (k, n), True if the original was trained on the example and forgot it, False if it was not trained
            on it.
        partner: whether the other model belongs to the complementary original, which was not trained on the example,
            or to the same original.
        center, variance: see `log_likelihood_ratio`.

    Raises:
        ValueError: as `log_likelihood_ratio`, for fewer than four models or an odd number, and if two complementary
            models forgot the same example.
    """
    fold = _folds(unlearned, forgotten)
    shadows = np.where(forgotten[..., None], unlearned, others)
    ratios = np.full((2, *forgotten.shape), np.nan)
    for judge in range(len(unlearned)):
        rows = forgotten[judge]
        rest = fold != fold[judge]
        judged = np.stack([unlearned[judge, rows], others[judge ^ 1 if partner else judge, rows]])
        ratios[:, judge, rows] = log_likelihood_ratio(
            judged, shadows[rest][:, rows], forgotten[rest][:, rows], center=center, variance=variance
        )
    return ratios


def most_vulnerable(
    unlearned: Floats,
    others: Floats,
    forgotten: Mask,
    *,
    share: float = 0.1,
    center: str = "median",
    variance: str = "student_t",
) -> Mask:
    """Return (k, n) bool: for each original, the examples that the unlearner forgets worst, by the other fold's models.

    They are the share of the examples, rounded up, with the largest `separation` of the models of one fold. The choice
    uses exactly the models to which the densities for the other fold are fitted, and none of those that are judged. So
    it cannot make their ratios larger by chance. A choice by the ratios of one fold would, because those of the other
    depend on the same models; see `cross_fitted_ratios`.

    Args:
        unlearned, others, forgotten, center, variance: see `cross_fitted_ratios`; `others` does not depend on
            `partner`.
        share: of the examples with a model on both sides of each fold.

    Raises:
        ValueError: as `cross_fitted_ratios`.
    """
    fold = _folds(unlearned, forgotten)
    shadows = np.where(forgotten[..., None], unlearned, others)
    chosen = np.zeros(forgotten.shape, bool)
    for judged in (0, 1):
        rest = fold != judged
        apart = separation(shadows[rest], forgotten[rest], center=center, variance=variance)
        count = int(np.ceil(share * np.isfinite(apart).sum()))
        best = np.argsort(-apart, kind="stable")[:count]  # NaN is last
        chosen[np.ix_(fold == judged, best)] = True
    return chosen


def _folds(unlearned: Floats, forgotten: Mask) -> NDArray[np.int64]:
    """Return the fold (k,) of each original: pairs of complementary originals alternate between the two."""
    if len(unlearned) < 4 or len(unlearned) % 2:
        raise UserError(f"an even number of originals is needed, at least 4, got {len(unlearned)}")
    if (forgotten[::2] & forgotten[1::2]).any():
        raise UserError("complementary originals must not forget the same example")
    return np.asarray(np.arange(len(unlearned)) // 2 % 2)


@dataclass
class ULiRA(Attack):
    """Likelihood-ratio audit of the unlearner, by shadow originals that it unlearns with the same options.

    It answers two questions, both two-sided, because over-unlearning is as detectable as under-unlearning.

    `privacy`: was the example ever a member? It compares unlearned models that forgot the example with unlearned models
    that were never trained on it. This is also the member score of each of the run's own models.

    `efficacy`: is the model unlearned or retrained? It compares unlearned models that forgot the example with models
    retrained without it. Test examples of a single model are not negatives for this question, so only `audit` answers
    it.

    `privacy_tenth` and `efficacy_tenth` ask the same of the most vulnerable tenth of the examples, which is chosen on
    other models than those that are judged; see `most_vulnerable`.

    The shadow originals are split into two folds by complementary pairs: the normals for an original are not fitted on
    any model of that original or of its complement. As a self-test, retrained models in place of the unlearned ones
    must give an AUC of 0.5 in both questions.

    Attributes:
        center: of each example's shadow margins.
        variance: see `log_likelihood_ratio`.

    References:
        [hayes2024] J. Hayes, I. Shumailov, E. Triantafillou, A. Khalifa and N. Papernot, "Inexact Unlearning Needs More
            Careful Evaluations to Avoid a False Sense of Privacy", IEEE SaTML 2025. https://arxiv.org/abs/2403.01218
            (U-LiRA; the folds by pairs and the two questions are this project's)
        [carlini2022] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramer, "Membership Inference Attacks
            From First Principles", IEEE Symposium on Security and Privacy 2022. https://arxiv.org/abs/2112.03570 (the
            likelihood ratio: algorithm 1)
    """

    center: str = option("median", choices=CENTERS)
    variance: str = option("student_t", choices=VARIANCES)

    needs_originals: ClassVar[bool] = True

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
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
            scores[name][known] = compute(*arguments, **self._options())
        return scores

    def audit(self, shadows: UnlearnedOutputs, labels: NDArray[np.int64]) -> dict[str, dict[str, Floats]]:
        """Return the cross-fitted ratios of both questions, for every model in the place of the unlearned one.

        See `Attack.audit`.
        """
        retrained = query_margins(shadows.retrained, labels)
        models = {
            "original": query_margins(shadows.original, labels),
            "retrained": query_margins(shadows.retrained_again, labels),
            "unlearned": query_margins(shadows.logits, labels),
        }
        options = self._options()

        def ask(*, partner: bool) -> tuple[dict[str, Floats], dict[str, Floats]]:
            whole, tenth = {}, {}
            for name, margins in models.items():
                compared = margins, margins if partner else retrained, shadows.membership
                whole[name] = cross_fitted_ratios(*compared, partner=partner, **options)
                tenth[name] = np.where(most_vulnerable(*compared, **options), whole[name], np.nan)
            return whole, tenth

        asked = {"efficacy": ask(partner=False), "privacy": ask(partner=True)}
        return {
            **{question: whole for question, (whole, _) in asked.items()},
            **{question + TENTH: tenth for question, (_, tenth) in asked.items()},
        }

    def _options(self) -> dict[str, Any]:
        return {"center": self.center, "variance": self.variance}
