"""Influence unlearning against linear algebra, and against exact retraining of a convex model."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.unlearners.influence import Influence, conjugate_gradients, gauss_newton_product, mean_gradient
from tests.unlearners.tasks import examples, flat, network, same, task


def test_conjugate_gradients_solve_a_system() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(7), torch.randn(7, generator=generator, dtype=torch.float64)

    def product(vector: list[Tensor]) -> list[Tensor]:
        return list((matrix @ flat(vector)).split([3, 4]))

    found = conjugate_gradients(product, list(target.split([3, 4])), 20, 1e-12)
    torch.testing.assert_close(flat(found), torch.linalg.solve(matrix, target))
    first = conjugate_gradients(product, list(target.split([3, 4])), 1)  # the step of steepest descent
    torch.testing.assert_close(flat(first), target * (target @ target) / (target @ matrix @ target))


def test_conjugate_gradients_of_nothing_are_nothing() -> None:
    assert conjugate_gradients(lambda vector: vector, [torch.zeros(3)], 5)[0].tolist() == [0, 0, 0]


def test_the_product_is_that_of_the_explicit_matrix() -> None:
    model, part = network().eval(), examples(12, 0)
    weights = dict(model.named_parameters())
    jacobians = jacrev(lambda given: functional_call(model, given, (part.inputs,)))(weights)
    jacobian = torch.cat([jacobians[name].flatten(2) for name in weights], 2)
    p = model(part.inputs).softmax(1).detach()
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    matrix = torch.einsum("ncw,ncd,ndv->wv", jacobian, curvature, jacobian) / 12
    vector = [torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) for weight in weights.values()]
    found = gauss_newton_product(model, list(weights.values()), part, vector)
    torch.testing.assert_close(flat(found), matrix @ flat(vector), rtol=1e-4, atol=1e-5)


def test_the_mean_gradient_is_that_of_the_mean_loss() -> None:
    model, part = network().eval(), examples(600, 0)
    weights = list(model.parameters())
    loss = F.cross_entropy(model(part.inputs), part.labels)
    expected = torch.autograd.grad(loss, weights)
    torch.testing.assert_close(flat(mean_gradient(model, weights, part)), flat(list(expected)), rtol=1e-4, atol=1e-6)


DECAY = 0.01


def optimum(part: Examples) -> nn.Module:
    """Return the linear classifier that minimises the mean cross-entropy and DECAY / 2 times the squared weights."""
    model = nn.Linear(6, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        decay = sum(weight.square().sum() for weight in model.parameters()) * DECAY / 2
        loss = F.cross_entropy(model(part.inputs), part.labels) + decay
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type, no-untyped-call]
    return model


def far(one: nn.Module, other: nn.Module) -> float:
    return (flat(list(one.parameters())) - flat(list(other.parameters()))).norm().item()


def test_one_step_goes_to_the_retrained_optimum_up_to_the_second_order() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(400, 6, generator=generator), torch.randint(3, (400,), generator=generator)
    whole = Examples(inputs + 0.7 * F.one_hot(labels, 6), labels)
    original, left = optimum(whole), []
    for count in (8, 32):
        forget, retain = whole.subset(np.arange(count)), whole.subset(np.arange(count, 400))
        retrained = optimum(retain)
        options = Influence(damping=DECAY, iterations=60, sample_size=400)
        unlearned = options.unlearn(copy.deepcopy(original), task(retain=retain, forget=forget)).network
        left.append(far(unlearned, retrained) / far(original, retrained))
    assert left[0] < 0.03  # of the distance, for a share of 8 / 400
    assert left[1] < 0.12


def test_strength_zero_changes_nothing() -> None:
    original = network().eval()
    assert same(Influence(scale=0).unlearn(copy.deepcopy(original), task()).network, original)
    assert not same(Influence(scale=1).unlearn(copy.deepcopy(original), task()).network, original)
