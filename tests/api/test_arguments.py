"""Arguments that cannot be used: each is one line that names it as the caller does, and nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import advunlearn
from advunlearn.attacks.lira import LiRA
from advunlearn.attacks.threshold import Threshold
from advunlearn.options import ConfigError, UserError
from advunlearn.unlearners.sg import SG

LABELS = torch.arange(90) % 3
INPUTS = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)) + LABELS[:, None]
ROWS = {"retain": slice(0, 30), "forget": slice(30, 42), "audit": slice(42, 60), "test": slice(60, 90)}
PARTS = {name: (INPUTS[rows], LABELS[rows]) for name, rows in ROWS.items()}
X, Y = PARTS["forget"]


def model(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, outputs)


def train(dataset: Any, seed: int) -> nn.Module:
    return model()


def unlearn(**changes: Any) -> Any:
    parts = {name: PARTS[name] for name in ("retain", "forget", "audit")}
    return advunlearn.unlearn(**{"model": model(), **parts, **changes})


def audit(**changes: Any) -> Any:
    return advunlearn.audit(**{"model": model(), "forget": PARTS["forget"], "test": PARTS["test"], **changes})


def compare(**changes: Any) -> Any:
    models = {name: model() for name in ("original", "unlearned", "retrained")}
    parts = {name: PARTS[name] for name in ("retain", "forget", "test")}
    return advunlearn.compare(**{**models, **parts, **changes})


def run(overrides: Any = ("seed=0",), **changes: Any) -> Any:
    return advunlearn.run(overrides, **changes)


def loader(**options: Any) -> Any:
    return DataLoader(TensorDataset(X, Y), batch_size=5, **options)


KINDS = "attacks must be names of attacks, such as 'threshold', or objects, got "
METHOD = "method must be the name of an unlearner, such as 'sg', or an object, got "
NETWORK = " must be a torch.nn.Module, got "
PART = " must be a pair (inputs, labels) of tensors or arrays of numbers"
FORMS = f"{PART}, a torch Dataset or a DataLoader, got "
SCALAR = "loss must return a scalar tensor that depends on the logits, got "
ROWS_KEPT = "transform must return a tensor, or several by name, with a row for each example of a batch"
ATTACKS = "classifier, gradient_norm, lira, mia_efficacy, population, rmia, threshold, ulira, weight_change"

MISTAKES: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    # attacks and methods
    (audit, {"attacks": []}, f"{KINDS}none"),
    (audit, {"attacks": ""}, f"{KINDS}none"),
    (compare, {"attacks": None}, f"{KINDS}None"),
    (audit, {"attacks": 3}, f"{KINDS}3"),
    (audit, {"attacks": [SG()]}, f"{KINDS}SG"),
    (compare, {"attacks": Threshold}, f"{KINDS}the class Threshold (an object is needed, such as Threshold(...))"),
    (
        audit,
        {"attacks": ["threshold", "lirra"]},
        f"attacks=lirra: no such option; choose one of {ATTACKS} (did you mean lira?)",
    ),
    (
        audit,
        {"attacks": "threshold,lira"},
        f"attacks=threshold,lira: no such option; choose one of {ATTACKS} (did you mean threshold?)",
    ),
    (unlearn, {"method": None}, f"{METHOD}None"),
    (unlearn, {"method": SG}, f"{METHOD}the class SG (an object is needed, such as SG(...))"),
    (unlearn, {"method": Threshold()}, f"{METHOD}Threshold"),
    # what attacks need
    (audit, {"attacks": "lira"}, "lira trains models to compare with: use advunlearn.compare with train="),
    (
        audit,
        {"attacks": "population"},
        "population compares with other examples: give population=, further non-members",
    ),
    (
        audit,
        {"attacks": "mia_efficacy"},
        "mia_efficacy compares with other examples: give retain=, training examples that the model keeps",
    ),
    (
        compare,
        {"attacks": "rmia", "train": train, "shadows": 2},
        "rmia compares with other examples: give selection=, further non-members",
    ),
    (compare, {"attacks": "lira"}, "lira compares with other models: give train=, a function that trains them"),
    (
        compare,
        {"retrained": None},
        "a comparison needs a retrained model: give retrained=, or train=, a function that trains it",
    ),
    # numbers of models
    (compare, {"shadows": 3}, "shadows must be an even whole number, got 3 (try shadows=16)"),
    (compare, {"shadows": -2}, "shadows must be at least 0, got -2 (try shadows=128)"),
    (compare, {"shadows": "a"}, "shadows must be a whole number, got a"),
    *(
        (
            compare,
            {"shadows": 0, "attacks": attacks, "train": train},
            "shadows must be at least 2 for these attacks, got 0 (try shadows=16)",
        )
        for attacks in ("lira", LiRA())
    ),
    (compare, {"originals": 2}, "originals must be at least 4, got 2 (try originals=64)"),
    # models
    (unlearn, {"model": None}, f"model{NETWORK}None"),
    (audit, {"model": nn.Linear}, f"model{NETWORK}the class Linear (an object is needed, such as Linear(...))"),
    (
        compare,
        {"unlearned": model().state_dict()},
        f"unlearned{NETWORK}OrderedDict (load these weights into a network: network.load_state_dict(...))",
    ),
    (compare, {"retrained": "model.pt"}, f"retrained{NETWORK}'model.pt'"),
    (compare, {"original": None}, f"original{NETWORK}None"),
    # functions
    *(
        (function, {name: "a"}, f"{name} must be a function, got 'a'")
        for function, names in (
            (unlearn, ("forward", "transform", "loss", "optimizer", "train")),
            (audit, ("forward", "transform")),
            (compare, ("forward", "transform", "train")),
        )
        for name in names
    ),
    (unlearn, {"optimizer": torch.optim.SGD(model().parameters())}, "optimizer must be a function, got SGD"),
    (unlearn, {"optimizer": lambda weights: 3}, "optimizer must return a torch.optim.Optimizer, got 3"),
    (
        unlearn,
        {"method": "fisher", "optimizer": torch.optim.SGD},
        "optimizer= is for methods that take gradient steps, and Fisher does not",
    ),
    (unlearn, {"loss": lambda logits, labels: 3}, f"{SCALAR}3"),
    (unlearn, {"loss": lambda logits, labels: logits}, f"{SCALAR}a tensor of shape (30, 3)"),
    (unlearn, {"loss": lambda logits, labels: torch.tensor(1.0)}, f"{SCALAR}Tensor"),
    (
        unlearn,
        {"method": "scrub", "loss": nn.functional.cross_entropy},
        "loss= replaces a cross-entropy, and SCRUB has a loss of its own",
    ),
    (audit, {"transform": lambda inputs: 3}, ROWS_KEPT),
    (compare, {"transform": lambda inputs: inputs[:2]}, ROWS_KEPT),
    (unlearn, {"transform": torch.squeeze, "forget": (X[:1], Y[:1])}, ROWS_KEPT),
    # parts of the data
    *((unlearn, {name: None}, f"{name}{FORMS}None") for name in ("retain", "forget", "audit")),
    *((audit, {name: None}, f"{name}{FORMS}None") for name in ("forget", "test")),
    *((compare, {name: None}, f"{name}{FORMS}None") for name in ("retain", "forget", "test")),
    (audit, {"forget": X}, f"forget{FORMS}Tensor"),
    (audit, {"forget": "rows.txt"}, f"forget{FORMS}'rows.txt'"),
    (
        audit,
        {"forget": (X.numpy().astype(object), Y)},
        f"forget{PART} (an array of object does not hold numbers; try .astype(float))",
    ),
    (
        audit,
        {"forget": (X.to("meta"), Y)},
        f"forget{PART} (a tensor without values, or a sparse one; try .to_dense())",
    ),
    (
        audit,
        {"forget": loader(drop_last=True)},
        "forget: its DataLoader leaves out 2 examples, as it has drop_last=True (use False)",
    ),
    (audit, {"forget": (X, Y + 1)}, "forget labels must be at most 2, as the model has 3 logits, got 3"),
    # settings
    (unlearn, {"seed": -1}, "seed must be at least 0 and less than 4294967296, got -1 (try seed=0)"),
    (audit, {"seed": "a"}, "seed must be a whole number, got a"),
    (compare, {"seed": 1.5}, "seed must be a whole number, got 1.5"),
    (audit, {"device": "gpu"}, "device must be one of auto, cpu, cuda, cuda:N, got gpu"),
    (unlearn, {"config_dir": "nowhere"}, "config_dir=nowhere: no such folder"),
    (run, {"config_dir": 3}, "config_dir must be the path of a folder, got 3"),
    # options
    (unlearn, {"alhpa": 1}, "alhpa: no such option (did you mean alpha?)"),
    (unlearn, {"epochs": object()}, "epochs must be a number, a text, True, False, None or a list, got object"),
    (unlearn, {"batch_size": 0}, "batch_size must be at least 1, got 0 (try batch_size=50)"),
    (
        unlearn,
        {"auditor": SG},
        "auditor must be a name or an object, got the class SG (an object is needed, such as SG(...))",
    ),
    (
        unlearn,
        {"auditor": "smv"},
        "auditor=smv: no such option; choose one of calibrated, likelihood_ratio, logistic, neural, svm "
        "(did you mean svm?)",
    ),
    # a run
    (run, {"overrides": "seed=1"}, "overrides must be a list of texts, such as [\"seed=1\"], got 'seed=1'"),
    (run, {"overrides": [3]}, 'overrides must be texts, such as "seed=1", got 3'),
    (run, {"overrides": ["-m"]}, "-m: flags belong to the command line; advunlearn.run takes only overrides"),
    (run, {"folder": 3}, "folder must be the path of a folder, got 3"),
]


@pytest.mark.parametrize(
    ("function", "changes", "line"),
    MISTAKES,
    ids=[f"{function.__name__}-{'-'.join(changes)}-{number}" for number, (function, changes, _) in enumerate(MISTAKES)],
)
def test_a_mistake_is_one_line(
    workplace: object, function: Callable[..., Any], changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        function(**changes)
    assert str(caught.value) == line


def test_an_unknown_method_is_told_from_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"^method=sgg: no such option; choose one of .* \(did you mean sg\?\)$"):
        unlearn(method="sgg")


def test_a_run_does_not_write_below_a_file(workplace: object) -> None:
    with open("taken", "w", encoding="utf-8"):
        pass
    for folder in ("taken", "taken/run"):
        with pytest.raises(UserError, match=f"^folder={folder}: it, or a folder above it, is a file$"):
            run(folder=folder)


@pytest.mark.parametrize("name", ["transform", "forward", "loss", "optimizer"])
def test_an_error_of_the_callers_function_is_one_line_with_its_place(name: str) -> None:
    def failing(*arguments: Any) -> Any:
        raise KeyError("no\nsuch key")

    with pytest.raises(UserError, match=rf"^{name} fails.*: KeyError: .*\({__file__} line \d+\)$"):
        unlearn(**{name: failing})


def test_the_name_of_a_file_in_an_error_stays_as_it_is() -> None:
    def failing(inputs: Tensor) -> Tensor:
        raise OSError("/home/unlearner.alpha/attack.npz")

    with pytest.raises(UserError, match=r"OSError: /home/unlearner\.alpha/attack\.npz "):
        audit(transform=failing)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        yield from zip(X, Y.tolist(), strict=True)


class Table:
    """What this package uses of a table of pandas."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values
        self.values.flags.writeable = False

    def to_numpy(self) -> np.ndarray[Any, Any]:
        return self.values


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "forget",
    [
        Stream(),
        DataLoader(Stream(), batch_size=5),
        loader(shuffle=True),
        DataLoader(TensorDataset(X, Y), batch_size=6, drop_last=True),
        (Table(X.numpy().copy()), Table(Y.numpy().copy())),
        (X.numpy()[::-1], Y.numpy()[::-1]),
        (X.double().tolist(), Y.tolist()),
    ],
    ids=["stream", "loader of a stream", "shuffled", "whole batches", "table", "negative strides", "lists"],
)
def test_data_of_other_forms_give_the_numbers_of_tensors(forget: Any) -> None:
    found, wanted = (audit(attacks="threshold", **given)["threshold"] for given in ({"forget": forget}, {}))
    assert found["members"] == wanted["members"] == len(X)
    assert found["auc"] == pytest.approx(wanted["auc"])  # the order of examples does not matter


