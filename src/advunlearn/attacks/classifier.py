"""A trained attack: the field's simple membership attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.statistics import cross_entropy
from advunlearn.options import option
from advunlearn.training.shadows import Shadows


@dataclass
class Classifier(Attack):
    """Logistic regression on [logits, loss], told which examples are members on some folds and judged on the others.

    Attributes:
        folds: of the cross-validation, stratified by membership.
        regularization: strength of the L2 penalty, 1/C in scikit-learn's terms.
    """

    folds: int = option(5, at_least=2)
    regularization: float = option(1.0, above=0)

    def score(
        self, target: Observations, shadows: Shadows | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return the held-out decision values; see `Attack.score`.

        Raises:
            ValueError: if there are fewer members or non-members than folds.
        """
        fewest = int(min(target.members.sum(), (~target.members).sum()))
        if fewest < self.folds:
            raise ValueError(f"attack.classifier.folds={self.folds} needs as many members and non-members, got {fewest}")
        logits = target.logits.astype(np.float64)
        labels = np.repeat(target.labels[:, None], logits.shape[1], axis=1)
        features = np.concatenate([logits.reshape(len(logits), -1), cross_entropy(logits, labels)], axis=1)
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=1 / self.regularization, class_weight="balanced", max_iter=1000)
        )
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=int(rng.integers(2**31)))
        return {"": cross_val_predict(model, features, target.members, cv=folds, method="decision_function")}
