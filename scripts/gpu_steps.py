"""The steps of `gpu_check.py`, in its order: each takes a `Bench` and returns what it found.

A result is a dict: `ok` is whether a check passed (a measurement has none), `rows` is a table, a dict for each row, and
all other values are printed above it. A step that cannot be done here returns `{"skipped": reason}`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_audit_step import Mean
from torch import Tensor, nn
from torch.nn import functional as F

import advunlearn
from advunlearn.auditors.auditor import Auditor
from advunlearn.auditors.likelihood_ratio import LikelihoodRatio
from advunlearn.auditors.logistic import Logistic
from advunlearn.auditors.neural import Neural
from advunlearn.auditors.scores import score_columns
from advunlearn.auditors.svm import SVM
from advunlearn.config import Experiment
from advunlearn.data.catalogue import status
from advunlearn.data.splits import Splits
from advunlearn.folders import cache_folder, config_folder
from advunlearn.interruption import Interrupted, ask, heed_signals
from advunlearn.manifest import Manifest
from advunlearn.overrides import experiment_from
from advunlearn.seeding import clean_state
from advunlearn.settings import Settings
from advunlearn.stages.unlearn import make_task, reference_set
from advunlearn.train import Result, prepare
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.sg import SG

Found = dict[str, Any]

NEEDS_CUDA: Found = {"skipped": "it needs CUDA"}

CIFAR10 = 50_000  # training images
NETWORKS = {"mlp": "model.hidden=64", "cnn": "model.width=8", "resnet18": "model.width=8"}
AUDITORS: dict[str, Auditor] = {
    "svm": SVM(),
    "svm, squared_hinge": SVM(loss="squared_hinge"),
    "svm, hinge": SVM(loss="hinge"),
    "logistic": Logistic(),
    "neural": Neural(),
    "likelihood_ratio": LikelihoodRatio(),
}


@dataclass
class Bench:
    """What every step gets.

    Attributes:
        device: to be examined.
        tiny: only exercise the code.
        out: folder for results and runs.
        data: folder with packed parts of CIFAR-10, or None.
        note: writes what a long step has found so far.
    """

    device: torch.device
    tiny: bool
    out: Path
    data: Path | None
    note: Callable[[Found], None] = print

    @classmethod
    def make(cls, device: str, tiny: bool, out: Path, data: Path | None) -> Bench:
        """Return a bench whose runs keep their models in a store of its own, and share the data in the usual cache.

        Raises:
            ValueError: if the device is not available.
        """
        Settings(device=device).torch_device()
        cache = (out / "cache").absolute()
        cache.mkdir(exist_ok=True)
        data_folder = cache_folder() / "data"
        if data_folder.is_dir() and not (cache / "data").exists():
            (cache / "data").symlink_to(data_folder.absolute())
        os.environ["ADVUNLEARN_CACHE"] = str(cache)
        return cls(torch.device(device), tiny, out, data)

    @property
    def cuda(self) -> bool:
        """Is the device a GPU?"""
        return self.device.type == "cuda"

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
        if self.cuda:
            torch.cuda.synchronize()

    def is_broken(self) -> bool:
        """Has an error left the GPU unusable for this process?"""
        try:
            self.synchronize()
        except RuntimeError:
            return True
        return False

    def seconds(self, function: Callable[[], object], repeats: int = 3, warm: int = 1) -> float:
        """Return the median time of a call, the device's work included."""
        taken = []
        for repeat in range(-warm, repeats):
            self.synchronize()
            start = time.perf_counter()
            function()
            self.synchronize()
            if repeat >= 0:
                taken.append(time.perf_counter() - start)
        return float(np.median(taken))

    def images(self, count: int, size: int) -> list[str]:
        """Return the overrides for a dataset of random images, as many to train on and 1,000 beside them."""
        path = self.out / f"images-{count}-{size}.npz"
        if not path.exists():
            random, rows = np.random.default_rng(0), count + 1000
            images = random.integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
            np.savez(path, images=images, labels=np.arange(rows) % 10)
        return [
            "dataset=npz",
            f"dataset.path='{path}'",
            f"dataset.train_size={count}",
            "dataset.augment=flip_crop",
            "attack=threshold",
        ]


