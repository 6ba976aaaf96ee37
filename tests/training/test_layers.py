from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from advunlearn.training.layers import Stack, in_layers

FORMATS = [torch.contiguous_format, torch.channels_last]


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same", bias=False),
        nn.BatchNorm2d(4, momentum=0.3, eps=1e-3),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(1, 0), dilation=(2, 1), groups=2),
        nn.LeakyReLU(0.2, inplace=True),
        nn.AvgPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(6, 5, bias=False),
        nn.Tanh(),
        nn.Linear(5, 3),
    )


def pooled() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(12, 3))


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 7), nn.ReLU(), nn.Linear(7, 3))


class Other(nn.Sequential):
    """Goes through vmap."""


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("build", [convolutional, pooled, dense, lambda: Other(*dense())])
def test_each_network_of_a_stack_computes_what_it_does_alone(
    build: type[nn.Sequential], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    networks = [build().double() for _ in range(3)]
    alone = copy.deepcopy(networks)
    assert in_layers(networks[0]) == (type(networks[0]) is nn.Sequential)
    stack = Stack(networks, memory_format)
    inputs, weights = torch.randn(2, 3, 4, 2, 8, 8, dtype=torch.float64), torch.randn(3, 4, 3, dtype=torch.float64)
    for step in inputs:  # running statistics go on from step to step
        outputs = stack(step)
        found = torch.autograd.grad((outputs * weights).sum(), list(stack.parameters.values()))
        gradients = stack.plain(dict(zip(stack.parameters, found, strict=True)))
        for k, network in enumerate(alone):
            expected = network.train()(step[k])
            torch.testing.assert_close(outputs[k], expected, rtol=1e-12, atol=1e-12)
            each = torch.autograd.grad((expected * weights[k]).sum(), list(network.parameters()))
            for (name, _), other in zip(network.named_parameters(), each, strict=True):
                torch.testing.assert_close(gradients[name][k], other, rtol=1e-10, atol=1e-12)
            for name, other in network.named_buffers():
                torch.testing.assert_close(stack.buffers[name][k], other, rtol=1e-12, atol=1e-12)


class Doubled(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


def hooked() -> nn.Module:
    network = dense()
    network[1].register_forward_hook(lambda layer, inputs, output: 2 * output)
    return network


def tied() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(128, 128), nn.Linear(128, 128))
    network[2].weight = network[1].weight
    return network


def shared() -> nn.Module:
    layer = nn.Linear(128, 128)
    return nn.Sequential(nn.Flatten(), layer, layer)


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(2, 2),
        Other(*dense()),
        nn.Sequential(dense()),
        nn.Sequential(nn.Flatten(), Doubled(128, 3)),
        nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(128, 3))),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 3)),
        nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 3)),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")),
        nn.Sequential(nn.BatchNorm2d(2, momentum=None)),
        nn.Sequential(nn.BatchNorm2d(2, affine=False)),
        nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)),
        hooked(),
        tied(),
        shared(),
    ],
    ids=lambda network: type(network).__name__,
)
def test_what_is_not_a_sequence_of_known_layers_is_left_to_vmap(network: nn.Module) -> None:
    assert not in_layers(network)


def test_a_networks_own_mode_does_not_matter() -> None:
    networks = [convolutional().eval() for _ in range(2)]
    inputs = torch.randn(2, 4, 2, 8, 8)
    outputs = Stack(networks, torch.channels_last)(inputs)
    expected = functional_call(networks[1].train(), dict(networks[1].named_parameters()), (inputs[1],))
    torch.testing.assert_close(outputs[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("build", [convolutional, dense, lambda: Other(*dense())])
def test_unstacked_networks_have_what_a_step_made_of_the_stack(
    build: type[nn.Sequential], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    networks = [build().double() for _ in range(3)]
    alone = copy.deepcopy(networks)
    stack, inputs = Stack(networks, memory_format), torch.randn(3, 4, 2, 8, 8, dtype=torch.float64)
    optimizer = torch.optim.AdamW(stack.parameters.values(), lr=0.1, fused=True)
    stack(inputs).square().sum().backward()
    optimizer.step()
    stack.unstack()
    for network, found, each in zip(alone, networks, inputs, strict=True):
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        network.train()(each).square().sum().backward()
        optimizer.step()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-9, atol=1e-9)


def test_gradients_in_the_fast_memory_format_are_not_copied() -> None:
    stack = Stack([convolutional() for _ in range(3)], torch.channels_last)
    stack(torch.randn(3, 4, 2, 8, 8)).sum().backward()
    kernels = [each for each in stack.parameters.values() if each.dim() > 3]
    layouts = [(each.is_contiguous(), each.grad is not None and each.grad.is_contiguous()) for each in kernels]
    assert layouts == [(True, True)] * 2


@pytest.mark.parametrize("build", [convolutional, lambda: Other(*convolutional())])
def test_frozen_weights_remain_as_they_are(build: type[nn.Sequential]) -> None:
    networks = [build() for _ in range(2)]
    for network in networks:
        network[0].weight.requires_grad_(False)
    before = networks[1][0].weight.clone()
    stack = Stack(networks, torch.channels_last)
    stack(torch.randn(2, 4, 2, 8, 8)).sum().backward()
    torch.optim.AdamW(stack.parameters.values(), lr=0.1).step()
    stack.unstack()
    assert torch.equal(networks[1][0].weight, before)
    assert [name for name, each in stack.parameters.items() if each.grad is None] == ["0.weight"]


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_on_more_than_vectors_is_no_stack(bias: bool) -> None:
    networks = [nn.Sequential(nn.Linear(6, 5, bias=bias), nn.Flatten(), nn.Linear(15, 3)) for _ in range(2)]
    with pytest.raises(RuntimeError):
        Stack(networks, torch.channels_last)(torch.randn(2, 2, 3, 6))
