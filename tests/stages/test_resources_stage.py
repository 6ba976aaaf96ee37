"""A run that needs more memory or disk than there is does not start: one line, and the option that lowers it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import advunlearn
from advunlearn.cli import main
from advunlearn.options import UserError
from advunlearn.stages import data, resources
from advunlearn.storage.store import Store

# 1,797 rows of 10 classes, 4 bytes a logit, less 387 audit examples: 56,400 bytes a model.
WORDS = ["attack=lira", "attack.shadows=64", "optimizer.epochs=1", "unlearner.epochs=1", "device=cpu"]


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line with which check and run refuse these words; nothing is trained."""
    assert main(["check", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    with pytest.raises(UserError) as caught:
        advunlearn.run(words, "run")
    assert line == f"error: {caught.value}"
    assert list(Store().entries()) == []
    return str(caught.value)


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_shadow_models_that_do_not_fit_are_refused_with_the_number_that_fits(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(resources, f"free_{what}", lambda *_: 1_000_000)
    error = refused(WORDS, capsys)
    assert error.startswith("the run needs about ")
    assert f" of {what}" in error
    assert " for the logits of 64 shadow models for 1,411 examples of 10 classes, 1 MB are free " in error
    fits = error.partition("(try ")[2].removesuffix(")")
    assert 2 <= int(fits.removeprefix("attack.shadows=")) < 64
    assert main(["check", *WORDS, fits]) == 0


def test_shadow_originals_need_the_logits_of_three_networks_each(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "free_disk", lambda _: 1)
    words = ["attack=ulira", "attack.originals=4", "attack.stacked=false", "optimizer.epochs=1", "device=cpu"]
    # 50 forget, 387 selection and 774 test examples of 10 classes: 4 * 3 * 1,211 * 10 * 4 bytes
    assert "the run needs about 0.581 MB of disk" in refused([*words, "unlearner=none"], capsys)


def test_what_the_store_holds_needs_no_disk(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*WORDS, "attack.shadows=2", "attack.stacked=false"]
    advunlearn.run(words)
    monkeypatch.setattr(resources, "free_disk", lambda _: 1)
    monkeypatch.setattr(resources, "free_memory", lambda: 1)
    assert main(["check", *words]) == 0


def test_a_shard_reads_no_logits(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "free_memory", lambda: 1)
    assert main(["check", *WORDS, "attack.shard=1/2"]) == 0


def test_images_that_do_not_fit_are_refused_before_they_are_read(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.lib.format.open_memmap("big.npy", mode="w+", dtype=np.uint8, shape=(300, 16, 16, 3))
    np.savez("big.npz", images=images, labels=np.arange(300) % 3)
    monkeypatch.setattr(data, "free_memory", lambda: 500_000)
    error = refused(["dataset=npz", "dataset.path=big.npz"], capsys)
    wanted = "dataset needs about 0.691 MB of memory for 300 images of 16x16x3, 0.5 MB are free "
    assert error == f"{wanted}(use fewer or smaller ones)"


def test_more_threads_than_cores_start_no_more_workers_than_cores(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advunlearn.config.compose import experiment_from
    from advunlearn.stages.estimate import before_a_run
    from advunlearn.training import policy

    monkeypatch.setattr(policy, "cores", lambda: 3)
    workers = [before_a_run(experiment_from([f"threads={count}"])).trainer.policy.workers for count in (2, 64)]
    assert workers == [2, 3]
