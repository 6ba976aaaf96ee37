"""The game's auditor as a likelihood-ratio attack: LiRA's idea inside the game."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.options import option


@dataclass
class LikelihoodRatio(CrossValidated):
    """The likelihood ratio of an example's logit margin, less the one that reference models expect (Carlini et al.
    2022, inside the game).

    Reference models that never saw an example say what margin a model without it would have. What the model's margin
    has beyond that is normal for forget and for audit examples, with a mean and a variance each, which the auditor
    fits; the utility is minus the mean log loss of its log-likelihood ratio over held-out examples, in nats. It is
    two-sided: an example forgotten too hard is evidence as well. Audit examples are held against the same reference
    models, so that it does not matter if those are weaker than the model.

    Attributes:
        references: models, an even number; trained once on random halves of the training and audit examples, they serve
            every request to forget, and are none of an attack's shadow models.
        shrinkage: examples' worth by which each variance is drawn towards the common one.
    """

    references: int = option(16, at_least=2)
    shrinkage: float = option(10.0, above=0)
    groups: str = option("pooled", choices=("auto", "class", "pooled"))

    def conflicts(self) -> list[str]:
        """Refuse an odd number of reference models."""
        odd = self.references % 2
        return [f"references must be an even whole number, got {self.references} (try references=16)"] if odd else []

    def reference_models(self) -> int:
        """Return their number; see `Auditor.reference_models`."""
        return self.references

    def fit(self, features: Tensor, sides: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
        """Return the log-likelihood ratios (b, n), summed over columns; see `CrossValidated.fit`."""
        inside, outside = train & (sides > 0), train & (sides < 0)
        means, squares, counts = zip(*(_moments(features, side) for side in (inside, outside)), strict=True)
        common = (squares[0] + squares[1]) / (counts[0] + counts[1]).clamp(min=1)
        prior = self.shrinkage * common
        variances = [(square + prior) / (count + self.shrinkage) for square, count in zip(squares, counts, strict=True)]
        # A problem without examples, or with equal ones alone, has no variance, and says nothing.
        variances = [torch.where(common > 0, variance, 1.0) for variance in variances]
        densities = [
            (-0.5 * (features - mean).square() / variance - 0.5 * variance.log()).sum(-1)
            for mean, variance in zip(means, variances, strict=True)
        ]
        return (densities[0] - densities[1]) * train.any(1, keepdim=True)


def _moments(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and sum of squares about it, (b, 1, d), and the count (b, 1, 1), of the rows that the mask keeps."""
    weights = mask[..., None].double()
    count = weights.sum(1, keepdim=True)
    mean = (weights * features).sum(1, keepdim=True) / count.clamp(min=1)
    return mean, (weights * (features - mean).square()).sum(1, keepdim=True), count
