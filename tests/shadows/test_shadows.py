from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advunlearn.data.digits import Digits
from advunlearn.data.examples import examples_of
from advunlearn.models.cnn import CNN
from advunlearn.models.mlp import MLP
from advunlearn.models.model import Model
from advunlearn.optimizers.adamw import AdamW
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import OptionError
from advunlearn.runtime import workers
from advunlearn.runtime.settings import Settings
from advunlearn.shadows.model_set import LARGE_STACK, STACK, ShadowOptions
from advunlearn.shadows.shadow_set import ShadowSet, drawn_rows, shadow_pool, shadow_rows
from advunlearn.storage.artefacts import Artefact
from advunlearn.storage.store import Store
from advunlearn.training.fit import Diverged
from advunlearn.training.trainer import Trainer


def digits_trainer(root: Path, augment: str = "none", **changes: object) -> Trainer:
    dataset = Digits(augment=augment)
    pool = dataset.load()
    examples = examples_of(pool, dataset, np.arange(250), torch.device("cpu"), channels_last=True)
    settings = Settings(device="cpu", threads=2)
    trainer = Trainer(pool, examples, dataset, MLP(hidden=32), AdamW(epochs=2), settings, Store(root))
    return dataclasses.replace(trainer, **changes)


def shadow_set(trainer: Trainer, shadows: int, **options: object) -> ShadowSet:
    return ShadowSet(trainer, ShadowOptions(shadows, **options), np.arange(90), np.arange(120))


def stored(trainer: Trainer) -> set[str]:
    return {entry.digest for entry in trainer.store.entries()}


def said(shadows: ShadowSet) -> np.ndarray:
    return shadows.observe(np.arange(110), np.arange(110, 120)).logits


