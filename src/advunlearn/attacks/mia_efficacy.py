"""The attack of SalUn's MIA-efficacy (Fan et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from advunlearn.attacks.attack import Attack, Observations, Outputs
from advunlearn.attacks.held_out import check_folds, held_out_ranks
from advunlearn.attacks.statistics import confidence
from advunlearn.options import UserError, option
from advunlearn.runtime.arrays import Floats, Mask
from advunlearn.shadows.outputs import ShadowOutputs

if TYPE_CHECKING:
    from sklearn.svm import SVC


@dataclass
class MiaEfficacy(Attack):
    """An SVM on the confidence p_y, fitted to retain and test examples of the model, classifies the forget examples.

    SalUn (Fan et al. 2024) reports the share of them that it classifies as non-members, the metric
    `forget_called_nonmembers`: HIGH if they are forgotten. The target is the retrained model's value, not 0.5 or 1:
    that model is also confident on some examples that it was not trained on. The paper uses as many retain as test
    examples; if there are fewer, both classes still have the same weight here.

    Attributes:
        regularization: of the SVM, 1/C in scikit-learn's terms; the paper has C = 3 and the kernel exp(-|x - x'|^2).
        examples: the largest number per class that the SVM is fitted to, evenly spaced among all; its time grows with
            the square. The paper uses all.
        folds: of the cross-validation for the member scores, in which no test example is scored by a fit on it.

    References:
        [fan2024] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei and S. Liu, "SalUn: Empowering Machine Unlearning via
            Gradient-based Weight Saliency in Both Image Classification and Generation", ICLR 2024.
            https://arxiv.org/abs/2310.12508 (options as in its authors' code)
    """

    regularization: float = option(1 / 3, above=0)
    examples: int = option(2000, at_least=2)
    folds: int = option(5, at_least=2)

    needs_retain: ClassVar[bool] = True

    def check(self, members: Mask) -> None:
        """Raise if there are fewer members or non-members than folds; see `Attack.check`."""
        check_folds(self.folds, members, "attack.mia_efficacy.folds")

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return each example's rank, in (0, 1), among the held-out decision values of its fold; see `Attack.score`.

        Raises:
            UserError: without outputs for the retain set, or if there are fewer members or non-members than folds.
        """
        self.check(target.members)
        retain, judged_by = self._retain(target), _confidence(target)

        def decide(seen: Mask, judged: Mask) -> Floats:
            return np.asarray(self._fit(retain, judged_by[seen & ~target.members]).decision_function(judged_by[judged]))

        return {"": held_out_ranks(decide, target.members, target.labels, self.folds, rng)}

    def figures(self, target: Observations) -> dict[str, float]:
        """Return `forget_called_nonmembers`, by a fit on all test examples; see `Attack.figures`."""
        seen = _confidence(target)
        predicted = self._fit(self._retain(target), seen[~target.members]).predict(seen[target.members])
        return {"forget_called_nonmembers": float((predicted == 0).mean())}

    def _retain(self, target: Observations) -> Floats:
        """Return the confidence of as many retain examples as there are test examples, evenly spaced."""
        if target.retain is None:
            raise UserError("mia_efficacy needs the model's outputs for the retain set")
        return _evenly(_confidence(target.retain), int((~target.members).sum()))

    def _fit(self, members: Floats, nonmembers: Floats) -> SVC:
        from sklearn.svm import SVC

        members, nonmembers = (_evenly(side, self.examples) for side in (members, nonmembers))
        model = SVC(C=1 / self.regularization, gamma="auto", kernel="rbf", class_weight="balanced")
        return model.fit(np.concatenate([members, nonmembers]), np.repeat([1, 0], [len(members), len(nonmembers)]))


def _evenly(values: Floats, count: int) -> Floats:
    """Return so many of the values, evenly spaced, or all if there are not more."""
    return values[np.linspace(0, len(values) - 1, min(count, len(values))).astype(int)]


def _confidence(outputs: Outputs) -> Floats:
    """Return p_y, (n, 1), of each example's first query, the image itself."""
    return confidence(outputs.logits[:, :1], outputs.labels[:, None])
