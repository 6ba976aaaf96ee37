"""A trained attack: the field's simple membership attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
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
        folds: of the cross-validation, stratified by class and membership.
        regularization: strength of the L2 penalty, 1/C in scikit-learn's terms.
    """

    folds: int = option(5, at_least=2)
    regularization: float = option(1.0, above=0)

    def check(self, members: NDArray[np.bool_]) -> None:
        """Refuse fewer members or non-members than folds; see `Attack.check`."""
        fewest = int(min(members.sum(), (~members).sum()))
        if fewest < self.folds:
            raise ValueError(
                f"attack.classifier.folds={self.folds} needs as many members and non-members, got {fewest}"
            )

    def score(
        self, target: Observations, shadows: Shadows | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return each example's rank, in (0, 1), among the held-out decision values of its fold; see `Attack.score`.

        Raises:
            ValueError: if there are fewer members or non-members than folds.
        """
        self.check(target.members)
        logits = target.logits.astype(np.float64)
        labels = np.repeat(target.labels[:, None], logits.shape[1], axis=1)
        features = np.concatenate([logits.reshape(len(logits), -1), cross_entropy(logits, labels)], axis=1)
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=1 / self.regularization, class_weight="balanced", max_iter=1000)
        )
        # Stratified by class as well: where a class has more of its members in one fold, a fit on the others takes it
        # for a class of non-members, and an attack that knows nothing would seem to rank members last.
        fold = np.empty(len(features), dtype=int)
        fold[np.lexsort((rng.random(len(fold)), target.labels, target.members))] = np.arange(len(fold)) % self.folds
        score = np.empty(len(features))
        for number in range(self.folds):
            seen, judged = fold != number, fold == number
            decision = model.fit(features[seen], target.members[seen]).decision_function(features[judged])
            # Each fit has its own zero, which leans away from what it holds out; ranks have none.
            score[judged] = rankdata(decision) / (judged.sum() + 1)
        return {"": score}
