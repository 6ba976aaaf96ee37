"""Score vectors s(x, y; theta): what an auditor sees of an example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.options import UserError
from advunlearn.runtime.devices import to_device
from advunlearn.shadows.outputs import ShadowOutputs


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_y - logsumexp_{j != y} z_j, (n,): the log-odds of the true class."""
    own = labels.unsqueeze(1)
    return logits.gather(1, own).squeeze(1) - logits.scatter(1, own, -torch.inf).logsumexp(1)


def _loss(margin: Tensor) -> Tensor:
    return F.softplus(-margin)


def _entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


COLUMNS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of logits (n, c) and their margins (n,)
    "logits_loss": lambda logits, margin: torch.cat([logits, _loss(margin)[:, None]], 1),
    "loss": lambda logits, margin: _loss(margin)[:, None],
    "margin": lambda logits, margin: margin[:, None],
    "loss_margin": lambda logits, margin: torch.stack([_loss(margin), margin], 1),
    "margin_entropy": lambda logits, margin: torch.stack([margin, _entropy(logits)], 1),
}


# Degrees of freedom by which an example's variance is drawn to the common one. Simulated with 4 to 32 models, 3,000
# examples and log-deviations spread by .2 and by .5: from 3 to 12 the AUC of the ratio is within .002 of the best
# choice, at 6 within .001; without a prior it is up to .015 lower.
_PRIOR = 6.0


@dataclass(frozen=True)
class Evidence:
    """Logit margins as log-likelihood ratios of IN against OUT: `slope` (n,) times the distance from `centre` (n,).

    Both are on the CPU.
    """

    centre: Tensor
    slope: Tensor

    def ratio(self, margins: Tensor) -> Tensor:
        """Return log N(margin; in, s^2) - log N(margin; out, s^2), (n,).

        The centre is (in + out) / 2 and the slope (in - out) / s^2.
        """
        slope, centre = (to_device(each, margins.device) for each in (self.slope, self.centre))
        return slope * (margins - centre)

    def scores(self, margins: Tensor) -> Tensor:
        """Return the ratios as a column of scores, (n, 1)."""
        return self.ratio(margins)[:, None]

    def subset(self, index: Tensor) -> Evidence:
        """Return the evidence of the examples at these positions."""
        return Evidence(self.centre[index], self.slope[index])


def reference_margins(outputs: Sequence[ShadowOutputs], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the logit margins (k, n), float64, of reference models, and where the example is IN, (k, n) of bool.

    Args:
        outputs: of one set of reference models, for each part of the examples.
        labels: of each part, on the CPU.
    """
    classes = torch.cat(list(labels))
    inside = torch.cat([torch.from_numpy(each.membership) for each in outputs], 1)
    logits = torch.cat([torch.from_numpy(each.logits[:, :, 0]) for each in outputs], 1).double()
    return torch.stack([logit_margin(each, classes) for each in logits]), inside


def shrunk_variance(squares: Tensor, freedom: Tensor) -> Tensor:
    """Return each example's variance (n,), shrunk towards the common one.

    Args:
        squares: (n,), sums of squared residuals.
        freedom: (n,), their degrees of freedom.
    """
    common = squares.sum() / freedom.sum()
    return (squares + _PRIOR * common) / (freedom + _PRIOR)


def reference_evidence(outputs: Sequence[ShadowOutputs], labels: Sequence[Tensor]) -> Evidence:
    """Return the evidence of reference models on each example, float64, the parts concatenated.

    A few models give little information about one example. Its variance is shrunk towards the variance of all
    examples. The distance between its IN and OUT means is shrunk towards that of examples with a similar OUT mean, in
    proportion to the noise in that distance. An example that is OUT for every model gets that expected distance.

    Args:
        outputs: of one set of reference models, for each part.
        labels: of each part, (n,), on the CPU.

    Raises:
        UserError: if an example is IN for every reference model.
    """
    margins, inside = reference_margins(outputs, labels)
    counts = [side.sum(0).double() for side in (inside, ~inside)]
    if not bool((counts[1] > 0).all()):
        raise UserError("every reference model was trained on some example; use more of them (auditor.references)")
    within, without = (
        margins.masked_fill(~side, 0.0).sum(0) / count.clamp(min=1)
        for side, count in zip((inside, ~inside), counts, strict=True)
    )
    squares = (margins - torch.where(inside, within, without)).square().sum(0)
    freedom = counts[0].clamp(min=1) + counts[1] - 2
    common = squares.sum() / freedom.sum()
    variance = shrunk_variance(squares, freedom)
    seen = counts[0] > 0
    noise = (common / counts[0][seen] + common / counts[1][seen]).mean()
    gain = _drawn_together(within - without, without, seen, noise)
    centre = torch.where(seen, (within + without) / 2, without + gain / 2)
    return Evidence(centre, gain / variance)


def _drawn_together(gain: Tensor, without: Tensor, seen: Tensor, noise: Tensor) -> Tensor:
    """Return the distances of IN and OUT (n,), each shrunk towards a parabola over the OUT mean, fitted to the seen.

    None is below a twentieth of the mean distance, so every margin counts, and with the right sign.
    """
    curve = torch.stack([torch.ones_like(without), without, without.square()], 1)
    fitted = curve @ (torch.linalg.pinv(curve[seen]) @ gain[seen])
    spread = (gain - fitted)[seen].square().mean()
    kept = ((spread - noise) / spread.clamp_min(torch.finfo(spread.dtype).tiny)).clamp(0, 1)
    drawn = torch.where(seen, fitted + kept * (gain - fitted), fitted)
    # In the simulation of `_PRIOR` the AUC is the same within .001 for every share from 0 to a half.
    return torch.maximum(drawn, 0.05 * gain[seen].mean().abs())


def score_columns(logits: Tensor, labels: Tensor, features: str) -> Tensor:
    """Return the float64 score vectors (n, d) of logits (n, c), differentiable in them.

    `logits_loss` is the paper's, c + 1 columns; `loss`, `margin` (the logit margin), `loss_margin` and `margin_entropy`
    have one or two, for forget sets too small to fit many columns.
    """
    logits = logits.double()
    return COLUMNS[features](logits, logit_margin(logits, labels))
