from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from advunlearn.runtime.settings import Settings
from advunlearn.shadows.model_set import STACK, ShadowOptions
from advunlearn.shadows.originals import OriginalSet, half_of, matched
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer
from tests.shadows.test_shadows import digits_trainer

LABELS = digits_trainer(Path("unused")).pool.labels
TRAIN, TEST, POPULATION = np.arange(200), np.arange(200, 700), np.arange(700, 730)
EVERY_THIRD = TRAIN[::3]
CLASS = TRAIN[LABELS[TRAIN] == 3]


def scale(
    trainer: Trainer, network: nn.Module, retain: np.ndarray, forget: np.ndarray, *checkpoint: Checkpoint
) -> nn.Module:
    """Change the original in place, by an amount drawn from the trainer's seed."""
    factor = np.random.default_rng(trainer.settings.seed).uniform(0.4, 0.6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= factor
    return network


def original_set(
    trainer: Trainer,
    originals: int = 6,
    forget: np.ndarray = EVERY_THIRD,
    unlearn: Callable[..., nn.Module] = scale,
    name: str = "scale",
    **options: Any,
) -> OriginalSet:
    retain = np.setdiff1d(TRAIN, forget)
    shared = ShadowOptions(originals=originals, **{"stacked": False, **options})
    return OriginalSet(trainer, shared, retain, forget, TEST, POPULATION, unlearn, {"name": name})


def said(originals: OriginalSet) -> tuple[np.ndarray, ...]:
    found = originals.observe(np.concatenate([originals.forget, TEST]))
    return (found.logits, found.original, found.retrained, found.retrained_again, found.population)


def kinds(trainer: Trainer) -> Counter[str]:
    return Counter(entry.kind for entry in trainer.store.entries())


def test_rows_are_matched_class_by_class_as_far_as_there_are_any() -> None:
    labels = np.array([0, 0, 1, 2, 0, 0, 0, 1, 3])
    found = matched(np.arange(4), np.arange(4, 9), labels, np.random.default_rng(0))
    assert sorted(labels[found]) == [0, 0, 1]
    assert set(found) <= set(range(4, 9))


def test_halves_share_no_row_and_have_the_same_classes() -> None:
    labels = np.repeat([0, 1, 2], [6, 5, 1])
    halves = [half_of(np.arange(12), labels, index, np.random.default_rng(0)) for index in (0, 1)]
    assert len(np.intersect1d(*halves)) == 0
    assert [sorted(labels[half]) for half in halves] == [[0, 0, 0, 1, 1]] * 2


def test_requests_to_forget_are_as_the_runs_own(tmp_path: Path) -> None:
    originals = original_set(digits_trainer(tmp_path))
    parts = [originals.rows.parts(index) for index in range(6)]
    wanted = np.bincount(LABELS[EVERY_THIRD])
    for retain, forget in parts:
        assert np.array_equal(np.bincount(LABELS[forget]), wanted)
        assert len(retain) == len(parts[0][0])
        assert abs(len(retain) - (len(TRAIN) - len(EVERY_THIRD))) <= 5  # half of the odd row of each class
        assert len(np.intersect1d(retain, originals.rows.candidates)) == 0
        assert np.isin(np.concatenate([retain, forget]), np.concatenate([TRAIN, TEST])).all()
    for first, second in zip(parts[::2], parts[1::2], strict=True):
        assert len(np.intersect1d(np.concatenate(first), np.concatenate(second))) == 0
        assert np.array_equal(np.union1d(first[1], second[1]), originals.rows.candidates)
    assert len({tuple(forget) for _, forget in parts}) == 6
    assert np.isin(EVERY_THIRD, originals.rows.candidates).all()


def test_where_the_run_forgets_a_class_so_does_every_original(tmp_path: Path) -> None:
    originals = original_set(digits_trainer(tmp_path), forget=CLASS)
    for index in range(6):
        retain, forget = originals.rows.parts(index)
        assert set(LABELS[forget]) == {3}
        assert 3 not in LABELS[retain]
        assert len(forget) == len(CLASS)


def test_a_single_row_to_forget_is_too_few_without_a_test_example_of_its_class(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path)
    test = TEST[LABELS[TEST] != LABELS[0]]
    alone = OriginalSet(trainer, ShadowOptions(), TRAIN[1:], TRAIN[:1], test, POPULATION, scale, {})
    with pytest.raises(ValueError, match="too few for shadow originals"):
        alone.rows.parts(0)


def test_the_unlearner_gets_the_original_its_rows_and_a_seed_of_its_own(tmp_path: Path) -> None:
    asked: list[tuple[int, np.ndarray, np.ndarray]] = []

    def spy(
        trainer: Trainer, network: nn.Module, retain: np.ndarray, forget: np.ndarray, checkpoint: Checkpoint
    ) -> nn.Module:
        asked.append((trainer.settings.seed, retain, forget))
        return scale(trainer, network, retain, forget)

    trainer = digits_trainer(tmp_path, settings=Settings(device="cpu", threads=1))
    originals = original_set(trainer, unlearn=spy)
    found = originals.observe(np.concatenate([EVERY_THIRD, TEST]))
    assert len({seed for seed, _, _ in asked}) == 6
    for index, (_, retain, forget) in enumerate(asked):
        assert np.array_equal(retain, originals.rows.parts(index)[0])
        assert np.array_equal(forget, originals.rows.parts(index)[1])
    retain, forget = originals.rows.parts(2)
    for stream, rows, logits in (
        ("original", np.concatenate([retain, forget]), found.original),
        ("retrained", retain, found.retrained),
        ("retrained_again", retain, found.retrained_again),
    ):
        network, _ = trainer.fitted(rows, f"ulira/{stream}", 2)
        assert np.array_equal(logits[2], trainer.logits(network, np.concatenate([EVERY_THIRD, TEST]), 1))
    assert not np.allclose(found.retrained, found.retrained_again)
    network, _ = trainer.fitted(np.concatenate([retain, forget]), "ulira/original", 2)
    unlearned = scale(originals._own(2), network, retain, forget)
    assert np.array_equal(found.logits[2], trainer.logits(unlearned, np.concatenate([EVERY_THIRD, TEST]), 1))
    assert np.array_equal(found.membership[2], np.isin(np.concatenate([EVERY_THIRD, TEST]), forget))


def test_an_interrupted_set_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = Settings(device="cpu", threads=1)
    whole = said(original_set(digits_trainer(tmp_path / "other", settings=settings)))
    trainer, made = digits_trainer(tmp_path, settings=settings), []

    def interrupted(*parts: Any) -> nn.Module:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(parts)
        return scale(*parts)

    with pytest.raises(KeyboardInterrupt):
        said(original_set(trainer, unlearn=interrupted))
    assert kinds(trainer) == {"shadow_original": 6, "shadow_unlearned": 3}
    made.clear()
    assert all(
        np.array_equal(*pair) for pair in zip(said(original_set(trainer, unlearn=interrupted)), whole, strict=True)
    )
    assert len(made) == 3


@pytest.mark.parametrize("stacked", [False, True])
def test_the_number_of_workers_changes_no_bit(tmp_path: Path, stacked: bool) -> None:
    runs = []
    for threads in (1, 2):
        trainer = digits_trainer(tmp_path / str(threads), settings=Settings(device="cpu", threads=threads))
        runs.append(said(original_set(trainer, 2 * STACK if stacked else 4, stacked=stacked)))
    assert all(np.array_equal(*pair) for pair in zip(*runs, strict=True))


def test_another_unlearner_shares_the_originals_and_their_retrained_models(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path)
    first = said(original_set(trainer, 4))
    second = said(original_set(trainer, 4, name="another"))
    assert kinds(trainer) == {"shadow_original": 4, "shadow_unlearned": 8}
    assert all(map(np.array_equal, first, second))  # the same method under another name


def test_what_unlearners_remark_of_shadow_originals_is_not_said(tmp_path: Path) -> None:
    logger, handler = logging.getLogger("advunlearn.unlearners.sg"), logging.FileHandler(tmp_path / "log")
    package = logging.getLogger("advunlearn")

    def talks(*parts: Any) -> nn.Module:
        logger.info("remark")
        logger.warning("warning")
        return scale(*parts)

    level = package.level
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        said(original_set(digits_trainer(tmp_path / "store"), 4, unlearn=talks))
        logger.info("afterwards")
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
    assert (tmp_path / "log").read_text().split() == ["warning"] * 4 + ["afterwards"]


def test_the_store_calls_shadow_originals_by_their_name(tmp_path: Path) -> None:
    originals = original_set(digits_trainer(tmp_path), 4)
    list(originals.outputs())
    assert kinds(originals.trainer) == {"shadow_original": 4, "shadow_unlearned": 4}
