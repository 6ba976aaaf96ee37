"""DELETE: its targets by hand, and its loss in closed form."""

from __future__ import annotations

import copy

import torch
from torch.nn import functional as F

from advunlearn.unlearners.delete import Delete, DeleteDescent, without_label
from tests.unlearners.tasks import examples, known, mlp, network, task, weights


def test_the_target_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]).log()
    torch.testing.assert_close(
        without_label(logits, torch.tensor([1, 0])), torch.tensor([[0.25, 0.0, 0.75], [0.0, 0.5, 0.5]])
    )


def test_the_loss_at_the_original_is_minus_the_log_of_what_the_label_leaves() -> None:
    """There q is p / (1 - p_y) for the other classes, so KL(q || p) is - log(1 - p_y)."""
    model, forget = mlp(), task().forget
    descent = DeleteDescent(Delete(), model, task())
    descent.prepare()
    logits = model(forget.inputs)
    loss = descent.loss(forget.inputs, logits, forget.labels, torch.ones(30, dtype=torch.bool))
    own = logits.softmax(1).gather(1, forget.labels[:, None])
    torch.testing.assert_close(loss, -torch.log(1 - own).mean())


def test_the_original_is_asked_in_evaluation_mode_and_does_not_learn() -> None:
    model = network()
    descent = DeleteDescent(Delete(lr=0.1, epochs=2), model, task())
    before = copy.deepcopy(model)
    descent.run()
    assert all(torch.equal(weights(before)[name], each) for name, each in weights(descent.original).items())
    assert not descent.original.training


def test_the_label_loses_its_probability() -> None:
    original, forget = known(mlp), examples(30, 1)
    unlearned = Delete(lr=0.05).unlearn(copy.deepcopy(original), task()).network
    before, after = (F.nll_loss(model(forget.inputs).softmax(1), forget.labels) for model in (original, unlearned))
    assert -after < 0.2 < 0.9 < -before
