"""Gaussian canaries: the noise is that of its rows, the null is standard normal, and the original is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from torch import nn
from torch.nn import functional as F

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.data.digits import Digits
from advunlearn.data.examples import Examples
from advunlearn.data.forget.canaries import PIXEL, Canaries, standard_noise
from advunlearn.evaluation.further_metrics import CanaryMetrics, CanaryTest
from advunlearn.options import ConfigError
from advunlearn.report.run.table import records
from advunlearn.stages.canaries import statistics, summary
from advunlearn.stages.data import split
from tests.unlearners.tasks import network

SHAPE = (8, 8, 1)


def test_the_noise_of_a_row_does_not_depend_on_the_other_rows() -> None:
    both = standard_noise(np.array([3, 7]), SHAPE, seed=1)
    np.testing.assert_array_equal(both[1:], standard_noise(np.array([7]), SHAPE, seed=1))
    assert not np.array_equal(both[1:], standard_noise(np.array([7]), SHAPE, seed=2))
    many = standard_noise(np.arange(300), SHAPE, seed=0)
    assert kstest(many.flatten(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(many[0].flatten(), many[1].flatten())[0, 1]) < 0.3


def test_noisy_images_are_rounded_and_clipped_to_pixels() -> None:
    images = np.stack([np.full(SHAPE, each, np.uint8) for each in (0, 128, 255)])
    found = Canaries(noise=0.1).perturbed(images, np.arange(3), seed=0)
    assert found.dtype == np.uint8
    noise = 0.1 * PIXEL * standard_noise(np.arange(3), SHAPE, seed=0)
    np.testing.assert_array_equal(found[1], np.rint(128 + noise[1]))
    np.testing.assert_array_equal(found[0] > 0, np.rint(noise[0]) > 0)
    np.testing.assert_array_equal(found[2] < 255, np.rint(noise[2]) < 0)


def test_only_the_forget_set_is_changed_and_the_run_has_other_keys(workplace: Path) -> None:
    pool = Digits().load()
    words = ["forget=canaries", "dataset.train_size=120", "device=cpu", "threads=1"]
    (_, trainer, splits), (_, again, _) = (split(experiment_from(words), pool) for _ in range(2))
    changed = trainer.pool.inputs != pool.inputs
    assert np.flatnonzero(changed.any((1, 2, 3))).tolist() == splits.forget.tolist()
    np.testing.assert_array_equal(trainer.pool.clean_inputs, pool.inputs[splits.forget])
    assert trainer.pool.checksum == again.pool.checksum != pool.checksum
    held = trainer.examples.subset(splits.forget).inputs
    np.testing.assert_array_equal(np.moveaxis(held.numpy(), 1, -1), trainer.pool.inputs[splits.forget])


def images(count: int) -> Examples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Examples(pixels, torch.arange(count) % 2, images=True)


class Scaled(nn.Module):
    """A linear network of two classes, for pixels; its logits are so far apart that the loss has no gradient."""

    def __init__(self, weight: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(weight), scale

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.scale * F.linear(pixels.float().flatten(1), self.weight)


@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_a_linear_network_has_a_closed_form_also_where_it_is_certain(scale: float) -> None:
    weight = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    noise, clean = standard_noise(np.arange(10), SHAPE, seed=0), images(10)
    apart = (weight[0] - weight[1]).double().numpy()
    signs = np.where(clean.labels.numpy() == 0, 1, -1)
    expected = signs * (noise.reshape(10, -1) @ apart) / np.linalg.norm(apart)
    np.testing.assert_allclose(statistics(Scaled(weight, scale), clean, noise), expected, rtol=1e-4)


def test_the_statistic_has_the_sign_of_memorized_noise_and_a_dead_network_has_none() -> None:
    noise, clean = standard_noise(np.arange(10), SHAPE, seed=0), images(10)
    first = torch.from_numpy(np.moveaxis(noise[0], -1, 0)).float().flatten()
    memorized = Scaled(torch.stack([first, -first]), 1e-3)  # its loss falls along the noise of image 0, of class 0
    assert statistics(memorized, clean, noise)[0] == pytest.approx(np.linalg.norm(noise[0]), rel=1e-5)
    assert (statistics(Scaled(torch.zeros(2, 64), 1.0), clean, noise) == 0).all()


def test_a_network_that_never_saw_the_noise_has_a_standard_normal_statistic() -> None:
    clean, noise = images(1500), standard_noise(np.arange(1500), SHAPE, seed=0)
    found = statistics(network(), clean, noise)
    assert kstest(found, "norm").pvalue > 0.01
    numbers = summary(found)
    assert numbers["auc_low"] < 0.5 < numbers["auc_high"]


def test_the_numbers_by_hand() -> None:
    quantiles = norm.ppf((np.arange(200) + 0.5) / 200)
    found = summary(quantiles)
    assert found["auc"] == pytest.approx(0.5)
    assert found["tpr_at_fpr_0.01"] == 2 / 200  # the two largest of 200, as of the null itself
    assert found["p_value"] == pytest.approx(0.5)
    assert summary(np.full(100, 0.1645))["p_value"] == pytest.approx(0.05, abs=1e-3)
    assert summary(np.array([0.0, 2.5]))["tpr_at_fpr_0.01"] == 0.5
    one = summary(np.array([1.0]))
    assert one["auc"] == pytest.approx(norm.cdf(1))
    assert (one["auc_low"], one["auc_high"]) == (pytest.approx(norm.cdf(1) - 0.5), 1)


def test_on_digits_the_original_is_told_from_the_retrained_model(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advunlearn.stages.report.draw_pictures", lambda *_: {})
    words = ["forget=canaries", "forget.fraction=0.4", "attack=threshold", "unlearner=none", "device=cpu", "threads=1"]
    metrics = advunlearn.run(words, "run").metrics
    found = metrics["canaries"]
    assert set(found) == set(CanaryTest.__annotations__)
    assert set(found["models"]["original"]) == set(CanaryMetrics.__annotations__)
    original, retrained = found["models"]["original"], found["models"]["retrained"]
    assert original["auc_low"] > max(0.55, retrained["auc_high"])
    assert original["p_value"] < 1e-6
    assert retrained["auc_low"] < 0.5 < retrained["auc_high"]
    assert found["models"]["unlearned"] == original
    rows = {row["name"]: row for row in records(metrics) if row["section"] == "canaries"}
    assert (rows["AUC"]["original"], rows["AUC"]["computed on"]) == (original["auc"], "100 forget, known null")


def test_canaries_need_images_their_gradients_and_a_training(tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [
        (["dataset=newsgroups20"], "forget.noise is for images"),
        (["original.path=model.pt"], "forget changes images before the original is trained"),
        (["dataset.transform=numpy:asarray"], "forget takes gradients of images"),
        (["forget.noise=0"], "forget.noise must be greater than 0"),
    ]
    for words, line in cases:
        with pytest.raises(ConfigError, match=line):
            experiment_from(["forget=canaries", *words])
