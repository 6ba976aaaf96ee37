"""Distillation from reference models: their prediction by hand, and what a step of it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from advunlearn.options import OptionError, UserError
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.unlearners.reference_distillation import ReferenceDistillation, out_predictions
from tests.unlearners.tasks import examples, known, mlp, task


def outputs(logits: torch.Tensor, membership: np.ndarray) -> ShadowOutputs:
    """Return outputs from logits (models, n, classes)."""
    each = logits.detach().numpy()[:, :, None]
    return ShadowOutputs(each, membership, each[:, :0])


def test_the_target_is_the_mean_of_the_models_that_never_saw_the_example() -> None:
    logits = torch.tensor([[[1.0, 3.0], [1.0, 1.0]], [[1.0, 1.0], [9.0, 1.0]], [[3.0, 1.0], [1.0, 4.0]]]).log()
    membership = np.array([[False, True], [True, False], [False, False]])
    torch.testing.assert_close(
        out_predictions(outputs(logits, membership)), torch.tensor([[0.5, 0.5], [(0.9 + 0.2) / 2, (0.1 + 0.8) / 2]])
    )
    with pytest.raises(UserError, match="every reference model was trained on some example"):
        out_predictions(outputs(logits, np.array([[True, False]] * 3)))


def test_a_target_equal_to_the_own_output_leaves_the_retain_sets_part_of_the_step() -> None:
    model, forget = mlp(), examples(30, 1)
    own = model(forget.inputs)[None].expand(2, -1, -1)
    references = outputs(own, np.array([[True] * 30, [False] * 30]))
    options = ReferenceDistillation(lr=0.5, epochs=1, batch_size=90, momentum=0, forget_weight=100.0)
    stepped = options.unlearn(mlp(), task(references=(references, references))).network
    retain = examples(60, 0)
    (F.cross_entropy(model(retain.inputs), retain.labels, reduction="sum") / 90).backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    for one, other in zip(model.parameters(), stepped.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_forget_examples_come_to_what_the_references_say() -> None:
    original = known(mlp)
    targets = torch.tensor([0.2, 0.5, 0.3]).log().expand(2, 30, 3)
    references = outputs(targets, np.array([[True, False] * 15, [False, True] * 15]))
    options = ReferenceDistillation(lr=0.05, epochs=40)
    unlearned = options.unlearn(original, task(references=(references, references))).network
    found = unlearned(examples(30, 1).inputs).softmax(1)
    assert (found - torch.tensor([0.2, 0.5, 0.3])).abs().mean() < 0.1
    assert (unlearned(examples(60, 0).inputs).argmax(1) == examples(60, 0).labels).float().mean() > 0.95


def test_what_it_needs_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match="unlearner reference_distillation needs a training setup"):
        ReferenceDistillation().unlearn(mlp(), task())
    with pytest.raises(OptionError, match="references must be an even whole number, got 3"):
        ReferenceDistillation(references=3)
    assert ReferenceDistillation(references=6).reference_models() == 6
