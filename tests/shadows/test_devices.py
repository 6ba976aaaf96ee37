"""A set of models on several devices: real processes, whose devices are CPUs."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advunlearn.config.compose import experiment_from
from advunlearn.data.examples import examples_of
from advunlearn.optimizers.adamw import AdamW
from advunlearn.options import UserError
from advunlearn.report.summary.runs import is_idle
from advunlearn.runtime import on_devices
from advunlearn.runtime.memory import DeviceFull, ShortOfMemory
from advunlearn.runtime.settings import Settings
from advunlearn.runtime.shared import LARGE, Shared
from advunlearn.runtime.signals import Interrupted, heed_signals
from advunlearn.shadows.model_set import STACK
from advunlearn.shadows.shadow_set import ShadowSet
from advunlearn.stages.data import split
from advunlearn.stages.shadows import original_set
from advunlearn.storage.artefacts import Artefact
from advunlearn.training.trainer import Trainer
from tests.cuda.disguise import disguised
from tests.runtime.test_workers import eventually, gone
from tests.shadows.test_shadows import digits_trainer, said, shadow_set, stored

# A model of the user. While there is a file `slow`, its trainings last long; it notes the processes that train it.
OWN = """
import logging, os, time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from advunlearn.models.mlp import MLP

HERE = Path(__file__).parent


