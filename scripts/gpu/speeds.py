"""Steps: how fast is it?"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional as F

from advunlearn.auditors.auditor import Auditor
from advunlearn.runtime.threads import one_thread
from gpu.bench import NEEDS_CUDA, Bench, Found, Setting, fitting, game, setting
from gpu.checks import AUDITORS, audit

CIFAR10 = 50_000  # training images


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
        on.trainer.policy.warm_up()
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


@one_thread()
def auditor_speed(bench: Bench) -> Found:
    """Time an auditor's answer and gradient: on one CPU thread, on the device, and there by linear-algebra library."""
    rows = []
    for name, auditor in AUDITORS.items():

        def answer(scores_on: torch.device | str, auditor: Auditor = auditor) -> object:
            return audit(auditor, "loss_margin", bench.device, scores_on=scores_on)

        repeats = 1 if bench.tiny else 5
        row: Found = {"auditor": name, "CPU, one thread": 1e3 * bench.seconds(lambda: answer("cpu"), repeats)}
        if bench.cuda:
            for library in ("default", "cusolver", *(["magma"] if torch.cuda.has_magma else [])):
                with linear_algebra(library):
                    row[f"GPU, {library}"] = 1e3 * bench.seconds(lambda: answer(bench.device), repeats)
        rows.append(row)
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
                    "GFLOP a step": on.trainer.policy.step_size / 1e9,
                    "stack (s a network)": stack / copies,
                    "one by one (s)": alone,
                    "ratio": alone * copies / stack,
                    "chosen": "stack" if on.trainer.policy.stacks else "one by one",
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

    images = examples.inputs
    assert isinstance(images, torch.Tensor)

    def step() -> None:
        inputs = examples.prepare(images[rows])
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
