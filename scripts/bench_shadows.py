"""Time shadow models: one by one through a torch DataLoader, as the usual LiRA code does, beside ours, in one run.

    python scripts/bench_shadows.py     # digits: a narrow and the default MLP, the small CNN
    python scripts/bench_shadows.py --shadows 8 dataset=cifar10 model=resnet18 optimizer=sgd optimizer.epochs=2

Both train the same models on the same halves, and the times are seconds per model. The DataLoader way is timed on a few
models, in another process: a run keeps freed memory (`kept_memory`), and a usual loop does not. The difference is the
largest between the parameters of models trained two epochs in a stack and one by one from the same streams: after more
epochs, training itself amplifies the rounding of sums.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from advunlearn.config.compose import experiment_from
from advunlearn.data.splits import make_splits
from advunlearn.runtime.seeding import clean_state
from advunlearn.runtime.settings import Settings
from advunlearn.shadows.shadow_set import ShadowSet
from advunlearn.stages.data import trainer_of
from advunlearn.stages.shadows import shadow_set
from advunlearn.storage.store import Store

DEFAULT = (
    ["model=mlp", "model.hidden=32"],
    ["model=mlp"],
    ["model=cnn"],
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as behind `advunlearn run`; three networks on digits without")
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--peers", type=int, default=6, help="models to time the DataLoader way on")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts, on both sides")
    parser.add_argument("--device", default="auto", help="as in a run: auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args()
    device = Settings(device=arguments.device).torch_device()
    print(f"torch {torch.__version__}, {_name(device)}, {arguments.shadows} shadow models, seconds a model")
    print(f"{'':34} {'DataLoader':>10} {'ours':>8} {'ratio':>7}  {'how':26} {'difference':>10}")
    for overrides in [arguments.overrides] if arguments.overrides else DEFAULT:
        with tempfile.TemporaryDirectory() as folder:
            words = [*overrides, f"attack.shadows={arguments.shadows}", "attack=lira", f"device={device}"]
            shadows = set_of(words, Path(folder))
            theirs, ours = [], []
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as peer:
                for repeat in range(arguments.repeats):
                    theirs.append(peer.submit(time_peer, shadows, arguments.peers).result())
                    ours.append(time_ours(shadows, Path(folder) / str(repeat)))
            trainer = shadows.trainer
            how = "in stacks" if shadows.stacked else "one by one"
            how = f"{how}, {trainer.policy.workers} at a time" if trainer.policy.workers > 1 else how
            name, ratio = " ".join(overrides), min(theirs) / min(ours)
            difference = largest_difference(shadows)
            print(
                f"{name:34} {min(theirs):10.4f} {min(ours):8.4f} {ratio:6.1f}x  {how:26} {difference:10.1e}", flush=True
            )


def set_of(overrides: list[str], folder: Path) -> ShadowSet:
    """Return the shadow models of the experiment that these overrides compose."""
    experiment = experiment_from(overrides)
    pool = experiment.dataset.load()
    splits = make_splits(pool, experiment.dataset, experiment.forget, experiment.settings.seed)
    return shadow_set(experiment, trainer_of(experiment, pool, splits.train, Store(folder)), splits)


def time_ours(shadows: ShadowSet, folder: Path) -> float:
    """Train the whole set into an empty store and return the seconds a model, with what it says of every example."""
    fresh = dataclasses.replace(shadows, trainer=dataclasses.replace(shadows.trainer, store=Store(folder)))
    fresh.trainer.policy.warm_up()
    fresh.stacked  # noqa: B018 - chosen before the clock runs
    with clean_state(0):
        start = time.perf_counter()
        fresh.train()
        return _seconds_since(start) / fresh.options.shadows


def time_peer(shadows: ShadowSet, models: int) -> float:
    """Train some models one by one through a DataLoader and return the seconds a model, with the same questions."""
    trainer, device = shadows.trainer, shadows.trainer.settings.torch_device()
    shape = trainer.examples.shape
    prepared = trainer.examples.prepared()
    assert isinstance(prepared, torch.Tensor)
    inputs = prepared.cpu().contiguous()
    labels = trainer.examples.labels.cpu()
    trainer.policy.choose_threads()
    start = time.perf_counter()
    for index in range(models):
        torch.manual_seed(index)
        network = trainer.model.build(shape, trainer.pool.classes).to(device)
        rows = torch.as_tensor(np.sort(shadows.rows(index)))
        options = trainer.optimizer
        loader = DataLoader(TensorDataset(inputs[rows], labels[rows]), batch_size=options.batch_size, shuffle=True)
        optimizer, schedule = options.create(network.parameters(), options.epochs * len(loader))
        for _ in range(options.epochs):
            for images, targets in loader:
                optimizer.zero_grad()
                F.cross_entropy(network(images.to(device)), targets.to(device)).backward()
                optimizer.step()
                schedule.step()
        network.eval()
        with torch.no_grad():
            observed = torch.as_tensor(shadows.observed)
            for images in inputs[observed].split(options.batch_size):
                network(images.to(device)).cpu()
    return _seconds_since(start) / models


def largest_difference(shadows: ShadowSet) -> float:
    """Return the largest difference between parameters of stacked and of single models, each trained two epochs."""
    trainer = dataclasses.replace(shadows.trainer, optimizer=dataclasses.replace(shadows.trainer.optimizer, epochs=2))
    if not trainer.policy.try_stack():
        return float("nan")
    indices = range(4)
    stacked = trainer.fitted_stack([shadows.rows(index) for index in indices], "shadow", indices)
    single = [trainer.fitted(shadows.rows(index), "shadow", index) for index in indices]
    return max(
        (a - b).abs().max().item()
        for (one, _), (other, _) in zip(stacked, single, strict=True)
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def _seconds_since(start: float) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} cores"


if __name__ == "__main__":
    main()