@dataclass(frozen=True)
class Setting:
    """What a run computes with."""

    experiment: Experiment
    trainer: Trainer
    splits: Splits


@contextlib.contextmanager
def setting(words: Sequence[str], device: torch.device) -> Iterator[Setting]:
    """Give what a run of these overrides computes with; inside, torch's switches are set as the run would set them."""
    experiment = experiment_from([*words, f"device={device}"])
    with (
        tempfile.TemporaryDirectory() as folder,
        clean_state(experiment.settings.seed),
        Manifest(Path(folder)) as manifest,
    ):
        experiment.settings.set_switches()
        yield Setting(experiment, *prepare(experiment, manifest))


def fitting(batch_size: int, *, optimizer: str = "sgd", lr: float = 0.01, precision: str = "fp32") -> list[str]:
    """Return the overrides for an epoch of training."""
    common = [f"optimizer.batch_size={batch_size}", "optimizer.epochs=1", f"optimizer.lr={lr}"]
    return [f"optimizer={optimizer}", *common, f"precision={precision}"]


def weights(network: nn.Module) -> Tensor:
    """Return all weights as one vector on the CPU."""
    return torch.cat([parameter.detach().cpu().flatten() for parameter in network.parameters()])


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    """Return the largest absolute difference of two networks' weights."""
    return float((weights(one) - weights(other)).abs().max())


# --- Is it right? ---


def environment(bench: Bench) -> Found:
    """Name versions and card, and measure how fast it copies memory and multiplies matrices in bfloat16."""
    name = torch.cuda.get_device_name() if bench.cuda else platform.processor() or platform.machine()
    found: Found = {
        "name": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if bench.cuda else "none",
        "cudnn": torch.backends.cudnn.version() if bench.cuda else "none",
        "python": platform.python_version(),
        "advunlearn": advunlearn.__version__,
        "tiny": bench.tiny,
    }
    count, size = (2**20, 256) if bench.tiny else (2**28, 8192)
    source = torch.randn(count, device=bench.device)
    target = torch.empty_like(source)
    matrix = torch.randn(size, size, device=bench.device, dtype=torch.bfloat16)
    found["copies (TB/s)"] = 2 * source.nbytes / bench.seconds(lambda: target.copy_(source), 5) / 1e12
    found["multiplies in bf16 (TFLOP/s)"] = 2 * size**3 / bench.seconds(lambda: matrix @ matrix, 5) / 1e12
    return found


def audit(
    auditor: Auditor, features: str, device: torch.device, *, scores_on: torch.device | str, count: int = 500
) -> tuple[float, Tensor]:
    """Return an auditor's utility on made-up logits of a network on `device`, and its gradient by them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * count) % 10
    logits = 3 * torch.randn(2 * count, 10, generator=generator)
    logits[torch.arange(2 * count), labels] += torch.tensor([8.0, 4.0]).repeat_interleave(count)  # members fit better
    logits = logits.to(device).requires_grad_()
    scores = score_columns(logits.to(scores_on), labels.to(scores_on), features)
    members, others = scores.split(count)
    utility = auditor.utility(members, others, *labels.split(count), torch.Generator().manual_seed(1)).utility
    return utility.item(), torch.autograd.grad(utility, logits)[0].cpu()


def auditors_agree(bench: Bench) -> Found:
    """Compare each auditor's answer on the CPU with that on the device, where the game puts it and on the device."""
    count = 200 if bench.tiny else 500
    rows: list[Found] = []
    for name, auditor in AUDITORS.items():
        for features in ("margin",) if name == "likelihood_ratio" else ("loss_margin", "logits_loss"):
            row: Found = {"auditor": name, "features": features}
            utility, gradient = audit(auditor, features, torch.device("cpu"), scores_on="cpu", count=count)
            for where, scores_on in (("in the game", place_of(auditor, bench)), ("on the device", bench.device)):
                other, its = audit(auditor, features, bench.device, scores_on=scores_on, count=count)
                row[f"utility, {where}"] = abs(other - utility)
                row[f"gradient, {where}"] = float((its - gradient).norm() / gradient.norm())
            rows.append(row)
    # Scores are float64, so that this is far above rounding; a gradient of 0 would compare nothing, and gives NaN here.
    right = all(value < 1e-6 for row in rows for value in row.values() if isinstance(value, float))
    return {"ok": right, "rows": rows}


