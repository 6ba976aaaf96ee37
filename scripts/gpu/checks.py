"""Steps: does the GPU compute what the CPU computes?"""

from __future__ import annotations

import contextlib
import itertools
import platform
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import advunlearn
from advunlearn.auditors.auditor import Auditor
from advunlearn.auditors.likelihood_ratio import LikelihoodRatio
from advunlearn.auditors.logistic import Logistic
from advunlearn.auditors.neural import Neural
from advunlearn.auditors.scores import score_columns
from advunlearn.auditors.svm import SVM
from advunlearn.runtime.signals import Interrupted, ask, heed_signals
from advunlearn.training.checkpoint import Checkpoint
from gpu.bench import NEEDS_CUDA, Bench, Found, Setting, fitting, game, setting

NETWORKS = {"mlp": "model.hidden=64", "cnn": "model.width=8", "resnet18": "model.width=8"}
AUDITORS: dict[str, Auditor] = {
    "svm": SVM(),
    "svm, squared_hinge": SVM(loss="squared_hinge"),
    "svm, hinge": SVM(loss="hinge"),
    "logistic": Logistic(),
    "neural": Neural(),
    "likelihood_ratio": LikelihoodRatio(),
}


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
    rows: list[Found] = []
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
    rows: list[Found] = []
    for model in ("mlp", "cnn"):
        words = [*bench.images(256, 16), f"model={model}", NETWORKS[model], *fitting(32)]
        with setting(words, bench.device) as on:
            parts = on.splits.train[:128], on.splits.train[128:]
            stack = [network for network, _ in on.trainer.fitted_stack(parts, "check", [0, 1])]
            alone = [on.trainer.fitted(part, "check", index)[0] for index, part in enumerate(parts)]
            rows.append({"network": model, "difference": max(map(largest_difference, stack, alone))})
    return {"ok": all(row["difference"] < 1e-3 for row in rows), "rows": rows}


class InterruptAfterFive(Checkpoint):
    """A checkpoint of a process that is asked to end after five steps."""

    steps = 0

    def step(self, state: Callable[[], Any]) -> None:
        """Count a step; see `Checkpoint.step`."""
        self.steps += 1
        if self.steps == 5:
            ask(signal.SIGTERM)
        super().step(state)


def resumes(bench: Bench) -> Found:
    """Compare a training that is interrupted and resumed with an uninterrupted one; equal with `deterministic`."""
    rows = []
    for deterministic in (False, True):
        words = [*bench.images(256, 16), "model=cnn", NETWORKS["cnn"], *fitting(32), "optimizer.epochs=2"]
        with setting([*words, f"deterministic={deterministic}"], bench.device) as on:

            def fitted(checkpoint: Checkpoint | None, on: Setting = on) -> nn.Module:
                return on.trainer.fitted(on.splits.train, "check", checkpoint=checkpoint)[0]

            whole, again = fitted(None), fitted(None)
            folder = bench.out / f"checkpoint-{time.time_ns()}"
            with heed_signals(), contextlib.suppress(Interrupted):
                fitted(InterruptAfterFive(folder, 1e9))
                raise AssertionError("the training was not interrupted")
            rows.append(
                {
                    "deterministic": deterministic,
                    "done twice": largest_difference(again, whole),
                    "interrupted and resumed": largest_difference(fitted(Checkpoint(folder, 1e9)), whole),
                }
            )
    exact = max(rows[1]["done twice"], rows[1]["interrupted and resumed"]) == 0
    return {"ok": exact and rows[0]["interrupted and resumed"] < 1e-3, "rows": rows}


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
        on.trainer.fitted(on.splits.train[:100], "waits")  # cuDNN has then chosen its algorithms
        counts = [waits_in(partial(on.trainer.fitted, on.splits.train[: 50 * steps], "waits")) for steps in (5, 15)]
        rows.append({"step": "training", "waits": (counts[1] - counts[0]) / 10, "allowed": 0})
    for auditor, allowed in (("svm", 4), ("logistic", 4), ("likelihood_ratio", 4), ("neural", 40)):
        with game(bench, auditor, digits=True) as play:
            play(1)
            counts = [waits_in(partial(play, epochs)) for epochs in (1, 3)]
            base = [waits_in(partial(play, epochs, audits=False)) for epochs in (1, 3)]
            steps = play.steps(3) - play.steps(1)
        added = (counts[1] - counts[0] - base[1] + base[0]) / steps
        rows.append({"step": f"audit, {auditor}", "waits": added, "allowed": allowed})
    return {"ok": all(row["waits"] <= row["allowed"] for row in rows), "rows": rows}


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
    member_labels, other_labels = labels.split(count)
    utility = auditor.utility(members, others, member_labels, other_labels, torch.Generator().manual_seed(1)).utility
    return utility.item(), torch.autograd.grad(utility, logits)[0].cpu()


def weights(network: nn.Module) -> Tensor:
    """Return all weights as one vector on the CPU."""
    return torch.cat([parameter.detach().cpu().flatten() for parameter in network.parameters()])


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    """Return the largest absolute difference of two networks' weights."""
    return float((weights(one) - weights(other)).abs().max())
