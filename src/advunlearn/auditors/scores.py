"""Score vectors s(x, y; theta): what an auditor sees of an example."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_y - logsumexp_{j != y} z_j, (n,): the log-odds of the true class."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.softplus(-logit_margin(logits, labels))


def _entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


COLUMNS = {
    "logits_loss": lambda logits, labels: torch.cat([logits, _loss(logits, labels)[:, None]], 1),
    "loss": lambda logits, labels: _loss(logits, labels)[:, None],
    "margin": lambda logits, labels: logit_margin(logits, labels)[:, None],
    "loss_margin": lambda logits, labels: torch.stack([_loss(logits, labels), logit_margin(logits, labels)], 1),
    "margin_entropy": lambda logits, labels: torch.stack([logit_margin(logits, labels), _entropy(logits)], 1),
}


def score_columns(logits: Tensor, labels: Tensor, features: str) -> Tensor:
    """Return the float64 score vectors (n, d) of logits (n, c), differentiable in them.

    `logits_loss` is the paper's, c + 1 columns; `loss`, `margin` (the logit margin), `loss_margin` and `margin_entropy`
    have one or two, for forget sets too small to fit many columns.
    """
    return COLUMNS[features](logits.double(), labels)