def place_of(auditor: Auditor, bench: Bench) -> torch.device | str:
    """Return where the game takes this auditor's scores."""
    return bench.device if auditor.on_device else "cpu"


def epochs_agree(bench: Bench) -> Found:
    """Train one epoch in float32 from the same streams on the CPU and on the device."""
    rows = []
    for model, optimizer in list(itertools.product(NETWORKS, ("sgd", "adamw")))[:: 3 if bench.tiny else 1]:
        words = [*bench.images(256, 16), f"model={model}", NETWORKS[model]]
        words += fitting(64, optimizer=optimizer, lr=0.01 if optimizer == "sgd" else 1e-4)
        networks = []
        for device in (torch.device("cpu"), bench.device):
            with setting(words, device) as on:
                networks.append(on.trainer.fitted(on.splits.train, "check")[0])
        rows.append({"network": model, "optimizer": optimizer, "difference": largest_difference(*networks)})
    return {"ok": all(row["difference"] < 2e-3 for row in rows), "rows": rows}


def stacks_agree(bench: Bench) -> Found:
    """Train two networks as a stack, and each by itself."""
    rows = []
    for model in ("mlp", "cnn"):
        words = [*bench.images(256, 16), f"model={model}", NETWORKS[model], *fitting(32)]
        with setting(words, bench.device) as on:
            parts = on.splits.train[:128], on.splits.train[128:]
            stack = [network for network, _ in on.trainer.fitted_stack(parts, "check", [0, 1])]
            alone = [on.trainer.fitted(part, "check", index)[0] for index, part in enumerate(parts)]
            rows.append({"network": model, "difference": max(map(largest_difference, stack, alone))})
    return {"ok": all(row["difference"] < 1e-3 for row in rows), "rows": rows}


class CutOff(Checkpoint):
    """A checkpoint of a process that is asked to end after five steps."""

    steps = 0

    def step(self, state: Callable[[], Any]) -> None:
        """Count a step; see `Checkpoint.step`."""
        self.steps += 1
        if self.steps == 5:
            ask(signal.SIGTERM)
        super().step(state)


def resumes(bench: Bench) -> Found:
    """Cut a training off, go on, and compare with one that was not; with `deterministic` they must be equal."""
    rows = []
    for deterministic in (False, True):
        words = [*bench.images(256, 16), "model=cnn", NETWORKS["cnn"], *fitting(32), "optimizer.epochs=2"]
        with setting([*words, f"deterministic={deterministic}"], bench.device) as on:

            def fitted(checkpoint: Checkpoint | None, on: Setting = on) -> nn.Module:
                return on.trainer.fitted(on.splits.train, "check", checkpoint=checkpoint)[0]

            whole, again = fitted(None), fitted(None)
            folder = bench.out / f"checkpoint-{time.time_ns()}"
            with heed_signals(), contextlib.suppress(Interrupted):
                fitted(CutOff(folder, 1e9))
                raise AssertionError("the training was not cut off")
            rows.append(
                {
                    "deterministic": deterministic,
                    "done twice": largest_difference(again, whole),
                    "cut off and resumed": largest_difference(fitted(Checkpoint(folder, 1e9)), whole),
                }
            )
    exact = max(rows[1]["done twice"], rows[1]["cut off and resumed"]) == 0
    return {"ok": exact and rows[0]["cut off and resumed"] < 1e-3, "rows": rows}


