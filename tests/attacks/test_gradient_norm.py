"""The gradient-norm attack, against a closed form and an explicit loop, and the interface of white-box attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import advunlearn
from advunlearn.attacks import gradients as module
from advunlearn.attacks.attack import Attack, Observations, WhiteBox
from advunlearn.attacks.gradient_norm import GradientNorm, gradient_norms
from advunlearn.attacks.threshold import Threshold
from advunlearn.data.examples import Examples
from advunlearn.options import UserError
from advunlearn.stages.attack import seen_by
from tests.test_api import blobs, model
from tests.unlearners.tasks import examples, network

RNG = np.random.default_rng(0)


def observations(net: nn.Module, attacked: Examples) -> Observations:
    logits = torch.cat([net(inputs).detach() for inputs, _ in attacked.batches()]).numpy()[:, None]
    members = np.arange(len(attacked)) % 2 == 0
    return Observations(logits, attacked.labels.numpy(), members, white_box=WhiteBox(net, attacked))


def explicit(net: nn.Module, attacked: Examples, parameters: list[Tensor]) -> list[float]:
    """Return each example's norm by PyTorch's own backward pass, one example at a time."""
    norms = []
    for inputs, label in zip(attacked.inputs, attacked.labels, strict=True):
        net.zero_grad()
        F.cross_entropy(net(inputs[None]), label[None]).backward()
        norms.append(torch.cat([each.grad.flatten() for each in parameters if each.grad is not None]).norm().item())
    return norms


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_model_has_a_closed_form(bias: bool) -> None:
    torch.manual_seed(0)
    attacked, net = Examples(torch.randn(90, 7), torch.arange(90) % 5), nn.Linear(7, 5, bias=bias)
    wrong = net(attacked.inputs).softmax(1) - F.one_hot(attacked.labels, 5)
    size = (attacked.inputs.square().sum(1) + bias).sqrt()  # a bias is the weight of one more input, 1
    expected = (wrong.norm(dim=1) * size).detach().numpy()
    norms, last = gradient_norms(net, attacked)
    np.testing.assert_allclose(norms, expected, rtol=1e-5)
    np.testing.assert_array_equal(last, norms)


@pytest.mark.parametrize("smallest", [16, 1000], ids=["vectorised", "one by one"])
def test_norms_are_those_of_an_explicit_loop(monkeypatch: pytest.MonkeyPatch, smallest: int) -> None:
    monkeypatch.setattr(module, "SMALLEST", smallest)
    net, attacked = network().eval(), examples(70, 0)
    norms, last = gradient_norms(net, attacked)
    np.testing.assert_allclose(norms, explicit(net, attacked, list(net.parameters())), rtol=1e-5)
    np.testing.assert_allclose(last, explicit(net, attacked, list(net[-1].parameters())), rtol=1e-5)


def test_a_network_that_vmap_cannot_run_and_frozen_weights_count_as_well() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.unused = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.one(inputs) if inputs.sum().item() > 0 else self.two(inputs)

    torch.manual_seed(0)
    net, attacked = Branches(), Examples(torch.randn(30, 6), torch.arange(30) % 4)
    expected = explicit(net, attacked, [*net.one.parameters(), *net.two.parameters()])
    net.requires_grad_(False)
    norms, last = gradient_norms(net, attacked)
    np.testing.assert_allclose(norms, expected, rtol=1e-5)
    assert last.tolist() == [0.0] * 30


class Tokens(nn.Module):
    """The mean embedding of the tokens that the mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(20, 6), nn.Linear(6, 4)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        kept = inputs["mask"][..., None]
        return self.linear((self.embedding(inputs["ids"]) * kept).sum(1) / kept.sum(1))


