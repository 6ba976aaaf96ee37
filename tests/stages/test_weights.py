"""Stage `weights`: distances by hand, and barriers of networks whose connection is known."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from advunlearn.data.splits import Splits
from advunlearn.optimizers.adamw import AdamW
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.unlearn import Models
from advunlearn.stages.weights import (
    MOST_EXAMPLES,
    barrier,
    comparable,
    compare_weights,
    interpolated,
    relative_distance,
    some,
)
from advunlearn.storage.artefacts import Artefact
from tests.shadows.test_shadows import digits_trainer
from tests.unlearners.tasks import examples, network

RETAIN, FORGET, TEST = np.arange(200), np.arange(200, 250), np.arange(400, 700)


def linear(*weights: float) -> nn.Module:
    found = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        found.weight.copy_(torch.tensor(weights).reshape(2, 2))
    return found


def test_a_distance_by_hand() -> None:
    assert relative_distance(linear(3, 4, 0, 0), linear(0, 0, 0, 2)) == pytest.approx(math.sqrt(9 + 16 + 4) / 2)
    assert relative_distance(linear(0, 0, 0, 2), linear(3, 4, 0, 0)) == pytest.approx(math.sqrt(9 + 16 + 4) / 5)
    assert relative_distance(linear(1, 2, 3, 4), linear(1, 2, 3, 4)) == 0
    assert math.isnan(relative_distance(linear(1, 2, 3, 4), linear(0, 0, 0, 0)))


def test_statistics_of_batch_normalisation_are_no_parameters() -> None:
    before, after = network(), network()
    predict_in_training_mode(after)
    assert relative_distance(after, before) == 0


def predict_in_training_mode(model: nn.Module) -> None:
    model.train()
    model(examples(60, 0).inputs)
    model.eval()


@pytest.mark.parametrize(
    ("errors", "height"),
    [
        ([0.1, 0.1, 0.1], 0),
        ([0.0, 0.4, 0.0], 0.4),
        ([0.0, 0.5, 0.2], 0.4),  # the line between the ends is at 0.1
        ([0.0, 0.1, 0.2, 0.3], 0),  # the mean of the ends would make a barrier of 0.15
        ([0.4, 0.1, 0.0], 0),  # better in between than on the line
        ([0.3, 0.3, 0.0], 0.15),
    ],
)
def test_a_barrier_by_hand(errors: list[float], height: float) -> None:
    assert barrier(errors) == pytest.approx(height, abs=1e-12)


def test_ensembles_and_other_sizes_are_not_comparable() -> None:
    assert comparable(network(0), network(1))
    assert not comparable(nn.ModuleList([network()]), network())
    assert not comparable(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 4)))
    assert not comparable(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3, bias=False)))


def test_halfway_lies_the_mean_with_statistics_of_its_own() -> None:
    ends, data = [network(0).eval(), network(1).eval()], examples(60, 0)
    before = [copy.deepcopy(end.state_dict()) for end in ends]
    between = interpolated(*ends, 0.5, data)
    for name, ours in between.named_parameters():
        torch.testing.assert_close(ours, (before[0][name] + before[1][name]) / 2)
    outputs = between[0](data.inputs)
    torch.testing.assert_close(between[1].running_mean, outputs.mean((0, 2, 3)))
    torch.testing.assert_close(between[1].running_var, outputs.transpose(0, 1).flatten(1).var(1))
    assert not any(module.training for module in between.modules())
    for end, state in zip(ends, before, strict=True):
        assert all(torch.equal(each, state[name]) for name, each in end.state_dict().items())


def test_weights_that_two_layers_share_are_moved_once() -> None:
    ends = [nn.Sequential(linear(*[value] * 4), nn.ReLU()) for value in (0.0, 4.0)]
    for end in ends:
        end.append(nn.Linear(2, 2, bias=False))
        end[2].weight = end[0].weight
    between = interpolated(*ends, 0.25, examples(60, 0))
    assert between[0].weight is between[2].weight
    assert between[0].weight.flatten().tolist() == [1.0] * 4


def test_statistics_are_computed_without_dropout() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.BatchNorm1d(64)).eval()
    between = interpolated(model, model, 0.5, examples(60, 0))
    torch.testing.assert_close(between[2].running_mean, examples(60, 0).inputs.flatten(1).mean(0))


def test_a_sample_is_of_its_rows_and_no_larger_than_needed() -> None:
    few, many = np.arange(50), np.arange(3 * MOST_EXAMPLES)
    assert some(few, np.random.default_rng(0)).tolist() == few.tolist()
    found = some(many, np.random.default_rng(0))
    assert len(np.unique(found)) == MOST_EXAMPLES
    assert found.tolist() == some(many[::-1], np.random.default_rng(0)).tolist()
    assert found.max() > 2 * MOST_EXAMPLES


def permuted(model: Any) -> nn.Module:
    """Return a network of the same function with its hidden units in another order."""
    other = copy.deepcopy(model)
    first, last = (layer for layer in other.modules() if isinstance(layer, nn.Linear))
    order = torch.randperm(first.out_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for tensor in (first.weight, first.bias):
            tensor.copy_(tensor[order].clone())
        last.weight.copy_(last.weight[:, order].clone())
    return other


def test_a_permuted_network_is_behind_a_barrier_and_a_nearby_one_is_not(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path / "store", optimizer=AdamW(epochs=25))
    original, _ = trainer.fitted(np.arange(250), "original")
    nearby = copy.deepcopy(original)
    with torch.no_grad():  # the last layer, twice: another point of the same function, with no barrier on the way
        for tensor in [each for each in nearby.modules() if isinstance(each, nn.Linear)][-1].parameters():
            tensor *= 2
    networks = {"original": original, "retrained": permuted(original), "unlearned": nearby}
    artefacts = {name: Artefact({}, {}, {}, digest=name, content="0") for name in networks}
    splits = Splits(RETAIN, FORGET, np.arange(0), np.arange(0), TEST)
    with Manifest(tmp_path / "run") as manifest:
        found = compare_weights(trainer, splits, Models(networks, artefacts, None), manifest)
        again = compare_weights(trainer, splits, Models({}, artefacts, None), manifest)  # from the store
    assert found == again
    assert found["examples"] == {"retain": 200, "test": 300}
    of = found["models"]
    assert of["original"] == {
        "from_original": 0,
        "from_retrained": of["retrained"]["from_original"],
        "barrier": {"retain": 0, "test": 0},
    }
    assert of["unlearned"]["barrier"] == pytest.approx({"retain": 0, "test": 0})
    assert min(of["retrained"]["barrier"].values()) > 0.1
    assert of["retrained"]["from_original"] > of["unlearned"]["from_original"] > 0