def test_a_seed_of_numpy_is_a_seed() -> None:
    assert audit(seed=np.int64(3)) == audit(seed=3)


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 12])
def test_a_model_that_squeezes_its_outputs_gives_the_same_numbers(outputs: int, count: int) -> None:
    classes = max(outputs, 2)
    parts = {name: (inputs, labels % classes) for name, (inputs, labels) in PARTS.items()}
    parts["forget"] = X[:count], Y[:count] % classes
    test = parts.pop("test")
    found = []
    for forward in (None, lambda model, inputs: model(inputs).squeeze()):
        unlearned = unlearn(model=model(outputs), **parts, forward=forward, method="finetune", epochs=1, batch_size=29)
        attacks = ["threshold", "gradient_norm"]
        metrics = audit(model=unlearned, forget=parts["forget"], test=test, forward=forward, attacks=attacks)
        found.append((metrics, unlearned.network.weight.tolist()))
    assert found[0] == found[1]


def test_one_example_in_each_part_is_compared() -> None:
    parts = {name: (inputs[3:4], labels[3:4]) for name, (inputs, labels) in PARTS.items()}
    with pytest.raises(UserError, match=r"^all training examples are of class 0; two classes or more are needed$"):
        compare(**parts)
    found = compare(**{**parts, "retain": PARTS["retain"]}, attacks="threshold")
    assert found.metrics["models"]["original"]["attacks"]["threshold"]["members"] == 1
