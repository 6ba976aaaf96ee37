"""l1-sparse: its schedule and its penalty."""

from __future__ import annotations

import pytest
import torch

from advunlearn.options import OptionError
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.l1_sparse import L1Sparse
from tests.unlearners.tasks import double, examples, mlp, network, same, task


def test_the_penalty_falls_linearly_and_ends_before_the_free_epochs() -> None:
    method = L1Sparse(gamma=0.3, epochs=4, free_epochs=1)
    assert [method.strength(epoch) for epoch in range(4)] == pytest.approx([0.3, 0.2, 0.1, 0.0])
    whole = L1Sparse(gamma=1.0, epochs=10)
    assert [whole.strength(epoch) for epoch in (0, 9)] == pytest.approx([1.0, 0.1])


def test_without_a_penalty_it_is_fine_tuning() -> None:
    options = {"epochs": 2, "lr": 0.05, "batch_size": 20}
    methods = L1Sparse(gamma=0.0, **options), Finetune(**options)
    assert same(*(method.unlearn(network(), task()).network for method in methods))


def test_a_step_moves_each_weight_by_the_strength_of_the_penalty_towards_zero() -> None:
    parts = {"retain": double(examples(60, 0)), "forget": double(examples(30, 1)), "audit": double(examples(45, 2))}
    once = {"epochs": 1, "lr": 0.1, "batch_size": 60}
    plain, sparse = (
        method.unlearn(mlp().double(), task(**parts)).network
        for method in (Finetune(**once), L1Sparse(gamma=0.02, **once))
    )
    for before, a, b in zip(mlp().double().parameters(), plain.parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(b - a, -0.1 * 0.02 * before.sign(), atol=1e-7, rtol=0)


def test_no_epoch_with_a_penalty_is_refused() -> None:
    with pytest.raises(OptionError, match=r"free_epochs must be less than epochs=3, got 3 \(try free_epochs=0\)"):
        L1Sparse(epochs=3, free_epochs=3)
