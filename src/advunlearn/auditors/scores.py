"""Score vectors s(x, y; theta): what an auditor sees of an example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.training.shadows import Shadows


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


def reference_margin(said: Shadows, labels: Tensor) -> Tensor:
    """Return the mean logit margin (n,), float64, of each example under the reference models that never saw it.

    Raises:
        ValueError: if every one of them saw some example.
    """
    outside = torch.from_numpy(~said.membership).to(labels.device)
    logits = torch.from_numpy(said.logits[:, :, 0]).to(labels.device).double()
    margins = torch.stack([logit_margin(each, labels) for each in logits])
    if not bool(outside.any(0).all()):
        raise ValueError("an example was seen by every reference model; take more of them (auditor.references)")
    return torch.where(outside, margins, 0.0).sum(0) / outside.sum(0)


def score_columns(logits: Tensor, labels: Tensor, features: str) -> Tensor:
    """Return the float64 score vectors (n, d) of logits (n, c), differentiable in them.

    `logits_loss` is the paper's, c + 1 columns; `loss`, `margin` (the logit margin), `loss_margin` and `margin_entropy`
    have one or two, for forget sets too small to fit many columns.
    """
    logits = logits.double()
    return COLUMNS[features](logits, logit_margin(logits, labels))
