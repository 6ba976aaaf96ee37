"""A trained attack: the field's simple membership attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.held_out import balanced_weights, check_folds, held_out_ranks
from advunlearn.attacks.statistics import cross_entropy
from advunlearn.options import option
from advunlearn.runtime.arrays import Floats, Mask
from advunlearn.shadows.outputs import ShadowOutputs

MODELS = ("logistic", "svm", "boosting")


@dataclass
class Classifier(Attack):
    """A classifier of [logits, loss], told which examples are members on some folds and judged on the others.

    Attributes:
        model: `logistic` regression, a linear `svm` (squared hinge), or gradient `boosting` of trees.
        folds: of the cross-validation, stratified by class and membership.
        regularization: strength of the L2 penalty on weights, or on the trees' leaves; 1/C in scikit-learn's terms.

    References:
        [shokri2017] R. Shokri, M. Stronati, C. Song and V. Shmatikov, "Membership Inference Attacks Against Machine
            Learning Models", IEEE Symposium on Security and Privacy 2017. https://arxiv.org/abs/1610.05820 (the idea of
            a trained attack)
        [startingkit2023] NeurIPS 2023 Machine Unlearning Challenge, starting kit.
            https://github.com/unlearning-challenge/starting-kit (`simple_mia`: a logistic regression of the loss; here
            the logits are features as well)
    """

    model: str = option("logistic", choices=MODELS)
    folds: int = option(5, at_least=2)
    regularization: float = option(1.0, above=0)

    cross_fitted: ClassVar[bool] = True

    def check(self, members: Mask) -> None:
        """Refuse fewer members or non-members than folds; see `Attack.check`."""
        check_folds(self.folds, members, "attack.classifier.folds")

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return each example's rank, in (0, 1), among the held-out decision values of its fold; see `Attack.score`.

        Raises:
            ValueError: if there are fewer members or non-members than folds.
        """
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import StandardScaler

        self.check(target.members)
        logits = target.logits.astype(np.float64)
        labels = np.repeat(target.labels[:, None], logits.shape[1], axis=1)
        features = np.concatenate([logits.reshape(len(logits), -1), cross_entropy(logits, labels)], axis=1)
        model = Pipeline([("scale", StandardScaler()), ("fit", self._estimator())])

        def decide(seen: Mask, judged: Mask) -> Floats:
            weights = balanced_weights(target.members[seen], target.labels[seen])
            model.fit(features[seen], target.members[seen], fit__sample_weight=weights)
            return np.asarray(model.decision_function(features[judged]))

        return {"": held_out_ranks(decide, target.members, target.labels, self.folds, rng)}

    def _estimator(self) -> Any:
        if self.model == "boosting":
            from sklearn.ensemble import HistGradientBoostingClassifier

            return HistGradientBoostingClassifier(l2_regularization=self.regularization, early_stopping=False)
        if self.model == "svm":
            from sklearn.svm import LinearSVC

            return LinearSVC(C=1 / self.regularization, dual=False)
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=1 / self.regularization, max_iter=1000)