class Slow(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        if (HERE / "slow").exists():
            (HERE / "pids" / str(os.getpid())).touch()
            time.sleep(0.2)
        return self.network(inputs)


@dataclass
class Own(MLP):
    def build(self, shape, classes):
        (HERE / "pids" / str(os.getpid())).touch()
        logging.getLogger("advunlearn.own").info("built")
        return Slow(super().build(shape, classes))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Trainer]:
    """Give a function that returns the trainer of a user's model with a store of this name."""
    (tmp_path / "pids").mkdir()
    (tmp_path / "of_a_user.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    from of_a_user import Own

    return lambda name: digits_trainer(tmp_path / name, model=Own(hidden=8), optimizer=AdamW(epochs=30))


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let sets of models be on two devices."""
    with monkeypatch.context() as patch:
        patch.setattr(Settings, "all_devices", lambda settings: ["cpu", "cpu"])
        yield patch


def pids(folder: Path) -> set[int]:
    """Return the processes that have trained a model of the user."""
    return {int(path.name) for path in (folder / "pids").iterdir()} - {os.getpid()}


def checkpoints(trainer: Trainer) -> list[Path]:
    return list(trainer.store.area("checkpoints").glob("*/**/*.safetensors"))


def when_both_train(folder: Path, trainer: Trainer, act: Callable[[set[int]], None]) -> None:
    """Do something with the processes, in a thread, when two of them are training models."""
    (folder / "slow").touch()
    claims = trainer.store.area("claims")

    def run() -> None:
        assert eventually(lambda: sum(path.stat().st_size > 0 for path in claims.glob("*")) == 2, 120)
        act(pids(folder))

    threading.Thread(target=run, daemon=True).start()


def test_a_set_is_on_all_gpus_or_those_that_are_named_and_its_keys_do_not_tell() -> None:
    with disguised(3):
        both = Settings(device="cuda", devices=[2, 0])
        assert Settings(device="cuda").all_devices() == ["cuda:0", "cuda:1", "cuda:2"]
        assert both.all_devices() == ["cuda:2", "cuda:0"]
        assert Settings(device="cuda:1").all_devices() == ["cuda:1"]
        assert Settings(device="cpu").all_devices() == ["cpu"]
        identities = [each.identity() for each in (both, Settings(device="cuda"), Settings(device="cuda:1"))]
        assert identities[0] == identities[1] == identities[2]
        with pytest.raises(UserError, match=r"^devices=\[0, 3\]: GPU 3 is not available, .* there are 3$"):
            Settings(device="cuda", devices=[0, 3]).torch_device()
    assert is_idle("devices")


def test_a_worker_that_the_system_kills_is_one_error_and_no_model_is_lost(
    tmp_path: Path, own: Callable[[str], Trainer], two_devices: pytest.MonkeyPatch
) -> None:
    models = shadow_set(own("killed"), 4, stacked=False)
    when_both_train(tmp_path, models.trainer, lambda both: os.kill(min(both), signal.SIGKILL))
    with pytest.raises(ShortOfMemory, match=r"killed one of 2 worker processes.*\(try workers=1, ") as raised:
        models.train()
    assert raised.value.status == 137
    assert all(map(gone, pids(tmp_path)))
    (tmp_path / "slow").unlink()
    models.trainer.policy.most_workers = raised.value.fewer
    assert models.trainer.policy.devices == ["cpu"]
    two_devices.undo()
    assert np.array_equal(said(models), said(shadow_set(own("one"), 4, stacked=False)))
    assert len(stored(models.trainer)) == 4


def test_a_signal_ends_the_workers_with_checkpoints_from_which_one_device_goes_on(
    tmp_path: Path, own: Callable[[str], Trainer], two_devices: pytest.MonkeyPatch
) -> None:
    models = shadow_set(own("ended"), 4, stacked=False)
    when_both_train(tmp_path, models.trainer, lambda both: os.kill(os.getpid(), signal.SIGTERM))
    with heed_signals(), pytest.raises(Interrupted, match="SIGTERM"):
        models.train()
    assert all(map(gone, pids(tmp_path)))
    assert len(checkpoints(models.trainer)) == 2
    (tmp_path / "slow").unlink()
    two_devices.undo()
    assert np.array_equal(said(models), said(shadow_set(own("one"), 4, stacked=False)))
    assert checkpoints(models.trainer) == []


IN_DISGUISE = """
from advunlearn.runtime.on_devices import serve
from tests.cuda.disguise import disguised
with disguised(3):
    serve(sys.argv[2], *map(int, sys.argv[3:]))
"""


def on_gpu(trainer: Trainer, **settings: Any) -> Trainer:
    device = torch.device("cuda")
    examples = examples_of(trainer.pool, trainer.dataset, np.arange(250), device, channels_last=True)
    return replace(trainer, examples=examples, settings=Settings(device="cuda", threads=2, **settings))


def test_two_gpus_share_the_models_of_a_users_class_with_the_keys_and_bits_of_one(
    tmp_path: Path,
    own: Callable[[str], Trainer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "advunlearn")
    with disguised(3), monkeypatch.context() as patch:
        patch.setattr(on_devices, "_SERVE", IN_DISGUISE)
        both = on_gpu(own("both"), devices=[2, 0])
        assert both.settings.torch_device() == torch.device("cuda:2")
        of_both = said(shadow_set(both, 4, stacked=False))
    assert len(pids(tmp_path)) == 2
    assert all(map(gone, pids(tmp_path)))
    assert "4 shadow models on cuda:2, cuda:0" in caplog.messages
    assert caplog.messages.count("built") >= 4  # in the workers
    with disguised(1):
        one = on_gpu(own("one"))
        of_one = said(shadow_set(one, 4, stacked=False))
    assert np.array_equal(of_both, of_one)
    assert np.array_equal(of_both, said(shadow_set(own("cpu"), 4, stacked=False)))
    assert len(stored(both)) == 4
    assert stored(both) == stored(one)
    assert checkpoints(both) == []


FULL = """
from advunlearn.runtime.memory import DeviceFull


def full_at_zero(number):
    if number == 0:
        raise DeviceFull("its memory is not enough")
    return number
"""


def test_other_devices_take_over_from_one_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "full.py").write_text(FULL, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    from full import full_at_zero

    results = on_devices.run_on_devices(full_at_zero, range(4), Settings(device="cpu"), ["cpu", "cpu"])
    assert sorted(next(results) for _ in range(3)) == [1, 2, 3]
    with pytest.raises(DeviceFull, match="its memory is not enough"):
        next(results)  # the first device has failed, and then the last one
    assert caplog.messages == ["its memory is not enough; the other devices do the rest, without cpu"]


@pytest.mark.parametrize(
    ("stacked", "words"),
    [
        (True, r"cpu: its memory is not enough for a stack of 16 shadow models \(try attack.stacked=false\)"),
        (False, r"cpu: its memory is not enough for one of the shadow models \(try smaller batches\)"),
    ],
)
def test_a_device_that_is_full_is_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacked: bool, words: str
) -> None:
    def full(self: ShadowSet, group: range) -> Iterator[Artefact]:
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    models = shadow_set(digits_trainer(tmp_path), STACK, stacked=stacked)
    monkeypatch.setattr(ShadowSet, "make", full)
    with pytest.raises(DeviceFull, match=f"^{words}$"):
        models.train()


def test_what_another_process_cannot_have_is_trained_here(
    tmp_path: Path, two_devices: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = digits_trainer(tmp_path)
    two_devices.setattr(trainer.dataset, "imported_transform", lambda: None)
    models = shadow_set(trainer, 4, stacked=False)
    models.train()
    assert len(stored(trainer)) == 4
    (line,) = (line for line in caplog.messages if line.startswith("one device"))
    assert line.startswith("one device trains all shadow models, as another process cannot (")


def test_a_set_for_another_process_has_its_device_and_this_ones_keys(workplace: Path) -> None:
    """The shadow originals of a run refer to all of it: experiment, data and reference models."""
    words = ["attack=ulira", "attack.originals=4", "attack.stacked=false", "auditor=likelihood_ratio"]
    small = ["optimizer.epochs=1", "unlearner.epochs=1", "auditor.references=4", "dataset.train_size=200"]
    experiment = experiment_from([*words, *small])
    experiment, trainer, splits = split(experiment, experiment.dataset.load())
    originals = original_set(experiment, trainer, splits)
    originals.trained.train()
    keys = list(map(originals.key, range(4)))
    with Shared() as shared:
        sent = pickle.loads(shared.packed(originals, "cpu"))
        assert sent.trainer.settings == replace(trainer.settings, device="cpu")
        assert sent.unlearn.experiment.settings.device == "cpu"
        assert sent.trainer.pool is sent.unlearn.references.trainer.pool
        assert [sent.key(index) for index in range(4)] == keys
        assert sent.finish(range(1)) == 1
    assert trainer.store.holds(originals.kind, keys[:1])
    assert not trainer.store.holds(originals.kind, keys[1:2])


def test_large_arrays_are_written_once_and_what_is_written_there_is_ones_own(tmp_path: Path) -> None:
    large, small = np.arange(LARGE // 8, dtype=np.int64), np.arange(3)
    on_disk = np.memmap(tmp_path / "file", np.uint8, "w+", shape=(LARGE, 2))
    on_disk[:] = 7
    on_disk.flush()
    parts = {
        "large": [large, large],
        "small": small,
        "tensor": torch.arange(LARGE, dtype=torch.bfloat16).view(2, -1),
        "file": on_disk,
        "part": on_disk[1:],
    }
    with Shared() as shared:
        packed = [shared.packed(parts, "cpu") for _ in range(3)]
        assert max(map(len, packed)) < 3000
        assert len(shared.descriptors) == 3  # the large array, the tensor, and the part, which is no whole file
        first, second = (pickle.loads(each) for each in packed[:2])
    for name in ("small", "file", "part"):
        assert np.array_equal(first[name], parts[name])
    assert torch.equal(first["tensor"], parts["tensor"])
    assert first["large"][0] is first["large"][1]
    assert isinstance(first["file"], np.memmap)
    first["large"][0][0], first["file"][0], first["tensor"][0] = -1, 1, 1
    assert large[0] == second["large"][0][0] == 0
    assert on_disk[0, 0] == second["file"][0, 0] == 7
    assert torch.equal(second["tensor"], parts["tensor"])
