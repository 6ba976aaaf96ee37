"""Time the training of one model beside the usual PyTorch loop, in one run: images a second, and seconds to accuracy.

    python scripts/bench_training.py --epochs 6        # all that suit a CPU: 9 minutes on two busy cores
    python scripts/bench_training.py --recipes digits  # one recipe, at the epochs that it has: half a minute
    python scripts/bench_training.py --device cuda     # ResNet-18 and airbench as well

The loop is that of a tutorial: a Dataset over the uint8 images, transforms of torchvision, a shuffling DataLoader, and
the network, the optimizer and the schedule of the recipe. It runs without loader processes and with two of them, and
the faster one is compared. All sides take turns, each `--repeat` times, and the ratio is that of each turn: its median,
lowest and highest. `step alone` trains on one prepared batch again and again: no way to load data can be faster.

Seconds to accuracy are those of training, without evaluation, until the epoch that reaches the accuracy on up to 2,000
test images; empty if it is not reached in every turn. A CPU computes on `--threads` threads on all sides. The C library
manages memory as by default; a run keeps freed memory until its end, which is faster (see `kept_memory`).

On a GPU, `TFLOP/s` is what the convolutions and linear layers of our side achieve, beside what this card reaches in a
large matrix product, and the floor is the least time of an image: its operations at that rate, and after them 14 passes
over the outputs of its convolutions at the rate of a large copy.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms

from advunlearn.config.compose import experiment_from
from advunlearn.config.experiment import Experiment
from advunlearn.data.examples import Examples, FlipCrop, batch_sizes
from advunlearn.data.splits import make_splits
from advunlearn.options import UserError
from advunlearn.runtime.settings import Settings
from advunlearn.stages.data import trainer_of
from advunlearn.storage.store import Store
from advunlearn.training.fit import predict
from advunlearn.training.trainer import Trainer

RECIPES = {  # name: overrides, and an accuracy below that of the finished training
    "digits": (["dataset=digits"], 0.9),
    "cifar10_cpu": (["experiment=cifar10_cpu"], 0.5),
    "cifar10_cpu_flip_crop": (["experiment=cifar10_cpu", "dataset.augment=flip_crop"], 0.45),
    "resnet18": (["dataset=cifar10", "recipe=many_images"], 0.9),
    "airbench": (["dataset=cifar10", "recipe=airbench"], 0.9),
}
ON_CPU = ["digits", "cifar10_cpu", "cifar10_cpu_flip_crop"]
WORKERS = (0, 2)
TESTED = 2000  # images, at most, that an epoch's accuracy is measured on
ALONE = 100  # steps on one batch
PASSES = 14  # over the outputs of convolutions in a step, with BatchNorm and ReLU: 5 forward and 9 backward
OURS, STEP = "ours", "step alone"


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images in an array, as torchvision's own datasets have them."""

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Callable[[Any], Tensor]
    ) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Standardise:
    """What `transforms.Normalize` does, by pixel."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def __call__(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


def transform_of(examples: Examples) -> transforms.Compose:
    """Return how torchvision prepares an image as these examples are prepared."""
    steps: list[Any] = []
    if isinstance(examples.augment, FlipCrop):
        assert isinstance(examples.shape, tuple)
        steps += [transforms.RandomCrop(examples.shape[-1], examples.augment.crop), transforms.RandomHorizontalFlip()]
    steps.append(transforms.ToTensor())
    if examples.normalise is not None:
        mean, std = (each.cpu() / 255 for each in (examples.normalise.mean, examples.normalise.std))
        by_channel = mean.shape[1:] == (1, 1)
        normalise = transforms.Normalize(mean.flatten().tolist(), std.flatten().tolist())
        steps.append(normalise if by_channel else Standardise(mean, std))
    return transforms.Compose(steps)


@dataclass
class Clock:
    """The seconds of a training, and its accuracy after each epoch, without the time that this takes.

    Attributes:
        accuracy: measures it.
        steps: of an epoch.
        epochs: (seconds since the start, accuracy) after each.
    """

    accuracy: Callable[[], float]
    steps: int
    epochs: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._count, self._since = 0, now()

    def step(self) -> None:
        """Note that another step has been made."""
        self._count += 1
        if self._count % self.steps == 0:
            self.seconds += now() - self._since
            self.epochs.append((self.seconds, self.accuracy()))
            self._since = now()

    def state_dict(self) -> Any:
        return {"seconds": self.seconds, "epochs": self.epochs, "count": self._count}

    def load_state_dict(self, state: Any) -> None:
        self.seconds, self.epochs, self._count = state["seconds"], state["epochs"], state["count"]
        self._since = now()

    def until(self, accuracy: float) -> float:
        """Return the seconds to this accuracy; infinite if it is not reached."""
        return min((seconds for seconds, found in self.epochs if found >= accuracy), default=float("inf"))


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Bench:
    """A recipe on the images that it is timed on.

    Attributes:
        rows: to train on.
        test: examples that accuracy is measured on.
        channels_last: give the loop the memory format of our side, which is faster for convolutions.
    """

    trainer: Trainer
    rows: NDArray[np.int64]
    test: Examples
    channels_last: bool

    @property
    def steps(self) -> int:
        return len(batch_sizes(len(self.rows), self.trainer.optimizer.batch_size))

    def clock(self, network: nn.Module) -> Clock:
        return Clock(partial(self.accuracy, network), self.steps)

    def accuracy(self, network: nn.Module) -> float:
        return float((predict(network, self.test).argmax(1) == self.test.labels.cpu()).double().mean())

    def ours(self, turn: int) -> Clock:
        self.trainer.draws  # noqa: B018 - found out before the clock runs
        network = self.trainer.fresh("bench", turn)
        clock = self.clock(network)
        self.trainer.fit(network, self.rows, "bench", turn, watch=clock)
        return clock

    def loop(self, turn: int, *, workers: int, epochs: int | None = None) -> Clock:
        """Train as a tutorial does, with this many loader processes."""
        pool, options, settings = self.trainer.pool, self.trainer.optimizer, self.trainer.settings
        device = settings.torch_device()
        torch.manual_seed(turn)
        network = self.trainer.model.build(self.trainer.examples.shape, pool.classes).to(device)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        images = np.asarray(pool.inputs)[self.rows]
        images = images[..., 0] if images.shape[-1] == 1 else images
        data = Pictures(images, pool.labels[self.rows], transform_of(self.trainer.examples))
        loader = DataLoader(
            data,
            options.batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        epochs = epochs or options.epochs
        optimizer, schedule = options.create(network.parameters(), epochs * len(loader))
        clock = self.clock(network)
        for _ in range(epochs):
            network.train()
            for inputs, labels in loader:
                inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
                if self.channels_last:
                    inputs = inputs.contiguous(memory_format=torch.channels_last)
                optimizer.zero_grad()
                with settings.autocast():
                    loss = F.cross_entropy(network(inputs), labels)
                loss.backward()
                optimizer.step()
                schedule.step()
                clock.step()
        return clock

    def step_alone(self, turn: int) -> Clock:
        """Train on the first batch again and again."""
        options, examples = self.trainer.optimizer, self.trainer.examples.subset(self.rows)
        network = self.trainer.fresh("bench", turn).train()
        optimizer, schedule = options.create(network.parameters(), ALONE)
        inputs, labels = next(examples.batches(options.batch_size))
        clock = Clock(lambda: float("nan"), ALONE)
        for _ in range(ALONE):
            with self.trainer.settings.autocast():
                logits = network(inputs)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            schedule.step()
            clock.step()
        return clock

    def rate(self, side: str, clock: Clock) -> float:
        """Return the images a second of a side."""
        count = clock.steps * self.trainer.optimizer.batch_size if side == STEP else len(self.rows)
        return count * len(clock.epochs) / clock.seconds


def take_turns(bench: Bench, repeat: int) -> dict[str, list[Clock]]:
    """Return the clocks of each side: first a warm-up, then one side after another, in another order each turn."""
    sides: dict[str, Callable[[int], Clock]] = {
        OURS: bench.ours,
        **{f"{workers} workers": partial(bench.loop, workers=workers) for workers in WORKERS},
        STEP: bench.step_alone,
    }
    bench.trainer.policy.warm_up()
    short = dataclasses.replace(bench, rows=bench.rows[: 2 * bench.trainer.optimizer.batch_size])
    for workers in WORKERS:
        short.loop(0, workers=workers, epochs=1)
    found: dict[str, list[Clock]] = {side: [] for side in sides}
    names = list(sides)
    for turn in range(repeat):
        for side in names[turn % len(names) :] + names[: turn % len(names)]:
            found[side].append(sides[side](turn))
    return found


def row(name: str, bench: Bench, found: dict[str, list[Clock]], accuracy: float, card: Card | None) -> dict[str, str]:
    """Return the cells of a recipe."""
    rates = {side: [bench.rate(side, clock) for clock in clocks] for side, clocks in found.items()}
    loop = max((f"{workers} workers" for workers in WORKERS), key=lambda side: np.median(rates[side]))
    ratios = [ours / theirs for ours, theirs in zip(rates[OURS], rates[loop], strict=True)]
    until = {side: float(np.median([clock.until(accuracy) for clock in found[side]])) for side in (loop, OURS)}
    whole = {side: all(clock.until(accuracy) < float("inf") for clock in found[side]) for side in until}
    last = {side: float(np.median([clock.epochs[-1][1] for clock in found[side]])) for side in until}
    cells = {
        "recipe": name,
        "images x epochs": f"{len(bench.rows):,} x {bench.trainer.optimizer.epochs}",
        "DataLoader, images/s": f"{np.median(rates[loop]):,.0f} ({loop})",
        "ours, images/s": f"{np.median(rates[OURS]):,.0f}",
        "ratio": f"{np.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]",
        "step alone, images/s": f"{np.median(rates[STEP]):,.0f}",
        "final accuracy, both": f"{last[loop]:.3f}, {last[OURS]:.3f}",
        "to accuracy": f"{accuracy:.2f}",
        "DataLoader, s to it": f"{until[loop]:.2f}" if whole[loop] else "",
        "ours, s to it": f"{until[OURS]:.2f}" if whole[OURS] else "",
    }
    return cells | (card.cells(bench, float(np.median(rates[OURS]))) if card is not None else {})


@dataclass(frozen=True)
class Card:
    """What a GPU reaches, measured.

    Attributes:
        copies: bytes a second that are read or written in a large copy.
    """

    device: torch.device
    copies: float

    @classmethod
    def measured(cls, device: torch.device) -> Card:
        source = torch.randn(2**28, device=device)
        target = torch.empty_like(source)
        return cls(device, 2 * source.nbytes / shortest(lambda: target.copy_(source)))

    def multiplies(self, precision: str) -> float:
        """Return the floating-point operations a second of a large matrix product; torch's switches decide on TF32."""
        dtype, size = torch.bfloat16 if precision == "bf16" else torch.float32, 8192
        matrix = torch.randn(size, size, device=self.device, dtype=dtype)
        return 2 * size**3 / shortest(lambda: matrix @ matrix)

    def cells(self, bench: Bench, images: float) -> dict[str, str]:
        """Return the cells of a recipe that trains so many images a second."""
        trainer = bench.trainer
        precision = trainer.settings.resolved_precision()
        rate = self.multiplies(precision)
        operations = trainer.policy.step_size / trainer.optimizer.batch_size
        moved = PASSES * convolved(trainer) * (2 if precision == "bf16" else 4)
        floor = operations / rate + moved / self.copies
        return {
            "TFLOP/s": f"{operations * images / 1e12:.1f}",
            f"of a matrix product ({precision})": f"{operations * images / rate:.1%} of {rate / 1e12:.0f}",
            "floor, images/s": f"{1 / floor:,.0f}",
            "of the floor": f"{images * floor:.1%}",
        }