def waits_in(function: Callable[[], object]) -> int:
    """Return how often the CPU waits for the GPU in a call."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(each.message) for each in caught)


def waits(bench: Bench) -> Found:
    """Count the waits of a training step, and what an audit step adds."""
    if not bench.cuda:
        return NEEDS_CUDA
    rows: list[Found] = []
    with setting([*bench.images(1000, 16), "model=resnet18", NETWORKS["resnet18"], *fitting(50)], bench.device) as on:
        counts = [waits_in(partial(on.trainer.fitted, on.splits.train[: 50 * steps], "waits")) for steps in (5, 15)]
        rows.append({"step": "training", "waits": (counts[1] - counts[0]) / 10, "allowed": 0})
    for auditor, allowed in (("svm", 4), ("logistic", 4), ("likelihood_ratio", 4), ("neural", 40)):
        with game(bench, auditor, digits=True) as play:
            counts = [waits_in(partial(play, epochs)) for epochs in (1, 3)]
            base = [waits_in(partial(play, epochs, audits=False)) for epochs in (1, 3)]
            steps = play.steps(3) - play.steps(1)
        added = (counts[1] - counts[0] - base[1] + base[0]) / steps
        rows.append({"step": f"audit, {auditor}", "waits": added, "allowed": allowed})
    return {"ok": all(row["waits"] <= row["allowed"] for row in rows), "rows": rows}


# --- How fast is it? ---


def resnet_epoch(bench: Bench) -> Found:
    """Time `fit` by batch size, precision and memory format, on a part of an epoch."""
    variants = [(128, "bf16"), (512, "bf16"), (512, "tf32"), (128, "fp32"), (512, "fp32"), (256, "bf16")]
    rows: list[Found] = []
    for batch, precision in variants[: 1 if bench.tiny else None]:
        rows.append(epoch_row(bench, 64 if bench.tiny else batch, precision))
        bench.note({"rows": rows})
    rows.append(epoch_row(bench, 64 if bench.tiny else 512, "bf16", "channels_last=false"))
    return {"rows": rows}


def epoch_row(bench: Bench, batch: int, precision: str, *words: str) -> Found:
    """Return the time of an epoch of 50,000, from one of 40 steps, and what the first step costs besides."""
    steps, size, width = (3, 8, 2) if bench.tiny else (40, 32, 64)
    count = steps * batch
    data = bench.images(192 if bench.tiny else 20_480, size)
    network = ["model=resnet18", f"model.width={width}", *fitting(batch, precision=precision)]
    with setting([*data, *network, *words], bench.device) as on:
        start = time.perf_counter()
        assert on.trainer.warm
        bench.synchronize()
        warm = time.perf_counter() - start
        seconds = bench.seconds(lambda: on.trainer.fitted(on.splits.train[:count], "speed"), 2)
        return {
            "batch": batch,
            "precision": precision,
            "option": " ".join(words),
            "epoch (s)": seconds / count * CIFAR10,
            "step (ms)": 1e3 * seconds / steps,
            "start-up (s)": warm,
            "memory (GiB)": torch.cuda.max_memory_allocated() / 2**30 if bench.cuda else None,
        }


def default_run(bench: Bench) -> Found:
    """Run the default experiment on the CPU and on the device, with LiRA, and compare what it reports."""
    words = ["attack=[threshold,lira]", f"attack.shadows={4 if bench.tiny else 16}"]
    if bench.tiny:
        words += ["model.hidden=8", "optimizer.epochs=2", "unlearner.epochs=1"]
    rows = []
    for device in dict.fromkeys(["cpu", bench.device.type]):
        rows += [{"device": device, **row} for row in run_rows(run(bench, f"digits-{device}", words, device))]
        bench.note({"rows": rows})
    half = len(rows) // 2 if bench.cuda else 0
    differences = [
        abs(value - other[name])
        for one, other in zip(rows[:half], rows[half:], strict=False)
        for name, value in one.items()
        if name not in ("device", "model", "seconds")
    ]
    largest = max(differences, default=0.0)
    return {"ok": largest <= 0.02, "largest difference": largest, "rows": rows}


@dataclass(frozen=True)
class Play:
    """Play the game, or its base alone, on a copy of one network."""

    on: Setting
    game: SG
    network: nn.Module

    def __call__(self, epochs: int, *, audits: bool = True) -> None:
        """Unlearn for so many epochs."""
        player = dataclasses.replace(self.game, epochs=epochs)
        splits = self.on.splits
        references = reference_set(self.on.experiment, self.on.trainer, splits, splits.forget)
        task = make_task(self.on.trainer, splits, splits.retain, splits.forget, references)
        (player if audits else player.leader()).run(copy.deepcopy(self.network), task)

    def steps(self, epochs: int) -> int:
        """Return how many steps so many epochs have."""
        return epochs * -(-len(self.on.splits.retain) // self.game.batch_size)


@contextlib.contextmanager
def game(bench: Bench, auditor: str, *, digits: bool) -> Iterator[Play]:
    """Give the game with an audit at every step: an MLP on digits, or ResNet-18 in bf16 on images like CIFAR-10's."""
    words = ["unlearner=sg", "unlearner.audit_every=1", "unlearner.keep_epoch=last", "forget.fraction=0.2"]
    words += [] if auditor == "none" else [f"auditor={auditor}"]
    words += ["auditor.references=4"] if auditor == "likelihood_ratio" else []
    if digits:
        words += ["model=mlp", *fitting(50), "attack=threshold", "unlearner.batch_size=50"]
    else:
        words += [*bench.images(5000, 32), "model=resnet18", *fitting(500, precision="bf16")]
        words += ["unlearner.batch_size=500"]
    with setting(words, bench.device) as on:
        player = on.experiment.unlearner
        assert isinstance(player, SG)
        player = dataclasses.replace(player, auditor=Mean()) if auditor == "none" else player
        yield Play(on, player, on.trainer.fitted(on.splits.train, "game")[0])


