"""The game's auditor that asks, example by example, whether the model looks retrained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.auditors.auditor import Audit, Auditor, ReferenceRows
from advunlearn.auditors.cross_validated import standardise
from advunlearn.auditors.folds import classes_of
from advunlearn.auditors.scores import reference_margins, shrunk_variance
from advunlearn.options import UserError, option
from advunlearn.runtime.devices import to_device
from advunlearn.shadows.outputs import ShadowOutputs


@dataclass(frozen=True)
class Expected:
    """The logit margins that a retrained model is expected to have: `target` (n,), in units of `deviation` (n,).

    The distance from the target should depend neither on the mean margin of retrained models nor on how far the target
    is from that mean: `levels` (n, 2) are these two, standardised. All are on the CPU.
    """

    target: Tensor
    deviation: Tensor
    levels: Tensor

    def scores(self, margins: Tensor) -> Tensor:
        """Return the distances of margins (n,) from their targets in deviations, and the levels, (n, 3)."""
        device = margins.device
        target, deviation, levels = (to_device(each, device) for each in (self.target, self.deviation, self.levels))
        return torch.cat([((margins - target) / deviation)[:, None], levels], 1)

    def subset(self, index: Tensor) -> Expected:
        """Return what is expected of the examples at these positions."""
        return Expected(self.target[index], self.deviation[index], self.levels[index])


@dataclass
class Calibrated(Auditor):
    """It asks whether each margin is one that a retrained model would have; two-sided, with the spread of retraining.

    The reference models are trained on random draws of training and audit examples, each as large as the retain set.
    Those that never saw example x give the mean m(x) and the deviation s(x) of its margin after retraining. A retrained
    model does not have the mean: it has one draw. So the target of a forget example is one draw as well,

        t(x) = m(x) + s(x) e(x), with e(x) ~ N(0, 1) drawn once per example

    The draws are stratified: of n, one lies in each n-th of the normal distribution. Their mean is then not far from 0
    by chance, which an attack on all examples together would detect.

    Audit examples are to stay as they are, except for what a smaller training set changes: t(x) = m(x) + r(x), where
    r(x) is what the original model's margin differs from its weighted least-squares line over m(x).

    The auditor bets on each example that its distance d(x) = (margin - t(x)) / s(x) is not zero, with a stake w(x). A
    small distance is detected as well if all examples share it. So the auditor also bets on all examples together: that
    the mean distance is not zero; that the distance depends on m(x); and that it depends on t(x) - m(x), as it does if
    margins have too little spread. Let f(x) = (1, m(x), (t(x) - m(x)) / s(x)), the last two standardised, and v the
    stakes of these three bets. The auditor chooses the stakes, each of at most `stake` in size:

        M = max over w, v of mean [w(x) d(x) - cost w(x)^2 / 2] + v' mean f(x) d(x) - |v|^2 / 2

    the mean of its values on forget examples and on audit examples. The best stakes are d(x) / `cost` and mean f(x)
    d(x), each limited to `stake`, and M is then a sum of Huber functions. By the envelope theorem the gradient through
    the best stakes is zero, so that of M with the stakes held constant is exact.

    It fails if the references say little of the request: with few of them, m(x) is a mean of few margins. If whole
    classes are forgotten, the references are trained without these classes and serve no other request.

    Attributes:
        references: models, a multiple of 2 and at least 4.
        stake: the largest stake, in deviations; it limits the gradient of examples that are far from their target.
        cost: of a bet on one example; that of a bet on all examples together is 1.

    References:
        [huber1964] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35(1),
            1964. https://doi.org/10.1214/aoms/1177703732 (the function; its use as an auditor is this project's)
        [carlini2022] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramer, "Membership Inference Attacks
            From First Principles", IEEE Symposium on Security and Privacy 2022. https://arxiv.org/abs/2112.03570 (a
            normal distribution of the margin for each example: section V)
        [mckay1979] M. D. McKay, R. J. Beckman and W. J. Conover, "A Comparison of Three Methods for Selecting Values of
            Input Variables in the Analysis of Output from a Computer Code", Technometrics 21(2), 1979.
            https://doi.org/10.1080/00401706.1979.10489755 (stratified sampling)
        [hayes2024] J. Hayes, I. Shumailov, E. Triantafillou, A. Khalifa and N. Papernot, "Inexact Unlearning Needs More
            Careful Evaluations to Avoid a False Sense of Privacy", IEEE SaTML 2025. https://arxiv.org/abs/2403.01218
            (the question 'unlearned or retrained?', which this auditor asks inside the game)
    """

    references: int = option(64, at_least=4, even=True)
    stake: float = option(0.1, above=0)
    cost: float = option(3.0, above=0)

    uninformed: ClassVar[float] = 0.0

    def reference_models(self) -> int:
        """Return their number; see `Auditor.reference_models`."""
        return self.references

    def reference_rows(self) -> ReferenceRows:
        """Return `retained`; see `Auditor.reference_rows`."""
        return "retained"

    def evidence(
        self,
        outputs: Sequence[ShadowOutputs],
        labels: Sequence[Tensor],
        original: Callable[[], Tensor],
        generator: torch.Generator,
    ) -> Expected:
        """Return the targets and deviations of forget and audit examples; see `Auditor.evidence`.

        Raises:
            UserError: if fewer than two models never saw an example.
        """
        margins, inside = reference_margins(outputs, labels)
        mean, variance = expected(margins, ~inside)
        forgotten = len(labels[0])
        draws = stratified_normal(forgotten, generator)
        kept = mean[forgotten:] + residuals(original()[forgotten:], mean[forgotten:], 1 / variance[forgotten:])
        deviation = variance.sqrt()
        target = torch.cat([mean[:forgotten] + deviation[:forgotten] * draws, kept])
        sides = torch.stack([mean, (target - mean) / deviation], 1).split([forgotten, len(mean) - forgotten])
        levels = [standardise(side, classes_of(torch.zeros(len(side)))) for side in sides]
        return Expected(target, deviation, torch.cat(levels))

    def utility(
        self,
        member_scores: Tensor,
        nonmember_scores: Tensor,
        member_labels: Tensor,
        nonmember_labels: Tensor,
        generator: torch.Generator,
    ) -> Audit:
        """Return the value of the best stakes; see `Auditor.utility`.

        The accuracy is that of calling an example above its target a member.
        """
        values, above = [], []
        for scores in (member_scores, nonmember_scores):
            distance, levels = scores[:, 0], scores[:, 1:]
            whole = torch.cat([distance.mean()[None], (levels * distance[:, None]).mean(0)])
            values.append(best_bet(distance, self.stake, self.cost).mean() + best_bet(whole, self.stake, 1.0).sum())
            above.append(((distance > 0).double() + 0.5 * (distance == 0)).mean())
        return Audit(utility=(values[0] + values[1]) / 2, accuracy=(above[0] + 1 - above[1]) / 2)


def best_bet(gain: Tensor, stake: float, cost: float) -> Tensor:
    """Return the maximum over w, at most `stake` in size, of w gain - cost w^2 / 2; gain of any shape."""
    return F.huber_loss(gain, torch.zeros_like(gain), delta=stake * cost, reduction="none") / cost


def stratified_normal(count: int, generator: torch.Generator) -> Tensor:
    """Return draws (count,) of the standard normal, one from each of `count` parts of equal probability, in any order.

    Each by itself is normal; together they have nearly its mean and its spread ([mckay1979]).
    """
    part = torch.randperm(count, generator=generator)
    inside = torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.special.ndtri(((part + inside) / count).clamp(1e-12, 1 - 1e-12))


def expected(margins: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (n,) and the variance (n,) of margins (k, n) over the models that are `outside` (k, n).

    Each variance is shrunk towards the common one; see `shrunk_variance`.

    Raises:
        UserError: if an example has fewer than two such models.
    """
    count = outside.sum(0).double()
    if not bool((count >= 2).all()):
        raise UserError(
            "fewer than two reference models were trained without some example; use more of them (auditor.references)"
        )
    mean = margins.masked_fill(~outside, 0.0).sum(0) / count
    squares = (margins - mean).square().masked_fill(~outside, 0.0).sum(0)
    return mean, shrunk_variance(squares, count - 1)


def residuals(margins: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
    """Return the residuals (n,) of margins (n,) from their weighted least-squares line over `mean` (n,)."""
    design = torch.stack([torch.ones_like(mean), mean], 1)
    root = weights.sqrt()[:, None]
    line = torch.linalg.pinv(design * root) @ (margins[:, None] * root)
    return margins - (design @ line)[:, 0]