def shortest(function: Callable[[], object], repeats: int = 10) -> float:
    """Return the seconds of the fastest call, the device's work included."""
    taken = []
    for _ in range(repeats + 2):
        start = now()
        function()
        taken.append(now() - start)
    return min(taken[2:])


def convolved(trainer: Trainer) -> int:
    """Return how many numbers the convolutions of a network put out for one image."""
    total, network = 0, trainer.fresh("warm").eval()

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(trainer.examples.prepared(1))
    return total


def bench_of(experiment: Experiment, images: int | None, folder: Path, *, channels_last: bool) -> Bench:
    """Return the bench of an experiment; it trains on the original's rows, or on the first so many of them."""
    pool = experiment.dataset.load()
    splits = make_splits(pool, experiment.dataset, experiment.forget, experiment.settings.seed)
    trainer = trainer_of(experiment, pool, splits.train, Store(folder))
    rows = np.random.default_rng(0).permutation(splits.train)[:images]
    if len(rows) % experiment.optimizer.batch_size == 1:
        rows = rows[:-1]  # BatchNorm cannot train on the last batch that the loop would have
    return Bench(trainer, rows, trainer.examples.subset(splits.test[:TESTED]), channels_last)


def read_arguments() -> tuple[argparse.Namespace, dict[str, Experiment]]:
    """Return the options, and the experiment of each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), help="by default those for this device")
    parser.add_argument("--epochs", type=count, help="of each training; by default those of the recipe")
    parser.add_argument("--images", type=count, help="to train on; by default those of the recipe")
    parser.add_argument("--repeat", type=count, default=3, help="turns of each side")
    parser.add_argument("--threads", type=count, default=1, help="of a CPU, on all sides")
    parser.add_argument("--device", default="auto", help="as in a run: auto, cpu, cuda or cuda:N")
    parser.add_argument("--channels-last", action="store_true", help="the loop has our memory format as well")
    arguments = parser.parse_args()
    try:
        device = Settings(device=arguments.device).torch_device()
    except UserError as error:
        parser.error(str(error))
    words = [f"device={device}", f"threads={arguments.threads}"]
    words += [f"optimizer.epochs={arguments.epochs}"] if arguments.epochs else []
    names = arguments.recipes or (list(RECIPES) if device.type == "cuda" else ON_CPU)
    experiments = {name: experiment_from([*RECIPES[name][0], *words]) for name in names}
    if missing := [name for name, experiment in experiments.items() if not experiment.dataset.is_here()]:
        parser.error(f"{', '.join(missing)}: the images are not in the cache (try advunlearn data fetch cifar10)")
    return arguments, experiments


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text}")
    return int(text)


def main() -> None:
    arguments, experiments = read_arguments()
    device = next(iter(experiments.values())).settings.torch_device()
    torch.set_num_threads(arguments.threads)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, threads: {arguments.threads}"
    also = ", the loop channels-last as well" * arguments.channels_last
    print(f"torch {torch.__version__}, {where}, turns: {arguments.repeat}{also}, load {os.getloadavg()[0]:.1f}\n")
    card = Card.measured(device) if device.type == "cuda" else None
    for number, (name, experiment) in enumerate(experiments.items()):
        with tempfile.TemporaryDirectory() as folder, experiment.settings.switches():
            bench = bench_of(experiment, arguments.images, Path(folder), channels_last=arguments.channels_last)
            cells = row(name, bench, take_turns(bench, arguments.repeat), RECIPES[name][1], card)
        if number == 0:
            print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}")
        print(f"| {' | '.join(cells.values())} |", flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
