"""Time an epoch on a folder of image files, and the same with torchvision's ImageFolder and a DataLoader.

`python scripts/bench_folder.py` makes 20,000 JPEG files of 224x224 pixels and prints a Markdown table: for
`dataset=folder` the time to decode all files once and write them to the cache, the time of an epoch of a small network,
and the peak of resident memory; for ImageFolder the same epoch with two worker processes. Each is measured in a process
of its own. On a machine that has other work, compare the CPU times, which count all threads and processes. The files
are removed at the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, BATCH, WORKERS, CLASSES = 224, 64, 2, 10
MEAN, STD = [0.5] * 3, [0.25] * 3


def make(root: Path, count: int) -> None:
    """Write different JPEG files of noise over blurred pictures, of about the file size of photos."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (50, 14, 14, 3), dtype=np.uint8)
    pictures = [np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for each in coarse]
    for number in range(count):
        path = root / str(number % CLASSES) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture = np.roll(pictures[number % len(pictures)], number, axis=1).copy()
        picture[:: 2 + number % 5] ^= number % 64
        Image.fromarray(picture).save(path, quality=85)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, CLASSES)
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Any, labels: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), labels).backward()
    optimizer.step()


def cpu() -> float:
    """Return the CPU seconds of this process and of those of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Clock:
    """Seconds, and CPU seconds, since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), cpu()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.start[0], cpu() - self.start[1]


def ours(root: str, cache: str) -> dict[str, Any]:
    """Return seconds of decoding and of an epoch, and the peak of resident memory in bytes."""
    os.environ["ADVUNLEARN_CACHE"] = cache
    from advunlearn.data.examples import examples_of
    from advunlearn.data.folder import Folder

    dataset = Folder(root=root)
    clock = Clock()
    pool = dataset.load()
    decoded = clock.read()
    clock = Clock()
    dataset.load()
    again = clock.read()
    examples = examples_of(pool, dataset, np.arange(pool.train_rows), torch.device("cpu"), channels_last=False)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    clock = Clock()
    for draws in examples.shuffled(BATCH, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)):
        step(model, optimizer, *examples.training_batch(draws))
    epoch = clock.read()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"decode": decoded, "again": again, "epoch": epoch, "memory": peak}


def theirs(root: str) -> dict[str, Any]:
    """Return seconds of an epoch of ImageFolder, and the peak of resident memory of the process and of one worker."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    prepared = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    data: Any = ImageFolder(root, prepared)
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=WORKERS)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    clock = Clock()
    for inputs, labels in loader:
        step(model, optimizer, inputs, labels)
    epoch = clock.read()
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
    return {"epoch": epoch, "memory": peak}


def apart(function: Any, *arguments: str) -> dict[str, Any]:
    """Return what a function returns in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # which may have workers of its own
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--folder", default=None, help="where the files are made, by default a temporary folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        root = Path(scratch) / "images"
        root.mkdir()
        make(root, options.count)
        other = apart(theirs, str(root))
        own = apart(ours, str(root), f"{scratch}/cache")
    print("| | ms per image | CPU ms per image | peak memory, GB |\n|---|---|---|---|")
    rows = [
        (f"ImageFolder, {WORKERS} workers: an epoch", other["epoch"], other["memory"]),
        ("`dataset=folder`: decode, once", own["decode"], own["memory"]),
        ("`dataset=folder`: an epoch", own["epoch"], own["memory"]),
    ]
    for name, seconds, memory in rows:
        print(
            f"| {name} | {' | '.join(f'{1e3 * each / options.count:.2f}' for each in seconds)} | {memory / 1e9:.2f} |"
        )
    ratios = [own["epoch"][0] / other["epoch"][0], (own["decode"][0] + own["epoch"][0]) / other["epoch"][0]]
    print(
        f"\n{options.count:,} images; an epoch takes {ratios[0]:.2f} of the time of ImageFolder's, the first one with "
        f"decoding {ratios[1]:.2f}; loading again takes {own['again'][0]:.1f} s."
    )


if __name__ == "__main__":
    main()
