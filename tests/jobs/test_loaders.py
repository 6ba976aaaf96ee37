"""Parts of the data as a DataLoader, a torch Dataset and a dict of a batch: the same numbers as tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import advunlearn

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(240) % 3
INPUTS = torch.randn(240, 6, generator=GENERATOR) + LABELS[:, None]
ROWS = {"retain": slice(0, 60), "forget": slice(60, 90), "audit": slice(90, 140), "test": slice(140, 240)}
TENSORS = {name: (INPUTS[rows], LABELS[rows]) for name, rows in ROWS.items()}


class Sentences(Dataset[Any]):
    """Items that are dicts, as sets of Hugging Face have them."""

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"features": self.inputs[index], "labels": int(self.labels[index])}


class Named(nn.Module):
    """A linear network whose input has a name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(6, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features)


FORMS: dict[str, Any] = {
    "arrays": lambda inputs, labels: (inputs.numpy(), labels.numpy()),
    "dataset": TensorDataset,
    "loader": lambda inputs, labels: DataLoader(TensorDataset(inputs, labels), batch_size=32),
    "list": lambda inputs, labels: list(zip(inputs, labels.tolist(), strict=True)),
    "items that are dicts": Sentences,
    "batches that are dicts": lambda inputs, labels: DataLoader(Sentences(inputs, labels), batch_size=32),
}


def numbers(parts: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    """Return the unlearned weights, and the attacks on them."""
    parts = dict(parts)
    test = parts.pop("test")
    unlearned = advunlearn.unlearn(Named(), **parts, epochs=2, forward=lambda model, inputs: model(_alone(inputs)))
    forward = lambda model, inputs: model(_alone(inputs))  # noqa: E731
    return unlearned.network.head.weight, advunlearn.audit(
        unlearned, forget=parts["forget"], test=test, forward=forward
    )


def _alone(inputs: Any) -> torch.Tensor:
    return inputs["features"] if isinstance(inputs, dict) else inputs


@pytest.fixture(scope="module")
def expected() -> tuple[torch.Tensor, Any]:
    return numbers(TENSORS)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_numbers_of_tensors(expected: tuple[torch.Tensor, Any], form: str) -> None:
    weights, attacks = numbers({name: FORMS[form](*part) for name, part in TENSORS.items()})
    assert torch.equal(weights, expected[0])
    assert attacks == expected[1]
