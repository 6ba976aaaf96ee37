"""Score vectors s(x, y; theta): what an auditor sees of an example."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.training.shadows import Shadows


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
    return COLUMNS[features](logits.double(), labels)