def audit_steps(bench: Bench) -> Found:
    """Time what each auditor adds to a step of its base; `none` scores and differentiates without any auditor."""
    rows: list[Found] = []
    for digits in (True,) if bench.tiny else (True, False):
        for auditor in ("none", "svm", "logistic", "likelihood_ratio", "neural")[: 2 if bench.tiny else None]:
            with game(bench, auditor, digits=digits) as play:
                epochs = 1 if bench.tiny else 3
                base = bench.seconds(partial(play, epochs, audits=False), 2)
                played = bench.seconds(partial(play, epochs), 2)
                steps = play.steps(epochs)
            rows.append(
                {
                    "network": "mlp, digits" if digits else "resnet18, batch 500, bf16",
                    "auditor": auditor,
                    "step of the base (ms)": 1e3 * base / steps,
                    "audit step (ms)": 1e3 * (played - base) / steps,
                }
            )
            bench.note({"rows": rows})
    return {"rows": rows}


def auditor_speed(bench: Bench) -> Found:
    """Time an auditor's answer and gradient: on one CPU thread, on the device, and there by linear-algebra library."""
    rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, auditor in AUDITORS.items():

        def answer(scores_on: torch.device | str, auditor: Auditor = auditor) -> object:
            return audit(auditor, "loss_margin", bench.device, scores_on=scores_on)

        repeats = 1 if bench.tiny else 5
        row: Found = {"auditor": name, "CPU, one thread": 1e3 * bench.seconds(lambda: answer("cpu"), repeats)}
        if bench.cuda:
            for library in ("default", "cusolver", "magma"):
                with linear_algebra(library):
                    row[f"GPU, {library}"] = 1e3 * bench.seconds(lambda: answer(bench.device), repeats)
        rows.append(row)
    torch.set_num_threads(threads)
    return {"rows": rows}


@contextlib.contextmanager
def linear_algebra(library: str) -> Iterator[None]:
    """Prefer this library for linear algebra on the GPU, inside."""
    before = torch.backends.cuda.preferred_linalg_library()
    torch.backends.cuda.preferred_linalg_library(library)
    try:
        yield
    finally:
        torch.backends.cuda.preferred_linalg_library(before)


