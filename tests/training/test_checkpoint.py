"""A training that is ended anywhere goes on to the bits of an unbroken one."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advunlearn.auditors.svm import SVM
from advunlearn.data.digits import Digits
from advunlearn.data.examples import examples_of
from advunlearn.models.cnn import CNN
from advunlearn.models.mlp import MLP
from advunlearn.models.model import Model
from advunlearn.optimizers.adamw import AdamW
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import UserError
from advunlearn.runtime.signals import Interrupted, halt_point, heed_signals, is_asked
from advunlearn.storage.files import file_digest
from advunlearn.training import checkpoint as module
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.sg import SG
from advunlearn.unlearners.unlearner import Unlearned, Unlearner
from tests.training.test_training import CPU, digits_trainer
from tests.unlearners.tasks import network, same, task


class Ending(Checkpoint):
    """Send this process a real SIGTERM behind one of its steps."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder, seconds=1e9)
        self.left = at

    def step(self, state: Callable[[], Any]) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        super().step(state)


def ended(folder: Path, steps: list[int], work: Callable[[Checkpoint | None], Any]) -> Any:
    """Return what the work gives after it was ended several times, each time so many steps after it went on."""
    for at in steps:
        with heed_signals(), pytest.raises(Interrupted, match="SIGTERM"):
            work(Ending(folder, at))
        assert len(list(folder.iterdir())) == 1
    return work(Checkpoint(folder, seconds=1e9))


@dataclass
class WithDropout(Model):
    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, classes))


AUGMENTED = Digits(augment="flip_crop")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": CNN(width=4)},
        {"model": CNN(width=4), "optimizer": SGD(lr=0.05, epochs=5, batch_size=16)},
        {"model": WithDropout(), "optimizer": AdamW(epochs=5, batch_size=16, schedule="steps")},
        {"dataset": AUGMENTED, "examples": None},
    ],
    ids=["adamw", "batchnorm, channels last", "momentum", "dropout", "augmentation"],
)
# Within the first epoch, at an epoch's last step, in the middle, and just before the end; 60 rows are 4 batches of 16.
@pytest.mark.parametrize("steps", [[1], [4], [2, 3, 6, 8], [19], [20]])
def test_a_training_goes_on_to_the_same_bits(tmp_path: Path, changes: dict[str, Any], steps: list[int]) -> None:
    changes = {"optimizer": AdamW(epochs=5, batch_size=16), **changes}
    if "examples" in changes:
        pool, cpu = AUGMENTED.load(), torch.device("cpu")
        changes["examples"] = examples_of(pool, AUGMENTED, np.arange(250), cpu, channels_last=True)
    trainer = digits_trainer(tmp_path / "store", **changes)
    rows = np.arange(60)

    def train(checkpoint: Checkpoint | None) -> tuple[nn.Module, dict[str, Any]]:
        return trainer.fitted(rows, "original", checkpoint=checkpoint)

    whole, record = train(None)
    broken, broken_record = ended(tmp_path / "checkpoint", steps, train)
    assert same(whole, broken)
    assert record == broken_record


@pytest.mark.parametrize("dataset", [Digits(), AUGMENTED], ids=["plain", "augmentation"])
@pytest.mark.parametrize("model", [MLP(hidden=8), CNN(width=4)], ids=["mlp", "cnn"])
@pytest.mark.parametrize("steps", [[1], [4, 9], [20]])
def test_a_stack_goes_on_to_the_same_bits(tmp_path: Path, dataset: Digits, model: Model, steps: list[int]) -> None:
    examples = examples_of(dataset.load(), dataset, np.arange(250), torch.device("cpu"), channels_last=True)
    changes = {"dataset": dataset, "examples": examples, "optimizer": AdamW(epochs=5, batch_size=16)}
    trainer = digits_trainer(tmp_path / "store", model=model, **changes)
    rows = [np.arange(60), np.arange(30, 90), np.arange(60, 120)]

    def train(checkpoint: Checkpoint | None) -> list[tuple[nn.Module, dict[str, Any]]]:
        return trainer.fitted_stack(rows, "shadow", range(3), checkpoint=checkpoint)

    for (whole, record), (broken, other) in zip(train(None), ended(tmp_path / "checkpoint", steps, train), strict=True):
        assert same(whole, broken)
        assert record == other


@pytest.mark.parametrize(
    "unlearner",
    [
        Finetune(lr=0.1, epochs=3, batch_size=20, keep_epoch="best"),
        SG(lr=0.1, epochs=3, batch_size=20, auditor=SVM(), keep_epoch="best"),
        SG(lr=0.1, epochs=3, batch_size=20, optimizer_state="separate", audit_every=2, schedule="cosine"),
    ],
    ids=["best epoch", "game", "game with a momentum of its own"],
)
@pytest.mark.parametrize("steps", [[1, 1], [3], [2, 5], [9]])
def test_an_unlearning_goes_on_to_the_same_bits_and_trace(
    tmp_path: Path, unlearner: Unlearner, steps: list[int]
) -> None:
    request = task(selection=task().audit)

    def unlearn(checkpoint: Checkpoint | None) -> Unlearned:
        return unlearner.run(network(), dataclasses.replace(request, checkpoint=checkpoint))

    whole, broken = unlearn(None), ended(tmp_path, steps, unlearn)
    assert same(whole.network, broken.network)
    assert whole.trace == broken.trace


