"""Networks of other libraries and of the user: outputs become logits, and mistakes are reported."""

from __future__ import annotations

import copy
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from advunlearn.config.compose import experiment_from
from advunlearn.models.foreign import logits_of, own_module, understood
from advunlearn.models.huggingface import HuggingFace
from advunlearn.models.timm import Timm
from advunlearn.models.torchvision import Torchvision
from advunlearn.options import UserError
from advunlearn.stages.data import check_random, trainer_of
from advunlearn.storage.store import Store
from advunlearn.training.fit import initialise
from advunlearn.training.weights import load_weights, weights_of

HERE = __name__
LOGITS = torch.randn(5, 3)
Outputs = namedtuple("Outputs", ["auxiliary", "logits"])


class Tokens(nn.Module):
    """Takes inputs by name and returns a dict, as language models do."""

    def __init__(self, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        found = self.embedding(ids) * mask[..., None]
        return {"hidden": found, "logits": self.head(found.sum(-2))}


class Pixels(nn.Module):
    """Takes digits and a number beside them."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor, scale: float) -> Tensor:
        return self.head(images.flatten(1)) * scale


def halved(network: nn.Module, inputs: Tensor) -> Any:
    return network(inputs, 0.5)


def fixed(seed: int = 0, *, frozen: bool = False) -> nn.Module:
    """A head with random weights on a body whose weights are the same at every build."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(seed))
    network[1].weight = nn.Parameter(weight, requires_grad=not frozen)
    return network


def zeros() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for weight in network.parameters():
        nn.init.zeros_(weight)
    return network


def normed() -> nn.Module:
    """Biases and norms are constant in every build."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.LayerNorm(8), nn.Linear(8, 10))


def number() -> int:
    return 3


WRAPPED = [LOGITS, (LOGITS, 1), ["x", LOGITS], {"loss": 0.0, "logits": LOGITS}, Outputs(torch.zeros(5), LOGITS)]


@pytest.mark.parametrize("outputs", WRAPPED, ids=lambda outputs: type(outputs).__name__)
def test_logits_are_found_in_what_networks_return(outputs: Any) -> None:
    assert logits_of(outputs, 3, 5) is LOGITS


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_one_logit_of_a_sigmoid_means_the_same_probabilities_and_losses(shape: tuple[int, ...]) -> None:
    one, labels = torch.randn(shape), torch.tensor([0, 1, 1, 0, 1])
    two = logits_of(one, 2, 5)
    assert torch.allclose(two.softmax(1)[:, 1], one.flatten().sigmoid())
    binary = F.binary_cross_entropy_with_logits(one.flatten(), labels.float())
    assert torch.allclose(F.cross_entropy(two, labels), binary)


@pytest.mark.parametrize(
    ("outputs", "classes", "words"),
    [
        (torch.zeros(5, 1), 3, r"logits \(n, 3\), one for each class, got \(n, 1\) of float32; a regression has no"),
        (torch.zeros(5), 3, r"got \(n\) of float32; a regression has no classes, and is not supported$"),
        (torch.zeros(5, 2), 3, r"got \(n, 2\) of float32$"),
        (torch.zeros(5, 3, dtype=torch.int64), 3, r"got \(n, 3\) of int64$"),
        (torch.tensor(1.0), 2, r"got \(\) of float32$"),
        ({"output": LOGITS}, 3, r"got a dict without `logits`: output$"),
        (None, 3, r"must return logits, a tensor \(n, 3\), got NoneType$"),
        ((), 3, r"got tuple$"),
    ],
)
def test_what_cannot_be_class_logits_is_refused_in_one_line(outputs: Any, classes: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        logits_of(outputs, classes, 5)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_one_example_without_its_axis_is_understood(classes: int) -> None:
    """`squeeze` of (1, k) gives (k,), and of (1, 1) gives ()."""
    network = nn.Linear(4, classes)
    plain = understood(network, max(classes, 2))
    squeezed = understood(network, max(classes, 2), lambda model, inputs: model(inputs).squeeze())
    for count in (1, 2, 5):
        inputs = torch.randn(count, 4)
        assert torch.equal(squeezed(inputs), plain(inputs))


def test_other_rows_than_one_per_example_are_refused() -> None:
    pooled = understood(nn.Linear(4, 3), 3, lambda model, inputs: model(inputs[:2]))
    with pytest.raises(UserError, match=r"must return logits of each example, got 2 rows for 5 examples$"):
        pooled(torch.zeros(5, 4))


def batch(examples: int) -> dict[str, Tensor]:
    return {"ids": torch.randint(0, 20, (examples, 6)), "mask": torch.ones(examples, 6)}


def test_named_inputs_are_keyword_arguments_and_copies_are_independent() -> None:
    network = Tokens()
    wrapped, inputs = understood(network, 3), batch(5)
    assert torch.equal(wrapped(inputs), network(**inputs)["logits"])
    other = copy.deepcopy(wrapped)
    nn.init.zeros_(own_module(other).head.weight)
    assert own_module(wrapped) is network
    assert network.head.weight.abs().sum() > 0


def test_a_stack_of_such_networks_computes_what_each_does() -> None:
    networks, inputs = [understood(Tokens(), 3) for _ in range(3)], batch(5)
    parameters, buffers = stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")
    stacked = vmap(lambda p, b: functional_call(skeleton, (p, b), (inputs,)))(parameters, buffers)
    for network, found in zip(networks, stacked, strict=True):
        torch.testing.assert_close(found, network(inputs))


def test_weights_have_the_names_of_the_users_class_which_loads_them() -> None:
    wrapped, other, inputs = understood(Tokens(), 3), Tokens(), batch(5)
    assert list(weights_of(wrapped)) == ["embedding.weight", "head.weight", "head.bias"]
    other.load_state_dict(weights_of(wrapped))
    assert torch.equal(other(**inputs)["logits"], wrapped(inputs))
    again = understood(Tokens(), 3)
    load_weights(again, weights_of(wrapped))
    assert torch.equal(again(inputs), wrapped(inputs))


DIGITS = ["model=module", "device=cpu", "threads=1"]


def test_a_factory_gets_its_arguments_and_nothing_else() -> None:
    words = [*DIGITS, f"model.factory={HERE}:Tokens", "model.arguments.width=7", "model.arguments.classes=2"]
    network = own_module(experiment_from(words).model.build((6,), 2))
    assert isinstance(network, Tokens)
    assert network.embedding.weight.shape == (20, 7)
    words = [*DIGITS, f"model.factory={HERE}:Pixels", f"model.forward={HERE}:halved"]
    wrapped, images = experiment_from(words).model.build((1, 8, 8), 10), torch.randn(3, 1, 8, 8)
    assert torch.equal(wrapped(images), own_module(wrapped)(images, 0.5))


def test_the_arguments_and_the_source_are_in_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(*words: str) -> dict[str, Any]:
        return experiment_from([*DIGITS, *words]).model.identity()

    mine = f"model.factory={HERE}:Tokens"
    assert identity(mine, "model.arguments.width=3") != identity(mine, "model.arguments.width=4")
    assert identity(mine) == identity(mine)
    installed = "model.factory=torch.nn:Identity"  # whose source is not the user's, and does not change
    assert identity(installed) == identity(installed)
    assert len(identity(installed)["factory_source"]) == 64


MISTAKES = {
    "model.factory=null": "model.factory must name a class or function (try model.factory=mypkg.net:Net)",
    f"model.factory={HERE}:Tokns": f"model.factory={HERE}:Tokns: cannot be imported (AttributeError",
    f"model.factory={HERE}:LOGITS": "model.factory must be the import path of a function or class",
    f"model.factory={HERE}:number": f"model: {HERE}:number must make a torch.nn.Module, got int",
    f"model.factory={HERE}:Tokens,model.arguments.widht=3": (
        f"model.arguments do not fit {HERE}:Tokens(width, classes): got an unexpected keyword argument 'widht'"
    ),
    f"model.factory={HERE}:Tokens,model.arguments=3": (
        "model.arguments must be options by name, such as arguments.width=32, got 3"
    ),
    f"model.factory={HERE}:Tokens,model.forward=nowhere:f": "model.forward=nowhere:f: cannot be imported (ModuleNotFou",
    "model=torchvision": "model: torchvision's models need images of 3 channels, got 1",
    "model=torchvision,model.name=resnet5": "model.name=resnet5: there is no such model (did you mean resnet50?)",
    "model=torchvision,dataset=cifar10,model.pretrained=true": "model.pretrained: weights of torchvision need a funct",
    "model=huggingface": "model.path or name must be given, but not both (try model.name=bert, or path=FOLDER)",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_before_any_data_is_read(words: str) -> None:
    with pytest.raises(UserError) as caught:
        experiment_from([*DIGITS, *words.split(",")])
    (line,) = caught.value.problems
    assert line.startswith(MISTAKES[words])


CHECKED = {
    "Pixels": "model: Module fails on inputs of 1x8x8: TypeError: Pixels.forward() missing 1 required positional",
    "Tokens": "model: Module fails on inputs of 1x8x8: TypeError: Tokens.forward() missing 1 required positional",
    "one": "model: the network must return logits (n, 10), one for each class, got (n, 1) of float32; a regression",
    "fixed": "model: 1.weight has the same weights at every seed: the retrained model must start from random ones",
    "zeros": "model: 1.weight has the same weights at every seed: the retrained model must start from random ones",
}


def one() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))


def checked(workplace: Path, *words: str) -> None:
    experiment = experiment_from([*DIGITS, *words])
    pool = experiment.dataset.load()
    trainer_of(experiment, pool, np.arange(100), Store())


@pytest.mark.parametrize("factory", CHECKED)
def test_a_network_that_cannot_be_used_is_refused_before_any_training(workplace: Path, factory: str) -> None:
    with pytest.raises(UserError) as caught:
        checked(workplace, f"model.factory={HERE}:{factory}")
    assert str(caught.value).startswith(CHECKED[factory])
    assert "\n" not in str(caught.value)


def test_constant_biases_frozen_weights_and_what_the_user_allows_are_not_refused(workplace: Path) -> None:
    checked(workplace, f"model.factory={HERE}:normed")
    checked(workplace, f"model.factory={HERE}:fixed", "model.arguments.frozen=true")
    checked(workplace, f"model.factory={HERE}:fixed", "model.pretrained=true")


def test_the_shipped_models_start_from_random_weights(workplace: Path) -> None:
    for words in (["model=mlp"], ["model=cnn", "model.width=2"]):
        experiment = experiment_from([*words, "device=cpu"])
        check_random(trainer_of(experiment, experiment.dataset.load(), np.arange(100), Store()))


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for model, package, extra in ((Timm(), "timm", "timm"), (HuggingFace(name="bert"), "transformers", "huggingface")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            UserError, match=rf"needs the package {package}, an extra \(pip install 'advunlearn\[{extra}"
        ):
            model.build((3, 32, 32), 4)


def test_torchvisions_models_are_built_by_name_from_the_seed() -> None:
    settings = experiment_from(["device=cpu"]).settings
    model = Torchvision(name="shufflenet_v2_x0_5")
    first, again, other = (initialise(model, (3, 32, 32), 4, settings, stream) for stream in ("a", "a", "b"))
    assert first.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    weights = [own_module(network).fc.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