def stack_speed(bench: Bench) -> Found:
    """Time sixteen networks of a kind, fitted as a stack and one by one: which is faster decides `STACKED_STEP`."""
    models = [("mlp", 8, "model.hidden=256"), ("cnn", 8, "model.width=32"), ("cnn", 32, "model.width=16")]
    models += [("cnn", 32, "model.width=32"), ("cnn", 32, "model.width=64")]
    count, copies = (64, 2) if bench.tiny else (2000, 16)
    rows: list[Found] = []
    for model, size, width in models[:1] if bench.tiny else models:
        with setting([*bench.images(count, size), f"model={model}", width, *fitting(50)], bench.device) as on:
            parts = [on.splits.train] * copies
            stack = bench.seconds(partial(on.trainer.fitted_stack, parts, "speed", range(copies)), 2)
            alone = bench.seconds(partial(on.trainer.fitted, parts[0], "speed", 0), 2)
            rows.append(
                {
                    "network": f"{model}, {width.removeprefix('model.')}, {size} x {size}",
                    "GFLOP a step": on.trainer.step_size / 1e9,
                    "stack (s a network)": stack / copies,
                    "one by one (s)": alone,
                    "ratio": alone * copies / stack,
                    "chosen": "stack" if on.trainer.stacks else "one by one",
                }
            )
        bench.note({"rows": rows})
    return {"rows": rows}


def graph_step(bench: Bench) -> Found:
    """Time a bare training step in bf16, launched as usual and captured as one CUDA graph."""
    if not bench.cuda:
        return NEEDS_CUDA
    rows: list[Found] = []
    for batch in (128, 256, 512, 1024):
        words = [*bench.images(20_480, 32), "model=resnet18", *fitting(batch, precision="bf16")]
        with setting(words, bench.device) as on:
            step = bare_step(on, batch)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                repeat(step)  # before it is captured, so that all of its state exists
            torch.cuda.current_stream().wait_stream(side)
            eager = bench.seconds(partial(repeat, step)) / REPEATS
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            replayed = bench.seconds(partial(repeat, graph.replay)) / REPEATS
            rows.append(
                {
                    "batch": batch,
                    "as usual (ms)": 1e3 * eager,
                    "graph (ms)": 1e3 * replayed,
                    "ratio": eager / replayed,
                    "epoch as graphs (s)": replayed * CIFAR10 / batch,
                }
            )
            del graph
        bench.note({"rows": rows})
    return {"rows": rows}


REPEATS = 20


def repeat(function: Callable[[], object]) -> None:
    """Call a function `REPEATS` times."""
    for _ in range(REPEATS):
        function()