def test_several_named_inputs_and_integer_tokens() -> None:
    torch.manual_seed(0)
    inputs = {"ids": torch.randint(20, (40, 5)), "mask": torch.arange(5).expand(40, 5) < 3}
    net, attacked = Tokens(), Examples(inputs, torch.arange(40) % 4)
    norms, _ = gradient_norms(net, attacked)
    for position in range(40):
        net.zero_grad()
        one = {name: each[position : position + 1] for name, each in inputs.items()}
        F.cross_entropy(net(one), attacked.labels[position : position + 1]).backward()
        gradients = [each.grad.flatten() for each in net.parameters() if each.grad is not None]
        assert norms[position] == pytest.approx(torch.cat(gradients).norm().item(), rel=1e-5)


def test_other_examples_do_not_matter() -> None:
    net, attacked = network().eval(), examples(70, 0)
    some = torch.tensor([60, 3, 41])
    np.testing.assert_allclose(gradient_norms(net, attacked.subset(some))[0], gradient_norms(net, attacked)[0][some])


def test_bad_networks_are_one_line() -> None:
    attacked = examples(30, 0)
    with pytest.raises(UserError, match="needs a network with weights"):
        gradient_norms(nn.Flatten(), attacked)
    broken = network().eval()
    with torch.no_grad():
        broken[-1].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="diverged"):
        gradient_norms(broken, attacked)
    blind = seen_by(Threshold(), observations(network().eval(), attacked))
    with pytest.raises(UserError, match="gradient_norm needs the network itself"):
        GradientNorm().score(blind, None, RNG)


@dataclass
class Spoiler(Attack):
    """Change the network after scoring with it."""

    needs_network: ClassVar[bool] = True

    def score(self, target: Observations, shadows: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
        assert target.white_box is not None
        net, attacked = target.white_box.network, target.white_box.examples
        assert not net.training
        with torch.no_grad():
            logits = torch.cat([net(inputs) for inputs, _ in attacked.batches(7)])
            np.testing.assert_allclose(logits.numpy(), target.logits[:, 0], rtol=1e-5, atol=1e-6)
            for weights in net.parameters():
                weights.fill_(torch.nan)
        return {"": np.zeros(len(attacked))}


def test_only_an_attack_that_asks_gets_the_network_and_a_copy() -> None:
    net = network().train()
    target = observations(network().eval(), examples(30, 0))
    target = Observations(target.logits, target.labels, target.members, white_box=WhiteBox(net, examples(30, 0)))
    assert seen_by(Threshold(), target).white_box is None
    seen = seen_by(GradientNorm(), target).white_box
    assert seen is not None
    assert seen.network is not net
    assert not seen.network.training
    assert net.training


def test_the_python_interface_takes_white_box_attacks() -> None:
    net = model()
    before = [each.clone() for each in net.parameters()]
    parts = {"forget": blobs(30, 1), "test": blobs(60, 3)}
    expected = advunlearn.audit(net, **parts, attacks="gradient_norm")
    found = advunlearn.audit(net, **parts, attacks=[Spoiler(), "gradient_norm"])
    assert found.keys() == {"Spoiler", "gradient_norm", "gradient_norm/last_layer"}
    assert found["gradient_norm"] == expected["gradient_norm"]
    assert found["Spoiler"]["auc"] == 0.5
    assert all(map(torch.equal, before, net.parameters()))


def test_a_run_scores_its_three_models(workplace: Any) -> None:
    words = ["attack=[gradient_norm,threshold]", "attack.queries=2", "optimizer.epochs=30", "unlearner=none"]
    result = advunlearn.run(words, "run")
    assert result.metrics is not None
    models = result.metrics["models"]
    # 'none' returns the original; memorised members have smaller gradients; the retrained model has no members
    aucs = {name: models[name]["attacks"]["gradient_norm"]["auc"] for name in models}
    assert aucs["original"] == aucs["unlearned"]
    assert aucs["original"] > aucs["retrained"]
    with np.load("run/scores.npz") as scores:
        assert (scores["original/gradient_norm"] <= 0).all()
        assert not np.array_equal(scores["original/gradient_norm"], scores["retrained/gradient_norm"])
