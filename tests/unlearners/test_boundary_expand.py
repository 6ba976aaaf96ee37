"""Boundary expand: the extra class, and its removal."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.options import UserError
from advunlearn.runtime.seeding import torch_stream
from advunlearn.training.fit import mode
from advunlearn.unlearners.boundary_expand import BoundaryExpand, Expanded, linear_head
from tests.unlearners.tasks import CPU, examples, mlp, network, same, task, weights


@pytest.mark.parametrize("keep_epoch", ["last", "best"])
def test_the_network_has_its_old_shape_at_the_end_and_other_weights(keep_epoch: str) -> None:
    original = network().eval()
    options = BoundaryExpand(lr=0.01, epochs=2, keep_epoch=keep_epoch)
    unlearned = options.unlearn(copy.deepcopy(original), task(selection=examples(30, 3))).network
    assert {name: each.shape for name, each in weights(unlearned).items()} == {
        name: each.shape for name, each in weights(original).items()
    }
    assert [type(layer) for layer in unlearned.modules()] == [type(layer) for layer in original.modules()]
    assert unlearned(examples(5, 0).inputs).shape == (5, 3)
    assert not same(unlearned, original)


def test_a_step_is_that_of_a_network_with_an_explicit_fourth_output() -> None:
    model, given = mlp(), task()
    extra = Expanded(model[3], torch_stream(CPU.seed, "boundary_expand")).extra  # type: ignore[index, arg-type]
    whole = nn.Linear(128, 4)
    with torch.no_grad():
        whole.weight.copy_(torch.cat([model[3].weight, extra.weight]))  # type: ignore[index, list-item]
        whole.bias.copy_(torch.cat([model[3].bias, extra.bias]))  # type: ignore[index, list-item]
    explicit = nn.Sequential(*model[:3], whole)  # type: ignore[index]
    F.cross_entropy(explicit(given.forget.inputs), torch.full((30,), 3)).backward()
    torch.optim.SGD(explicit.parameters(), lr=0.5).step()
    stepped = BoundaryExpand(lr=0.5, epochs=1, batch_size=30, momentum=0).unlearn(mlp(), given).network
    torch.testing.assert_close(stepped[3].weight, whole.weight[:3])  # type: ignore[index]
    torch.testing.assert_close(stepped[3].bias, whole.bias[:3])  # type: ignore[index]
    torch.testing.assert_close(stepped[1].weight, explicit[1].weight)  # type: ignore[index]


def test_the_extra_output_exists_in_training_mode_alone() -> None:
    head = nn.Linear(4, 3)
    expanded, features = Expanded(head, torch.Generator().manual_seed(0)), torch.randn(5, 4)
    outputs = expanded.train()(features)
    assert torch.equal(outputs[:, :3], head(features))
    assert outputs.shape == (5, 4)
    assert expanded.extra.weight.abs().max() <= 0.5
    with mode(expanded, training=False):
        assert torch.equal(expanded(features), head(features))


def test_the_head_is_found_by_its_outputs_wherever_it_is() -> None:
    torch.manual_seed(0)
    unused = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 3), nn.Identity()))
    assert linear_head(unused, examples(3, 0))[0] == "3.0"
    ends_otherwise = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh())
    with pytest.raises(UserError, match=r"needs a network whose last layer is an nn\.Linear"):
        BoundaryExpand().unlearn(ends_otherwise, task())


def test_the_network_may_be_the_head_itself() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    forget = Examples(examples(30, 1).inputs[:, 0, 0], examples(30, 1).labels)  # type: ignore[call-overload, index]
    unlearned = BoundaryExpand(lr=0.1, epochs=1).unlearn(model, task(forget=forget, retain=forget)).network
    assert unlearned is model
    assert not unlearned.training