def bare_step(on: Setting, batch: int) -> Callable[[], None]:
    """Return a training step without the schedule and the draws of `fit`, that a CUDA graph can hold."""
    examples, network = on.trainer.examples, on.trainer.fresh("speed").train()
    rate = torch.tensor(0.01, device=examples.labels.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True, fused=True)
    rows = torch.arange(batch, device=examples.labels.device)

    def step() -> None:
        inputs = examples.prepare(examples.inputs[rows])
        with torch.autocast(rows.device.type, torch.bfloat16, cache_enabled=False):
            logits = network(inputs)
        loss = F.cross_entropy(logits.float(), examples.labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rows.add_(batch).remainder_(len(examples))

    return step


def compiled_epoch(bench: Bench) -> Found:
    """Time `fit` with `compile=true`, beside the same without."""
    if not bench.cuda:
        return NEEDS_CUDA
    rows: list[Found] = []
    for batch, words in itertools.product((128, 512), ((), ("compile=true",))):
        rows.append(epoch_row(bench, batch, "bf16", *words))
        bench.note({"rows": rows})
    return {"rows": rows}


def marked_tests(bench: Bench) -> Found:
    """Run the tests marked `gpu`."""
    if not bench.cuda:
        return NEEDS_CUDA
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "gpu", "-rs", "tests/gpu"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    return {"ok": done.returncode == 0, **counts, "output": done.stdout[-4000:] if done.returncode else ""}


# --- CIFAR-10 ---


def run(bench: Bench, name: str, words: Sequence[str], device: str) -> Result:
    """Run an experiment in a folder of its own; what other runs trained is taken from the store."""
    return advunlearn.run([*words, f"device={device}"], bench.out / "runs" / f"{name}-{time.time_ns()}")


def run_rows(result: Result) -> list[Found]:
    """Return a row for each of a run's models: seconds, accuracies, and each attack's AUC."""
    metrics = result.metrics
    stages = {"original": "pretrain", "retrained": "retrain", "unlearned": "unlearn"}
    return [
        {
            "model": name,
            "seconds": metrics["seconds"].get(stages[name]),
            **{f"accuracy {part}": value for part, value in model["accuracy"].items()},
            **{f"AUC {attack}": found["auc"] for attack, found in model["attacks"].items() if "/" not in attack},
        }
        for name, model in metrics["models"].items()
    ]


def unpack(bench: Bench) -> None:
    """Put CIFAR-10 into the cache, from the parts that `--data` names."""
    command = [sys.executable, "-m", "advunlearn", "data", "unpack", str(bench.data)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError((done.stderr or done.stdout).strip()[-500:])


def has_cifar10() -> bool:
    """Is CIFAR-10 in the cache?"""
    return "in the cache" in status("cifar10")


def cifar10(bench: Bench, name: str, *words: str) -> Found:
    """Run a variant of `experiment=cifar10_resnet18`; with `tiny`, one of them, with a small network on digits."""
    if bench.tiny:
        chosen = ["model.hidden=8", "optimizer.epochs=1", "attack.shadows=4"]
        if name != "likelihood-ratio":
            experiment_from([*chosen, *words])
            return {"skipped": "composed, but not run: --tiny runs one variant"}
    elif not (config_folder() / "experiment" / "cifar10_resnet18.yaml").is_file():
        return {"skipped": "there is no experiment=cifar10_resnet18"}
    else:
        if bench.data is not None and not has_cifar10():
            unpack(bench)
        if not has_cifar10():
            return {"skipped": "CIFAR-10 is not in the cache (try --data FOLDER)"}
        chosen = ["experiment=cifar10_resnet18", "attack.shadows=8"]
    result = run(bench, name, [*chosen, *words], bench.device.type)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    return {
        "run": " ".join(["advunlearn run", *chosen, *words]),
        "unlearning / retraining": result.metrics["unlearning_over_retraining"],
        "references / retraining": result.metrics["references_over_retraining"],
        "stages (s)": ", ".join(f"{stage['name']} {stage['seconds']:.1f}" for stage in manifest["stages"]),
        "seconds (s)": ", ".join(f"{stage} {spent:.1f}" for stage, spent in result.metrics["seconds"].items()),
        "memory (GiB)": max(stage["peak_memory"] for stage in manifest["stages"]) / 2**30,
        "rows": run_rows(result),
    }


def cifar10_base(bench: Bench) -> Found:
    """Train the original and the retrained model."""
    return cifar10(bench, "base", "unlearner=none", "attack=threshold")


def cifar10_svm(bench: Bench) -> Found:
    """Play the game against the paper's auditor."""
    return cifar10(bench, "svm", "attack=threshold")


def cifar10_twin(bench: Bench) -> Found:
    """Fine-tune as the game does, without it."""
    return cifar10(bench, "twin", "unlearner.alpha=0", "attack=threshold")


def cifar10_lira(bench: Bench) -> Found:
    """Attack the game's model by LiRA, which trains the shadow models."""
    return cifar10(bench, "svm-lira", "attack=[threshold,lira]")


def cifar10_twin_lira(bench: Bench) -> Found:
    """Attack the twin by LiRA."""
    return cifar10(bench, "twin-lira", "unlearner.alpha=0", "attack=[threshold,lira]")


def cifar10_likelihood_ratio(bench: Bench) -> Found:
    """Play the game against `likelihood_ratio` with 8 reference models, and attack its model by LiRA."""
    words = ["auditor=likelihood_ratio", "auditor.references=8", "attack=[threshold,lira]"]
    return cifar10(bench, "likelihood-ratio", *words)