@pytest.mark.parametrize("size", [40, 41])
def test_every_row_is_in_exactly_half_of_the_shadow_models(size: int) -> None:
    pool = np.arange(100, 100 + size)
    models = [shadow_rows(pool, index, seed=0) for index in range(8)]
    counts = np.stack([np.isin(pool, rows) for rows in models]).sum(0)
    assert {len(rows) for rows in models} == {size // 2}
    if size % 2 == 0:
        assert (counts == 4).all()
    assert all(len(np.intersect1d(models[j], models[j + 1])) == 0 for j in range(0, 8, 2))
    assert len({tuple(sorted(rows)) for rows in models}) == 8


def test_the_shadow_pool_is_the_training_set_and_as_many_test_examples() -> None:
    train, test = np.arange(50), np.arange(200, 300)
    pool = shadow_pool(train, test, seed=1)
    assert np.isin(train, pool).all()
    assert np.isin(pool[50:], test).all()
    assert len(np.unique(pool)) == 100
    assert len(shadow_pool(train, test[:20], seed=1)) == 70


@dataclass
class Nested(CNN):
    """Goes through vmap."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(super().build(shape, classes))


@pytest.mark.parametrize("optimizer", [AdamW(epochs=2, batch_size=20), SGD(lr=0.05, epochs=2, batch_size=20)])
@pytest.mark.parametrize(
    "model", [MLP(hidden=32), MLP(hidden=20, layers=2), CNN(width=4), CNN(width=4, batch_norm=False), Nested(width=4)]
)
@pytest.mark.parametrize("augment", ["none", "flip_crop"])
def test_a_stack_holds_the_models_that_one_by_one_training_gives(
    tmp_path: Path, model: Model, optimizer: Optimizer, augment: str
) -> None:
    trainer = digits_trainer(tmp_path, augment, model=model, optimizer=optimizer)
    rows = [shadow_rows(np.arange(82), index, seed=0) for index in range(3)]  # 41 examples: a last batch joins another
    stacked = trainer.fitted_stack(rows, "shadow", range(3))
    assert trainer.policy.try_stack()
    for index, (network, record) in enumerate(stacked):
        alone, expected = trainer.fitted(rows[index], "shadow", index)
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        for (name, ours), (_, other) in zip(network.state_dict().items(), alone.state_dict().items(), strict=True):
            torch.testing.assert_close(ours, other, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("model", [MLP(hidden=33), CNN(width=3)])
def test_a_stacked_model_does_not_depend_on_how_many_are_wanted(tmp_path: Path, model: Model) -> None:
    many = said(shadow_set(digits_trainer(tmp_path / "many", model=model), STACK + 4, stacked=True))
    few = digits_trainer(tmp_path / "few", model=model)
    assert np.array_equal(said(shadow_set(few, 2, stacked=True)), many[:2])
    assert len(stored(few)) == STACK
    assert np.array_equal(said(shadow_set(few, STACK + 4, stacked=True)), many)
    lost = sorted(stored(few))[5]
    few.store.remove(lost)
    assert np.array_equal(said(shadow_set(few, STACK + 4, stacked=True)), many)
    assert lost in stored(few)


@pytest.mark.parametrize("stacked", [False, True])
def test_the_number_of_workers_changes_no_bit(tmp_path: Path, stacked: bool) -> None:
    runs = []
    for threads in (1, 2):
        trainer = digits_trainer(tmp_path / str(threads), settings=Settings(device="cpu", threads=threads))
        runs.append(said(shadow_set(trainer, 2 * STACK if stacked else 6, stacked=stacked)))
    assert np.array_equal(*runs)


def test_a_larger_set_begins_with_the_smaller_one(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path)
    two = shadow_set(trainer, 2, stacked=False).observe(np.arange(110), np.arange(110, 120))
    kept = stored(trainer)
    four = shadow_set(trainer, 4, stacked=False).observe(np.arange(110), np.arange(110, 120))
    assert len(kept) == 2
    assert kept < stored(trainer)
    assert np.array_equal(four.logits[:2], two.logits)
    assert np.array_equal(four.membership[:2], two.membership)
    assert (four.logits.shape, four.population.shape) == ((4, 110, 1, 10), (4, 10, 1, 10))
    assert not four.membership[:, 90:].any()
    assert (four.membership[:, :90].sum(0) == 2).all()


def test_an_interrupted_set_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = digits_trainer(tmp_path, settings=Settings(device="cpu", threads=1))
    whole = said(shadow_set(digits_trainer(tmp_path / "other", settings=trainer.settings), 6, stacked=False))
    make, made = ShadowSet.make, []

    def interrupted(self: ShadowSet, group: Sequence[int]) -> Iterator[Artefact]:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(group[0])
        return make(self, group)

    monkeypatch.setattr(ShadowSet, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        said(shadow_set(trainer, 6, stacked=False))
    assert len(stored(trainer)) == 3
    made.clear()
    monkeypatch.setattr(ShadowSet, "make", lambda self, group: made.append(group[0]) or make(self, group))
    assert np.array_equal(said(shadow_set(trainer, 6, stacked=False)), whole)
    assert made == [3, 4, 5]


@pytest.mark.parametrize(
    ("stacked", "shadows", "stored_after"),
    [(False, 6, [3, 6]), (True, 2 * STACK + 2, [STACK + LARGE_STACK, 2 * STACK + LARGE_STACK])],
)
def test_shards_fill_one_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacked: bool, shadows: int, stored_after: list[int]
) -> None:
    trainer = digits_trainer(tmp_path)
    sizes = []
    for shard in ("1/2", "2/2"):
        shadow_set(trainer, shadows, stacked=stacked, shard=shard).train()
        sizes.append(len(stored(trainer)))
    assert sizes == stored_after
    monkeypatch.setattr(ShadowSet, "make", None)  # nothing is left to make
    assert len(said(shadow_set(trainer, shadows, stacked=stacked))) == shadows


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError, match=r"shard must be i/n with i from 1 to n, got 3/2 \(try shard=1/2\)"):
        ShadowOptions(shard="3/2")
    with pytest.raises(OptionError, match=r"shard must be i/n .*got half"):
        ShadowOptions(shard="half")
    with pytest.raises(OptionError, match=r"shadows must be an even whole number, got 3"):
        ShadowOptions(3)


@dataclass
class Noisy(Model):
    """Uses dropout, which draws from torch's one global generator."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, classes))


class Branching(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        outputs = super().forward(inputs.flatten(1))
        return outputs if outputs.sum() > 0 else 2 * outputs


@dataclass
class Unstackable(Model):
    """Looks at its values, which a stack of networks cannot do."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Branching(64, classes)


@pytest.mark.parametrize("processes", [True, False])
def test_a_network_that_draws_is_trained_by_itself_and_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    alone = digits_trainer(tmp_path / "1", model=Noisy(), settings=Settings(device="cpu", threads=1))
    first = said(shadow_set(alone, 2))
    torch.rand(3)
    if not processes:
        monkeypatch.setattr(workers, "forks", lambda: False)
    trainer = digits_trainer(tmp_path / "2", model=Noisy())
    assert (trainer.draws, trainer.policy.stacks, trainer.policy.workers) == (True, False, 2 if workers.forks() else 1)
    assert np.array_equal(first, said(shadow_set(trainer, 2)))


def test_a_network_that_cannot_be_stacked_is_trained_by_itself(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path, model=Unstackable())
    assert (trainer.draws, trainer.policy.stacks, trainer.policy.workers) == (False, False, 2)
    assert said(shadow_set(trainer, 2)).shape == (2, 110, 1, 10)


def test_what_is_stacked_is_chosen_by_the_size_of_a_step(tmp_path: Path) -> None:
    assert digits_trainer(tmp_path, model=MLP(hidden=32)).policy.stacks
    assert digits_trainer(tmp_path, model=CNN(width=32)).policy.stacks
    assert not digits_trainer(tmp_path, model=CNN(width=64)).policy.stacks
    assert digits_trainer(tmp_path, model=Nested(width=8)).policy.stacks
    assert not digits_trainer(tmp_path, model=Nested(width=32)).policy.stacks
    assert digits_trainer(tmp_path, model=MLP(hidden=32)).policy.step_size == 6 * 50 * (64 * 32 + 32 * 10)


@pytest.mark.parametrize("stacked", [False, True])
def test_divergence_in_a_worker_ends_the_others_and_keeps_nothing(tmp_path: Path, stacked: bool) -> None:
    trainer = digits_trainer(tmp_path, optimizer=SGD(lr=1e30))
    with pytest.raises(Diverged, match=r"the shadow model diverged .*lower optimizer.lr"):
        said(shadow_set(trainer, 2 * STACK, stacked=stacked))
    assert stored(trainer) == set()


def test_the_store_calls_reference_models_by_their_name(tmp_path: Path) -> None:
    shadows = dataclasses.replace(shadow_set(digits_trainer(tmp_path), 2), stream="reference")
    list(shadows.outputs())
    assert {entry.kind for entry in shadows.trainer.store.entries()} == {"reference"}


@pytest.mark.parametrize(
    ("size", "models", "inside"), [(40, 10, 4), (80, 10, 8), (50, 10, 5), (60, 5, 3), (90, 20, 18)]
)
def test_drawn_rows_have_each_row_in_equally_many_models(size: int, models: int, inside: int) -> None:
    pool = np.arange(100, 200)
    drawn = [drawn_rows(pool, index, size, seed=3) for index in range(models)]
    assert all(len(np.unique(rows)) == size for rows in drawn)
    counts = np.isin(pool, drawn[0]).astype(int) + sum(np.isin(pool, rows) for rows in drawn[1:])
    # Exactly where windows tile the pool; else the rows at a permutation's end have one model more or fewer per block.
    if 100 % min(size, 100 - size) == 0:
        assert set(counts) == {inside}
    else:
        assert counts.mean() == inside
        assert np.abs(counts - inside).max() <= models / (100 // min(size, 100 - size))


def test_drawn_rows_depend_on_seed_stream_and_index_alone() -> None:
    pool = np.arange(50)
    rows = drawn_rows(pool, 3, 20, seed=1)
    assert np.array_equal(rows, drawn_rows(pool[::-1], 3, 20, seed=1))
    others = [drawn_rows(pool, 3, 20, seed=2), drawn_rows(pool, 5, 20, seed=1), drawn_rows(pool, 3, 20, 1, "other")]
    assert all(set(rows) != set(other) for other in others)


def test_a_set_of_drawn_models_has_their_size(tmp_path: Path) -> None:
    pool = np.arange(100)
    models = ShadowSet(digits_trainer(tmp_path), ShadowOptions(4), pool, pool, "reference", 70)
    assert [len(models.rows(index)) for index in range(4)] == [70] * 4
    assert models.key(0) != ShadowSet(models.trainer, models.options, pool, pool, "reference").key(0)
