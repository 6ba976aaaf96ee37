"""The networks of the field: as large as published, alone and in a stack of models."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from advunlearn.models.airbench import Airbench, patch_basis
from advunlearn.models.cnn import CNN
from advunlearn.models.model import Model
from advunlearn.models.vgg16_bn import VGG16BN
from advunlearn.models.vit_tiny import ViTTiny
from advunlearn.models.wrn28 import WRN28
from advunlearn.options import OptionError, UserError
from advunlearn.runtime.seeding import torch_stream
from advunlearn.runtime.settings import Settings
from advunlearn.training.fit import initialise
from advunlearn.training.layers import Stack, in_layers

SMALL = [VGG16BN(width=2), WRN28(width=1, depth=10), ViTTiny(width=6, depth=2), Airbench(width=4)]


def name_of(model: Model) -> str:
    return type(model).__name__


@pytest.mark.parametrize(
    ("model", "side", "classes", "parameters"),
    [
        (WRN28(), 32, 10, 36_479_194),  # 36.5 million in the paper
        (WRN28(width=2), 32, 10, 1_467_610),  # 1.5 million in FixMatch and others
        (ViTTiny(patch=16), 224, 1000, 5_717_416),  # DeiT-Ti
        (Airbench(), 32, 10, 1_972_792),  # 1.97 million in its README
        (VGG16BN(), 32, 10, 14_724_042),  # 14,728,266 with biases that batch normalisation removes
    ],
    ids=lambda value: name_of(value) if isinstance(value, Model) else str(value),
)
def test_a_network_is_as_large_as_published(model: Model, side: int, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        network = model.build((3, side, side), classes)
    assert sum(each.numel() for each in network.parameters()) == parameters


@pytest.mark.parametrize("model", SMALL, ids=name_of)
def test_a_stack_of_networks_computes_what_each_does(model: Model) -> None:
    torch.manual_seed(0)
    networks = [model.build((3, 32, 32), 5).double().train() for _ in range(2)]
    images = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    stack = Stack(copy.deepcopy(networks), torch.contiguous_format)
    found = stack(images)
    expected = [network(each) for network, each in zip(networks, images, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))
    wanted = torch.autograd.grad(torch.stack(expected).square().sum(), list(networks[0].parameters()))
    got = torch.autograd.grad(found.square().sum(), list(stack.parameters.values()))
    for first, each in zip(wanted, got, strict=True):
        torch.testing.assert_close(each[0], first)
    after = {name: each for name, each in networks[1].named_buffers()}
    assert all(torch.allclose(each[1].double(), after[name].double()) for name, each in stack.buffers.items())


@pytest.mark.parametrize("model", [SMALL[0], SMALL[3]], ids=name_of)
def test_the_networks_for_shadow_models_take_the_fast_path(model: Model) -> None:
    assert in_layers(model.build((3, 32, 32), 5))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 20), (3, 64, 64)])
def test_airbench_takes_images_of_other_sizes(shape: tuple[int, int, int]) -> None:
    assert Airbench(width=2).build(shape, 7)(torch.randn(2, *shape)).shape == (2, 7)


def test_airbench_starts_from_an_orthonormal_basis_whose_first_vector_is_the_mean() -> None:
    basis = patch_basis(3).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(12))
    torch.testing.assert_close(basis[0], torch.full((12,), 12**-0.5))


def test_airbench_starts_as_the_identity_and_divides_its_logits_by_nine() -> None:
    network = Airbench(width=32).build((3, 32, 32), 10)
    images = torch.randn(1, 24, 6, 6)
    torch.testing.assert_close(network[2](images)[:, :24], images)
    logits = network.eval()(torch.randn(2, 3, 32, 32))
    layers = list(network)
    without = torch.nn.Sequential(*(each for each in layers if not isinstance(each, torch.nn.AvgPool2d)))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images) * 9, without(images))
    assert logits.shape == (2, 10)


def reference(network: torch.nn.Sequential, images: Tensor) -> Tensor:
    """Return the logits of a vision transformer, with attention written out."""
    tokens = network[0](images)
    for block in list(network)[1:-3]:
        query, key, value = block.attention(block.before_attention(tokens)).chunk(3, dim=2)
        heads = []
        for q, k, v in zip(*(part.chunk(block.heads, dim=2) for part in (query, key, value)), strict=True):
            heads.append((q @ k.mT / q.shape[2] ** 0.5).softmax(dim=2) @ v)
        tokens = tokens + block.projection(torch.cat(heads, dim=2))
        tokens = tokens + block.mlp(block.before_mlp(tokens))
    return network[-1](network[-2](tokens)[:, 0])


def test_the_transformers_attention_is_that_of_the_paper() -> None:
    network = ViTTiny(width=12, depth=2).build((3, 32, 32), 5).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(network(images), reference(network, images))


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(OptionError, match=r"^depth must be 6 k \+ 4, got 27 \(try depth=22\)$"):
        WRN28(depth=27)
    with pytest.raises(OptionError, match=r"^width must be a multiple of heads=3, got 10$"):
        ViTTiny(width=10)
    with pytest.raises(UserError, match=r"^vit_tiny: patch=4 must divide the sides of the images, 30x32$"):
        ViTTiny().build((3, 30, 32), 10)
    with pytest.raises(UserError, match=r"^vgg16_bn needs images of at least 32x32 pixels, got 28x28$"):
        VGG16BN().build((1, 28, 28), 10)


@pytest.mark.parametrize("stream", ["first", "second"])
def test_networks_are_initialised_as_by_manual_seed(stream: str) -> None:
    settings = Settings(seed=3, device="cpu")
    network = initialise(CNN(width=4), (3, 8, 8), 5, settings, stream)
    before = torch.get_rng_state()
    torch.manual_seed(torch_stream(3, f"init/{stream}").initial_seed())
    expected = CNN(width=4).build((3, 8, 8), 5)
    torch.set_rng_state(before)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])


def test_pooling_before_the_nonlinearity_changes_nothing() -> None:
    torch.manual_seed(0)
    network = CNN(width=4).build((3, 8, 8), 5)
    usual = nn.Sequential(*copy.deepcopy(network))
    for place in (2, 6, 10):
        usual[place], usual[place + 1] = usual[place + 1], usual[place]
    assert [type(layer).__name__ for layer in usual[:4]] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    images = torch.randn(6, 3, 8, 8)
    for each in (network, usual):
        each.train()(images).square().sum().backward()
    for ours, theirs in zip(network.parameters(), usual.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
