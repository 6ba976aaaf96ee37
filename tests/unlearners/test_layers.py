"""CF-k, EU-k and CT: which layers they train, reinitialise or transpose."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.options import UserError
from advunlearn.runtime.seeding import torch_stream
from advunlearn.unlearners.cf_k import CFK
from advunlearn.unlearners.ct import CT, transpose_kernels
from advunlearn.unlearners.eu_k import EUK, FreshLayers
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.layers import initialise_again, split_layers
from advunlearn.unlearners.msg import MSG
from tests.unlearners.tasks import CPU, mlp, network, same, task, weights

STEPS = {"lr": 0.1, "epochs": 2, "batch_size": 20, "weight_decay": 0.1}


def deep() -> nn.Module:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), block, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize(("last", "first"), [(1, "5"), (2, "2.0"), (3, "0"), (9, "0")])
def test_layers_are_split_before_the_last_ones_with_their_norms(last: int, first: str) -> None:
    model = deep()
    names = {module: name for name, module in model.named_modules()}
    frozen, trained = split_layers(model, last)
    found = [names[module] for module in (*frozen, *trained)]
    assert found == ["0", "1", "2.0", "2.1", "5"]
    assert names[trained[0]] == first


@pytest.mark.parametrize("method", [CFK, EUK])
@pytest.mark.parametrize(("layers", "trained"), [(1, ("5.",)), (2, ("2.", "5."))])
def test_frozen_layers_stay_to_the_bit_with_their_statistics(
    method: type[CFK] | type[EUK], layers: int, trained: tuple[str, ...]
) -> None:
    model = deep()
    after = weights(method(layers=layers, **STEPS).unlearn(copy.deepcopy(model), task()).network)
    for name, value in weights(model).items():
        assert torch.equal(after[name], value) != name.startswith(trained), name


def test_all_layers_are_fine_tuning() -> None:
    ends = [method.unlearn(deep(), task()).network for method in (CFK(layers=3, **STEPS), Finetune(**STEPS))]
    assert same(*ends)


def test_eu_k_begins_with_a_fresh_initialisation() -> None:
    model = deep()
    FreshLayers(EUK(layers=2), model, task()).prepare()
    with torch.random.fork_rng():
        torch.manual_seed(torch_stream(CPU.seed, "eu_k/initialise").initial_seed())
        convolution, linear = nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
    for name, module in (("2.0", convolution), ("5", linear)):
        assert torch.equal(model.get_parameter(f"{name}.weight"), module.weight)
        assert torch.equal(model.get_parameter(f"{name}.bias"), module.bias)
    assert torch.equal(model.get_parameter("0.weight"), deep().get_parameter("0.weight"))


def test_a_fresh_initialisation_moves_no_global_generator_and_no_weight_to_another_place() -> None:
    model, state = deep(), torch.get_rng_state()
    places = [weight.data_ptr() for weight in model.parameters()]
    initialise_again(model.modules(), CPU, "a stream")
    assert torch.equal(torch.get_rng_state(), state)
    assert [weight.data_ptr() for weight in model.parameters()] == places


def test_transposing_twice_is_nothing_and_once_is_the_answer_to_transposed_images() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 5, padding=2), nn.Conv2d(2, 2, 1))
    before, images = copy.deepcopy(model), torch.randn(2, 1, 8, 8)
    transpose_kernels(model)
    torch.testing.assert_close(model(images.transpose(2, 3)), before(images).transpose(2, 3))
    assert not torch.equal(model[0].weight, before[0].weight)
    transpose_kernels(model)
    assert same(model, before)


def test_a_kernel_that_is_not_square_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, (1, 3)), nn.Conv2d(2, 2, 3))
    before = copy.deepcopy(model)
    transpose_kernels(model)
    assert torch.equal(model[0].weight, before[0].weight)
    assert F.conv2d(torch.ones(1, 1, 8, 8), model[0].weight).shape == (1, 2, 8, 6)


def test_ct_fine_tunes_transposed_kernels() -> None:
    model = network()
    transpose_kernels(model)
    wanted = Finetune(schedule="cosine", **STEPS).unlearn(model, task()).network
    assert same(CT(**STEPS).unlearn(network(), task()).network, wanted)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (CT(), r"ct transposes square kernels larger than 1x1, and this network has none \(try the model cnn\)"),
        (MSG(), r"msg initialises convolutions again, and this network has none \(try the model cnn\)"),
    ],
)
def test_a_network_without_convolutions_is_refused_before_any_work(method: CT | MSG, message: str) -> None:
    model = mlp()
    with pytest.raises(UserError, match=message):
        method.run(model, task())
    assert same(model, mlp())
