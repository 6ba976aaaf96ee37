"""AMUN: adversarial examples within their radii, and what the steps see of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from advunlearn.data.examples import Examples, FlipCrop
from advunlearn.unlearners.amun import AMUN, adversarial, predictions
from tests.unlearners.tasks import examples, known, mlp, task


@pytest.fixture(scope="module")
def original() -> nn.Module:
    return known(mlp).eval()


def test_adversarial_examples_are_misclassified_and_within_their_radii(original: nn.Module) -> None:
    forget = examples(30, 1)
    moved, radii = adversarial(original, forget.inputs, forget.labels, 0.1, 20, 10)  # type: ignore[arg-type]
    assert radii.isfinite().all()
    assert (predictions(original, moved) != forget.labels).all()
    distances = (moved - forget.inputs).flatten(1).norm(dim=1)
    assert (distances <= radii * (1 + 1e-5)).all()
    assert (distances > 0).all()
    assert moved.min() >= forget.inputs.min()
    assert moved.max() <= forget.inputs.max()


def test_the_radius_is_the_first_one_that_reaches_the_boundary() -> None:
    """The distance to a linear classifier's boundary is the difference of the logits over that of the weights' norm."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(1)
    model = nn.Linear(5, 2)
    inputs = torch.randn(20, 5, generator=generator)
    logits = model(inputs).detach()
    labels = logits.argmax(1)
    normal = (model.weight[0] - model.weight[1]).norm().item()
    distances = (logits[:, 0] - logits[:, 1]).abs() / normal
    limits = torch.cat([inputs, torch.full((1, 5), 100.0), torch.full((1, 5), -100.0)])  # so that none is clipped
    moved, radii = adversarial(model, limits, torch.cat([labels, torch.tensor([0, 0])]), 0.01, 50, 12)
    expected = 0.01 * 2.0 ** (distances / 0.01).log2().ceil().clamp(min=0)
    torch.testing.assert_close(radii[:20], expected)
    assert ((moved[:20] - inputs).norm(dim=1) <= distances + 0.1 * expected * (1 + 1e-4)).all()


def test_an_example_that_is_wrong_already_stays_and_one_that_resists_has_no_radius() -> None:
    class Sure(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.stack([1 + 0 * inputs.sum(1), 0 * inputs.sum(1)], 1)

    inputs = torch.rand(4, 3)
    moved, radii = adversarial(Sure(), inputs, torch.tensor([0, 1, 0, 1]), 0.5, 3, 2)
    assert radii.tolist() == [math.inf, 0.5, math.inf, 0.5]
    assert torch.equal(moved[[1, 3]], inputs[[1, 3]])


def test_every_epoch_sees_all_examples_and_each_adversarial_one_once_without_augmentation(original: nn.Module) -> None:
    parts = {
        name: Examples(each.inputs, each.labels, images=True, augment=FlipCrop(2)) for name, each in sets().items()
    }
    given = task(**parts)
    forget = given.forget
    span = (forget.inputs.max() - forget.inputs.min()).item()  # type: ignore[union-attr]
    moved, _ = adversarial(original, forget.inputs, forget.labels, 0.04 * span, 10, 12)  # type: ignore[arg-type]
    seen: list[Tensor] = []
    hook = original.register_forward_pre_hook(lambda model, given: seen.append(given[0]) if model.training else None)
    AMUN(lr=1e-9, epochs=2, batch_size=32, attack_steps=10).unlearn(original, given)
    hook.remove()
    batches = torch.cat(seen).flatten(1)
    assert len(batches) == 2 * (60 + 30 + 30)
    assert all((batches == each).all(1).sum() == 2 for each in moved.flatten(1))


def sets() -> dict[str, Examples]:
    return {"retain": examples(60, 0), "forget": examples(30, 1)}