def test_it_is_written_by_the_clock_and_goes_when_the_model_is_kept(tmp_path: Path) -> None:
    always = dataclasses.replace(CPU, checkpoint_seconds=0.0)
    trainer = digits_trainer(tmp_path, settings=always)
    assert trainer.key(np.arange(60), "original") == digits_trainer(tmp_path).key(np.arange(60), "original")
    written = []

    class Watched(Checkpoint):
        def write(self, state: Any) -> None:
            super().write(state)
            written.append(len(list(self.folder.iterdir())))

    checkpoint = trainer.checkpoint("model", trainer.key(np.arange(60), "original"))
    trainer.fitted(np.arange(60), "original", checkpoint=Watched(checkpoint.folder, checkpoint.seconds))
    assert written == [1] * 10  # two steps an epoch, and never more than one file
    trainer.train(np.arange(60), "original")
    assert not checkpoint.folder.exists()


def test_a_damaged_checkpoint_is_said_so_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path, 0)
    assert checkpoint.read() is None
    state = {"a": torch.arange(3), "b": [1, None, 0.1, {2: torch.tensor(1.5), "x": {}}], "c": "text"}
    checkpoint.write(state)
    read = checkpoint.read()
    assert torch.equal(read["a"], state["a"])
    assert read["b"][:3] == [1, None, 0.1]
    assert set(read["b"][3]) == {2, "x"}
    assert read["b"][3][2].item() == 1.5
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.read() is None
    assert "damaged" in caplog.text


def test_the_seconds_of_earlier_attempts_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    first = Checkpoint(tmp_path, 0)
    clock.now += 10
    first.write({"a": torch.arange(3)})
    later = Checkpoint(tmp_path, 0)
    clock.now += 2  # of preparation, which the first one did as well
    later.read()
    clock.now += 5
    assert later.spent() == 10 + 5


def of_another_training(folder: Path, key: str) -> None:
    Checkpoint(folder, 0, f"{key}0").write([1])


def of_another_part(folder: Path, key: str) -> None:
    Checkpoint(folder.parent, 0, key).part(folder.name).write([1])


def of_an_older_version(folder: Path, key: str) -> None:
    about = {"state": "[1]", "spent": "1.0"}  # as it wrote them: without a key
    folder.mkdir()
    save_file({"0": torch.arange(3)}, folder / "new", metadata=about)
    (folder / "new").rename(folder / f"{file_digest(folder / 'new')}.safetensors")


def of_no_kind(folder: Path, key: str) -> None:
    folder.mkdir()
    (folder / "new").write_bytes(b"no safetensors")
    (folder / "new").rename(folder / f"{file_digest(folder / 'new')}.safetensors")


def a_pipe(folder: Path, key: str) -> None:
    folder.mkdir()
    os.mkfifo(folder / f"{'0' * 64}.safetensors")


@pytest.mark.parametrize("plant", [of_another_training, of_another_part, of_an_older_version, of_no_kind, a_pipe])
def test_a_foreign_checkpoint_is_said_so_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, plant: Callable[[Path, str], None]
) -> None:
    mine = Checkpoint(tmp_path / "folder", 0, "key")
    plant(mine.folder, "key")
    assert mine.read() is None
    assert mine.spent() < 10
    assert "this checkpoint is not used" in caplog.text
    mine.write([2])
    assert mine.read() == [2]
    assert len(list(mine.folder.iterdir())) == 1


def test_a_checkpoint_deletes_its_own_files_only(tmp_path: Path) -> None:
    theirs = {tmp_path / name for name in ("thesis.safetensors", "notes.txt", "0" * 64)}
    for path in theirs:
        path.write_text("years of work")
    checkpoint = Checkpoint(tmp_path, 0)
    for number in range(3):
        checkpoint.write([number])
    assert all(path.read_text() == "years of work" for path in theirs)
    assert len(set(tmp_path.iterdir()) - theirs) == 1


@pytest.mark.parametrize("part", ["", "part"])
def test_a_checkpoint_follows_no_link(tmp_path: Path, part: str) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "link"
    kept = elsewhere / part / f"{'0' * 64}.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_text("years of work")
    link.symlink_to(elsewhere)
    checkpoint = Checkpoint(link, 0).part("part") if part else Checkpoint(link, 0)
    for use in (checkpoint.read, lambda: checkpoint.write([1])):
        with pytest.raises(UserError, match=f"^{link} is a symbolic link"):
            use()
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == [kept]


def test_a_checkpoint_of_another_format_is_logged_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = digits_trainer(tmp_path / "store")
    checkpoint = Checkpoint(tmp_path / "checkpoint", seconds=1e9)
    checkpoint.write({"epoch": 3, "done": 1, "orders": [torch.zeros(4)], "parts": {"augment": torch.zeros(4)}})
    with caplog.at_level(logging.WARNING):
        resumed, _ = trainer.fitted(np.arange(60), "original", checkpoint=checkpoint)
    assert same(resumed, trainer.fitted(np.arange(60), "original")[0])
    assert "original: the checkpoint is from another version; the training starts again" in caplog.text


def test_signals_are_heeded_at_the_next_halt_point_and_the_second_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with heed_signals():
        halt_point()
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert is_asked()
        with pytest.raises(Interrupted) as raised:
            halt_point()
        assert raised.value.number == signal.SIGUSR1
        with pytest.raises(Interrupted, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
    assert not is_asked()
    assert signal.getsignal(signal.SIGTERM) == before
